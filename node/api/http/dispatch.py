"""From what a handler began to the answer, and from any error to the answer that tells of it.

Owns the boundary at which an error in a handler ends: here alone an error of the node becomes a
status, a text and an outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import structlog
import trio

from ...errors import HstoreError, NoSpace, Overloaded, StorageError, Unavailable
from .answers import RETRY_AFTER_S, Answer, HttpError, too_large, with_header
from .exchange import Deferred

if TYPE_CHECKING:
    from .connection import Request, RequestError
    from .exchange import Exchange, Found
    from .waiting import Wait

_log = structlog.get_logger(__name__)


async def finish(exchange: Exchange, request: Request, found: Found) -> Answer | Wait:
    """Do the rest of what `Router.begin` has begun; an error becomes an answer.

    A wait stands for an answer that is not due yet.

    Raises:
        trio.BrokenResourceError, trio.ClosedResourceError: The client has gone.

    Cancellation: as of the handler; for a write the outcome is unknown.
    """
    try:
        if isinstance(found, Deferred):
            return await exchange.settle(found, request)
        if isinstance(found, Awaitable):
            return await found
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise  # The client has gone: an answer that was ready was sent before the wait.
    except Exception as error:  # noqa: BLE001 (the boundary)
        return failed(exchange, request, error)
    return found


def failed(exchange: Exchange, request: Request, error: Exception) -> bytes:
    """Return the answer to a request that ended in an error.

    A defect in one handler is one client's 500 and a line in the log.
    """
    router = exchange.router
    form = router.form(request.path)
    is_change = router.is_change(request)
    if isinstance(error, HttpError):
        if error.shed is not None:
            exchange.answered.shed[error.shed] += 1
        if error.ends_connection:
            request.keep_alive = False
        return form(exchange, error, is_change=is_change)
    if isinstance(error, HstoreError):
        exchange.answered.shed["requests"] += isinstance(error, Overloaded)
        return form(exchange, _unavailable(error, is_change=is_change), is_change=is_change)
    _log.error("request failed", method=request.method, path=request.path[:200], exc_info=error)
    text = f"a defect in hstore ({type(error).__name__}): see the log of this node"
    outcome = "unknown" if is_change else None
    return form(exchange, HttpError(500, text, outcome=outcome), is_change=is_change)


def _unavailable(error: HstoreError, *, is_change: bool) -> HttpError:
    """Translate an error of the node; a request for a change is also told what is known of it."""
    if isinstance(error, Unavailable):
        return HttpError(
            error.http_status,
            str(error),
            cause=error,
            outcome=error.outcome if is_change else None,
            # Waiting does not mend a disk.
            retry_after_s=None if isinstance(error, NoSpace) else RETRY_AFTER_S,
        )
    if isinstance(error, StorageError):
        return HttpError(503, str(error), cause=error, outcome="unknown" if is_change else None)
    return HttpError(error.http_status, str(error), cause=error)


def as_http_error(bad: RequestError, body_bytes_max: int) -> HttpError:
    """Return the error that tells of bytes which are no request.

    Args:
        bad: What is wrong with them.
        body_bytes_max: Of a request at its path.
    """
    if bad.size:
        return too_large(str(bad), bad.size, body_bytes_max)
    if bad.status != 503:
        return HttpError(bad.status, str(bad))
    return HttpError(
        503, str(bad), outcome="not applied", retry_after_s=RETRY_AFTER_S, shed="bodies"
    )


def with_end(start: bytes, request: Request, *, goes_on: bool) -> bytes:
    """Say in an answer, or its head, whether the connection goes on, where that is not plain."""
    if not goes_on:
        return with_header(start, b"Connection: close")
    return with_header(start, b"Connection: keep-alive") if request.is_http10 else start
