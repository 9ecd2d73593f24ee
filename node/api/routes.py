"""The table of routes: every path and method, with what it demands.

A new path is a line here and a handler in the module of its theme. The rights are those of the
page of each path in Consul's manual, where it has one.
"""

from __future__ import annotations

from typing import Any

from . import admin, cluster, config, kv, simple, watch
from .gate import Browser, Caller, Handler, Repeat, Right, Route, Routes

BLOCKING = "cached consistent index max_stale stale timeout wait"
"""The query parameters of a read of the dialect that may wait for a change."""

_GET, _PUT, _POST, _DELETE = b"GET", b"PUT", b"POST", b"DELETE"


def _read(path: bytes, handler: Handler, right: Right, params: str = "") -> Route:
    """A route that changes nothing."""
    return Route(_GET, path, handler, right, params)


def _write(
    method: bytes, path: bytes, handler: Handler, params: str = "timeout", **demands: Any
) -> Route:
    """A route that writes keys."""
    return Route(method, path, handler, Right.KEY_WRITE, params, Repeat.KEYED, **demands)


def _operate(method: bytes, path: bytes, handler: Handler, *, needs_length: bool = False) -> Route:
    """A route that changes the node or the cluster."""
    return Route(
        method,
        path,
        handler,
        Right.OPERATOR_WRITE,
        "timeout",
        Repeat.NEVER,
        Caller.THIS_MACHINE,
        needs_length=needs_length,
        is_vital=True,
    )


# Those whose path goes on with a key are looked for in this order: the most used ones come first.
RECORDS = (
    _read(
        b"/v1/kv/",
        kv.get,
        Right.KEY_READ,
        f"raw recurse keys separator seperator {BLOCKING}",
    ),
    _write(_PUT, b"/v1/kv/", kv.put, "acquire cas flags release timeout", needs_length=True),
    _write(_DELETE, b"/v1/kv/", kv.delete, "recurse cas timeout"),
    _read(b"/v1/config/", config.show_one, Right.OPERATOR_READ, "stale timeout"),
    _operate(_PUT, b"/v1/config/", config.change, needs_length=True),
    _read(b"/read/", simple.read_one, Right.KEY_READ, "stale timeout"),
    _write(_GET, b"/delete/", simple.delete, browser=Browser.PROVEN),
    _write(_DELETE, b"/delete/", simple.delete),
    _read(b"/read", simple.read_all, Right.KEY_READ, "prefix after limit stale timeout"),
    _write(_POST, b"/write", simple.write, needs_length=True),
    _write(_POST, b"/update", simple.update, needs_length=True),
    _read(b"/v1/watch", watch.watch, Right.KEY_READ, "prefix after"),
    Route(_GET, b"/v1/health", cluster.health, Right.NONE, is_vital=True),
    _read(b"/", cluster.root, Right.NONE),
    _read(b"/v1/status/leader", cluster.leader, Right.NONE),
    _read(b"/v1/status/peers", cluster.peers, Right.NONE),
    _read(b"/v1/cluster", cluster.show, Right.NODE_READ),
    _read(b"/v1/events", cluster.events, Right.NODE_READ),
    _read(b"/v1/node/load", cluster.load, Right.AGENT_READ, "seconds"),
    # Newcomers come from any host; the door is for `hstore join`, never for a page.
    Route(
        _POST,
        b"/v1/cluster/join",
        cluster.join,
        Right.JOIN,
        "timeout",
        Repeat.NEVER,
        browser=Browser.REFUSED,
        needs_length=True,
    ),
    _read(b"/v1/config", config.show, Right.OPERATOR_READ, "stale timeout"),
    _operate(_POST, b"/v1/node/rename", config.rename, needs_length=True),
    _operate(_POST, b"/v1/node/stop", admin.stop),
    _operate(_POST, b"/v1/node/restart", admin.restart),
    _operate(_POST, b"/v1/node/kill", admin.kill),
    _operate(_POST, b"/v1/node/leave", admin.leave),
    _operate(_POST, b"/v1/cluster/stop", admin.stop_all),
    _operate(_POST, b"/v1/leader/remove", admin.remove, needs_length=True),
    _operate(_POST, b"/v1/leader/transfer", admin.transfer, needs_length=True),
)
ROUTES = Routes(RECORDS)
