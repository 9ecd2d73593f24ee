"""The table of routes: every path and method, with what it demands.

A new path is a line here and a handler in the module of its theme: in `consul/` where it is one of
Consul's clients. The rights are those of the
page of each path in Consul's manual, where it has one.
"""

from __future__ import annotations

from typing import Any

from ..model.commands import VALUE_BYTES_MAX
from ..model.user_events import PAYLOAD_BYTES_MAX
from . import (
    admin,
    ask_dns,
    browse,
    cluster,
    config,
    metrics,
    monitor,
    sessions,
    simple,
    statistics,
    ui,
    watch,
)
from .consul import (
    acl,
    agent,
    agent_checks,
    agent_health,
    catalog,
    catalog_writes,
    coordinate,
    event,
    health,
    kv,
    maintenance,
    place,
    quorum,
    services,
    session,
    status,
    txn,
)
from .consul.bodies.parts import BODY_BYTES_MAX
from .gate import Browser, Caller, Handler, Repeat, Right, Route, Routes

BLOCKING = "cached consistent index max_stale stale timeout wait"
"""The query parameters of a read of the dialect that may wait for a change."""

_NARROWS = "filter node-meta passing tag"

_GET, _PUT, _POST, _DELETE = b"GET", b"PUT", b"POST", b"DELETE"


def _read(path: bytes, handler: Handler, right: Right, params: str = "") -> Route:
    """A route that changes nothing."""
    return Route(_GET, path, handler, right, params)


def _write(
    method: bytes,
    path: bytes,
    handler: Handler,
    params: str = "timeout",
    right: Right = Right.KEY_WRITE,
    **demands: Any,
) -> Route:
    """A route that writes what the log has: keys, sessions, events."""
    return Route(method, path, handler, right, params, Repeat.KEYED, **demands)


def _operate(
    method: bytes,
    path: bytes,
    handler: Handler,
    params: str = "timeout",
    right: Right = Right.OPERATOR_WRITE,
    *,
    needs_length: bool = False,
) -> Route:
    """A route that changes the node or the cluster."""
    return Route(
        method,
        path,
        handler,
        right,
        params,
        Repeat.NEVER,
        Caller.THIS_MACHINE,
        needs_length=needs_length,
        is_vital=True,
    )


def _register(
    path: bytes, handler: Handler, params: str = "timeout", right: Right = Right.SERVICE_WRITE
) -> Route:
    """A route that registers services and checks, or removes them."""
    return _write(_PUT, path, handler, params, right, body_bytes_max=BODY_BYTES_MAX)


_PLACE = f"{place.PARAMS} timeout"
_REGISTRATIONS = (
    _register(b"/v1/agent/check/pass/", agent_checks.word_of("passing"), f"note {_PLACE}"),
    _register(b"/v1/agent/check/warn/", agent_checks.word_of("warning"), f"note {_PLACE}"),
    _register(b"/v1/agent/check/fail/", agent_checks.word_of("critical"), f"note {_PLACE}"),
    _register(b"/v1/agent/check/update/", agent_checks.update, _PLACE),
    _register(b"/v1/agent/check/deregister/", agent_checks.deregister, _PLACE),
    _register(b"/v1/agent/check/register", agent_checks.register, _PLACE),
    _register(b"/v1/agent/service/deregister/", services.deregister, _PLACE),
    _register(b"/v1/agent/service/maintenance/", maintenance.service, f"enable reason {_PLACE}"),
    _register(
        b"/v1/agent/service/register", services.register, f"replace-existing-checks {_PLACE}"
    ),
    _register(
        b"/v1/agent/maintenance", maintenance.node, f"enable reason {_PLACE}", Right.NODE_WRITE
    ),
    # py-consul puts the meta of a node into the query, where Consul does not look for it either
    # (findings/py-consul-meta-of-a-node-is-lost.sh).
    _register(
        b"/v1/catalog/register", catalog_writes.register, "node-meta timeout", Right.NODE_WRITE
    ),
    _register(b"/v1/catalog/deregister", catalog_writes.deregister, right=Right.NODE_WRITE),
    _read(
        b"/v1/agent/health/service/id/",
        agent_health.by_id,
        Right.SERVICE_READ,
        f"format stale {_PLACE}",
    ),
    _read(
        b"/v1/agent/health/service/name/",
        agent_health.by_name,
        Right.SERVICE_READ,
        f"format stale {_PLACE}",
    ),
    _read(b"/v1/agent/services", services.every, Right.SERVICE_READ, f"filter stale {_PLACE}"),
    _read(b"/v1/agent/checks", agent_checks.every, Right.NODE_READ, f"filter stale {_PLACE}"),
)

RECORDS = (
    _read(
        b"/v1/kv/",
        kv.get,
        Right.KEY_READ,
        f"raw recurse keys separator seperator {BLOCKING}",
    ),
    _write(
        _PUT,
        b"/v1/kv/",
        kv.put,
        "acquire cas flags release timeout",
        needs_length=True,
        body_bytes_max=VALUE_BYTES_MAX,
    ),
    _write(_DELETE, b"/v1/kv/", kv.delete, "recurse cas timeout"),
    # Not in the log. The contract of services has keys on every write, and a client may set one on all.
    Route(
        _PUT, b"/v1/session/renew/", session.renew, Right.SESSION_WRITE, "timeout", Repeat.HARMLESS
    ),
    _write(_PUT, b"/v1/session/destroy/", session.destroy, right=Right.SESSION_WRITE),
    _read(b"/v1/session/info/", session.info, Right.SESSION_READ, BLOCKING),
    _read(b"/v1/session/node/", session.of_node, Right.SESSION_READ, BLOCKING),
    _write(
        _PUT,
        b"/v1/event/fire/",
        event.fire,
        "node service tag timeout",
        Right.EVENT_WRITE,
        body_bytes_max=PAYLOAD_BYTES_MAX,
    ),
    *(
        _read(path, handler, right, f"{narrows} {BLOCKING}")
        for path, handler, right, narrows in (
            # Consul ignores `passing` here (its issue 2065), and there are clients that send it.
            (b"/v1/catalog/service/", catalog.service, Right.SERVICE_READ, _NARROWS),
            (b"/v1/catalog/connect/", catalog.nothing, Right.SERVICE_READ, _NARROWS),
            (b"/v1/catalog/node/", catalog.node, Right.NODE_READ, "filter"),
            (b"/v1/catalog/services", catalog.services, Right.SERVICE_READ, "filter node-meta"),
            (b"/v1/health/service/", health.service, Right.SERVICE_READ, _NARROWS),
            (b"/v1/health/connect/", catalog.nothing, Right.SERVICE_READ, _NARROWS),
            (b"/v1/health/checks/", health.checks, Right.SERVICE_READ, "filter node-meta"),
            (b"/v1/health/node/", health.node, Right.NODE_READ, "filter"),
            (b"/v1/health/state/", health.state, Right.NODE_READ, "filter node-meta"),
        )
    ),
    *_REGISTRATIONS,
    _read(b"/v1/coordinate/node/", coordinate.one, Right.NODE_READ, BLOCKING),
    _read(b"/v1/acl/", acl.disabled, Right.ACL_READ),
    *(
        _write(method, b"/v1/acl/", acl.disabled, right=Right.ACL_WRITE)
        for method in (_PUT, _POST, _DELETE)
    ),
    _operate(_PUT, b"/v1/agent/token/", acl.disabled, right=Right.AGENT_WRITE),
    _read(b"/v1/config/", config.show_one, Right.OPERATOR_READ, "stale timeout"),
    _operate(_PUT, b"/v1/config/", config.change, needs_length=True),
    _read(b"/read/", simple.read_one, Right.KEY_READ, "stale timeout"),
    _write(_GET, b"/delete/", simple.delete, browser=Browser.PROVEN),
    _write(_DELETE, b"/delete/", simple.delete),
    _read(b"/read", simple.read_all, Right.KEY_READ, "prefix after limit stale timeout"),
    _write(_POST, b"/write", simple.write, needs_length=True),
    _write(_POST, b"/update", simple.update, needs_length=True),
    _write(
        _PUT,
        b"/v1/txn",
        txn.carry_out,
        "cached consistent max_stale stale timeout",
        body_bytes_max=txn.BODY_BYTES_MAX,
    ),
    _write(_PUT, b"/v1/session/create", session.create, right=Right.SESSION_WRITE),
    _read(b"/v1/session/list", session.every, Right.SESSION_READ, BLOCKING),
    _read(b"/v1/event/list", event.every, Right.EVENT_READ, f"name node service tag {BLOCKING}"),
    _read(b"/v1/catalog/datacenters", catalog.datacenters, Right.NONE),
    _read(b"/v1/catalog/nodes", catalog.every, Right.NODE_READ, f"filter node-meta {BLOCKING}"),
    _read(b"/v1/coordinate/nodes", coordinate.every, Right.NODE_READ, BLOCKING),
    _read(b"/v1/coordinate/datacenters", coordinate.datacenters, Right.NONE),
    _write(_PUT, b"/v1/coordinate/update", coordinate.update, right=Right.NODE_WRITE),
    # From beyond loopback not until tokens exist: a log says more than any answer of the API.
    Route(
        _GET,
        b"/v1/agent/monitor",
        monitor.follow,
        Right.OPERATOR_READ,
        "logjson loglevel",
        caller=Caller.THIS_MACHINE,
    ),
    _read(b"/v1/agent/self", agent.show, Right.AGENT_READ),
    _read(b"/v1/agent/metrics", metrics.of_agent, Right.AGENT_READ, "format"),
    _read(b"/v1/agent/members", agent.members, Right.NODE_READ, "filter wan"),
    _operate(_PUT, b"/v1/agent/leave", agent.leave, right=Right.AGENT_WRITE),
    _operate(_PUT, b"/v1/agent/reload", agent.reload, right=Right.AGENT_WRITE),
    _read(
        b"/v1/operator/raft/configuration",
        quorum.configuration,
        Right.OPERATOR_READ,
        "cached consistent max_stale stale timeout",
    ),
    _operate(_DELETE, b"/v1/operator/raft/peer", quorum.remove, "address id timeout"),
    _operate(_POST, b"/v1/operator/raft/transfer-leader", quorum.transfer, "id timeout"),
    _operate(_PUT, b"/v1/operator/raft/transfer-leader", quorum.transfer, "id timeout"),
    _read(b"/v1/watch", watch.watch, Right.KEY_READ, "prefix after"),
    Route(_GET, b"/v1/health", cluster.health, Right.NONE, is_vital=True),
    _read(b"/", status.root, Right.NONE),
    _read(b"/v1/status/leader", status.leader, Right.NONE),
    _read(b"/v1/status/peers", status.peers, Right.NONE),
    _read(b"/v1/cluster", cluster.show, Right.NODE_READ),
    _read(b"/v1/events", cluster.events, Right.NODE_READ),
    _read(b"/metrics", metrics.show, Right.AGENT_READ),
    _read(b"/v1/sd/prometheus", metrics.targets, Right.NODE_READ, "service"),
    _read(b"/v1/timeline", cluster.timeline, Right.NODE_READ, "since"),
    _read(b"/ui", ui.redirect, Right.NONE),
    _read(b"/ui/", ui.serve, Right.NONE),
    _read(b"/v1/ui/dns", ask_dns.ask, Right.NODE_READ, "name type"),
    _read(b"/v1/ui/me", ui.me, Right.NONE),
    _read(b"/v1/ui/sessions", sessions.every, Right.SESSION_READ, "text after limit"),
    _read(b"/v1/ui/stream", ui.stream, Right.NODE_READ),
    _read(b"/v1/node/load", cluster.load, Right.AGENT_READ, "seconds"),
    _read(b"/v1/statistics", statistics.show, Right.AGENT_READ, "node since step series"),
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
    _read(b"/v1/ui/services", browse.services, Right.SERVICE_READ, "text status tag after limit"),
    _read(
        b"/v1/ui/instances",
        browse.instances,
        Right.SERVICE_READ,
        "service text status after limit",
    ),
    _read(b"/v1/ui/instance", browse.instance, Right.SERVICE_READ, "node id"),
    _read(b"/v1/ui/keys", browse.keys, Right.KEY_READ, "prefix separator after limit text"),
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
