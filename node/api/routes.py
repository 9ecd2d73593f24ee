"""Which path and method is answered by what, and what becomes of errors.

Owns the table of contract section 4, and the boundary at which an error in a handler ends. The
handlers stand in modules by theme.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from ..errors import HstoreError
from . import admin, cluster, config, kv, simple, watch
from .http.answers import Answer, HttpError, failure
from .http.connection import Request
from .http.exchange import Deferred, Exchange, unavailable
from .http.idempotency import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

Found = Answer | Deferred | Awaitable[Answer]
"""What a handler gives: its answer, what it waits for to give it, or the rest of its work."""

Handler = Callable[[Exchange, Request, bytes], Found]
Methods = dict[bytes, Handler]

_log = structlog.get_logger(__name__)


def _get(handler: Handler) -> Methods:
    return {b"GET": handler, b"HEAD": handler}


EXACT: Mapping[bytes, Methods] = {
    b"/read": _get(simple.read_all),
    b"/write": {b"POST": simple.write},
    b"/update": {b"POST": simple.update},
    b"/v1/status/leader": _get(cluster.leader),
    b"/v1/status/peers": _get(cluster.peers),
    b"/v1/cluster": _get(cluster.show),
    b"/v1/cluster/join": {b"POST": cluster.join},
    b"/v1/events": _get(cluster.events),
    b"/v1/watch": _get(watch.watch),
    b"/v1/health": _get(cluster.health),
    b"/v1/config": _get(config.show),
    b"/v1/node/load": _get(cluster.load),
    b"/v1/node/rename": {b"POST": config.rename},
    b"/v1/node/stop": {b"POST": admin.stop},
    b"/v1/node/restart": {b"POST": admin.restart},
    b"/v1/node/kill": {b"POST": admin.kill},
    b"/v1/node/leave": {b"POST": admin.leave},
    b"/v1/leader/remove": {b"POST": admin.remove},
    b"/v1/leader/transfer": {b"POST": admin.transfer},
}
# The rest of the path is a key, of which a slash may be a part.
WITH_KEY: tuple[tuple[bytes, Methods], ...] = (
    (b"/v1/kv/", {**_get(kv.get), b"PUT": kv.put, b"DELETE": kv.delete}),
    (b"/v1/config/", {**_get(config.show_one), b"PUT": config.change}),
    (b"/read/", _get(simple.read_one)),
    # HEAD must not change anything, so it is not what GET is without a body.
    (b"/delete/", {b"GET": simple.delete_by_get, b"DELETE": simple.delete}),
)
_CHANGING = frozenset({b"POST", b"PUT", b"DELETE"})
_WRITES = frozenset({simple.write, simple.update, simple.delete, kv.put, kv.delete})


def begin(x: Exchange, request: Request) -> Found:
    """Let the handler of a request begin; what it refuses at once is an answer, too."""
    try:
        x.guard.check(request)
        handler, rest = _find(request)
        return handler(x, request, rest)
    except Exception as error:  # noqa: BLE001 (the boundary)
        return failed(x, request, error)


async def finish(x: Exchange, request: Request, found: Found) -> Answer:
    """Do the rest of what `begin` has begun, whatever comes of it.

    Cancellation: as of the handler; for a write the outcome is unknown.
    """
    try:
        if isinstance(found, Deferred):
            return await x.settle(found, request)
        if isinstance(found, Awaitable):
            return await found
    except Exception as error:  # noqa: BLE001 (the boundary)
        return failed(x, request, error)
    return found


def failed(x: Exchange, request: Request, error: Exception) -> bytes:
    """Return the answer to a request that ended in an error.

    A defect in one handler is one client's 500 and a line in the log.
    """
    if isinstance(error, HttpError):
        if error.ends_connection:
            request.keep_alive = False
        return failure(x.backend.applied_index, error)
    if isinstance(error, HstoreError):
        return failure(x.backend.applied_index, unavailable(error))
    _log.error("request failed", method=request.method, path=request.path[:200], exc_info=error)
    outcome = "unknown" if request.method in _CHANGING else None
    text = f"a defect in hstore ({type(error).__name__}): see the log of this node"
    return failure(x.backend.applied_index, HttpError(500, text, outcome=outcome))


def _find(request: Request) -> tuple[Handler, bytes]:
    path = request.path
    rest = b""
    methods = EXACT.get(path)
    if methods is None:
        for start, methods_with_key in WITH_KEY:
            if path.startswith(start):
                methods, rest = methods_with_key, path[len(start) :]
                break
        else:
            raise HttpError(404, f"there is nothing at {path[:200].decode('latin-1')!r}")
    handler = methods.get(request.method)
    if handler is None:
        allow = b", ".join(sorted(methods))
        raise HttpError(405, f"{request.method.decode()} is not for this path", allow=allow)
    if (
        IDEMPOTENCY_KEY in request.headers
        and request.method in _CHANGING
        and handler not in _WRITES
    ):
        # To ignore it would be to promise what is not kept.
        raise HttpError(400, "Idempotency-Key is for writes of keys: send none here")
    return handler, rest
