"""What goes wrong between a command and a node, as errors with an exit status.

Owns the translation of what httpx raises, and of the statuses with which a node answers. Who is
asked, and for what, is in `api.py`.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import msgspec

from hstore.node.api.dialect.texts import LEADERSHIP_LOST, NO_LEADER, is_dialect
from hstore.node.errors import (
    Compacted,
    ConfigError,
    HstoreError,
    NotApplied,
    OutcomeUnknown,
    Refused,
)
from hstore.node.net.bounded import TOO_LONG

from .httpx_alone import httpx
from .plain import plain
from .server_sent import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Unreachable(HstoreError):
    """No node could be reached; the message says what was tried."""

    exit_code = 3


class NotConnected(Unreachable):
    """Nothing was sent, for there is no connection."""


class NothingListens(NotConnected):
    """There is no process at the address, or it takes no connections any more: its machine says so.

    A machine that cannot be reached says nothing. Its node may run.
    """


class Forbidden(Refused):
    """The node does not take this request from here."""


class NotFound(HstoreError):
    """The node has no such key."""


class _ErrorBody(msgspec.Struct):
    error: str
    outcome: str | None = None


_ERRORS: dict[int, type[HstoreError]] = {
    400: ConfigError,
    403: Forbidden,
    404: NotFound,
    410: Compacted,
}
"""By status of an answer."""

_REFUSED = f"[Errno {errno.ECONNREFUSED}]"
"""How the message of httpx begins; all else, such as `No route to host`, tells nothing of the node."""

ERROR_BODY = msgspec.json.Decoder(_ErrorBody)


def refusal(address: str, response: httpx.Response) -> HstoreError:
    """Return the error that a node's answer stands for, whose status is not 200.

    Args:
        address: The node's, for the message.
        response: Its answer, read to the end.
    """
    status = response.status_code
    if is_dialect(response.request.url.path.encode()):
        return _refusal_in_text(response)
    try:
        body = ERROR_BODY.decode(response.content)
    except msgspec.DecodeError:
        return NotFound("there is no such key") if status == 404 else stranger(address, response)
    said = plain(body.error, keep="\n")
    if status in _ERRORS:
        return _ERRORS[status](said)
    if body.outcome == "unknown":
        return OutcomeUnknown(said)
    return NotApplied(said) if status == 503 else Refused(said)


def _refusal_in_text(response: httpx.Response) -> HstoreError:
    """Return the error of a path whose errors are plain text.

    Such a node has no 503 for a lost leader: clients of Consul try again at the text of a 500.
    """
    status, said = response.status_code, plain(response.text)
    if said == NO_LEADER:
        return NotApplied(f"{said}; `hstore list` shows why")
    if said == LEADERSHIP_LOST or response.headers.get("x-hstore-outcome") == "unknown":
        return OutcomeUnknown(
            f"{said or 'the answer is lost'}; the write may or may not take effect: "
            "read it back before you write again"
        )
    if status == 404:
        return NotFound(said or "there is no such key")
    if status in _ERRORS:
        return _ERRORS[status](said)
    return NotApplied(said) if status == 503 else Refused(said or f"refused (HTTP {status})")


def stranger(address: str, response: httpx.Response) -> Unreachable:
    """Return the error for an answer that no node gives."""
    return Unreachable(
        f"{address} answers (HTTP {response.status_code}), but is not an hstore node; "
        "give the address of a node's API with -h"
    )


@contextlib.contextmanager
def translated(address: str, *, is_write: bool = False) -> Iterator[None]:
    """Raise what httpx raises in here as errors of ours.

    Args:
        address: The node's, for the messages.
        is_write: The request changes something, so once it is sent, a lost connection leaves open
            whether it took effect.

    Raises:
        NothingListens, NotConnected: There was no connection, so nothing was sent.
        OutcomeUnknown: The connection was lost after a write was sent.
        Unreachable: It was lost otherwise, or the node sent what no node sends.
    """
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        reason = str(error).partition("] ")[2] or "no answer"
        kind = NothingListens if str(error).startswith(_REFUSED) else NotConnected
        raise kind(
            f"no node can be reached at {address} ({reason}); "
            "is it running? `hstore list` shows the nodes of a cluster"
        ) from None
    except TooLargeError:
        raise Unreachable(
            f"the node at {address} sends more than any event has; is it one of hstore?"
        ) from None
    except (httpx.TransportError, httpx.StreamError) as error:
        if TOO_LONG in str(error):
            raise Unreachable(
                f"the node at {address} sends more than any answer has; is it one of hstore?"
            ) from None
        is_late = isinstance(error, httpx.TimeoutException)
        lost = "did not answer in time" if is_late else "broke the connection"
        if is_write:
            raise OutcomeUnknown(
                f"the node at {address} {lost}; the write may or may not take effect: "
                "read it back before you write again"
            ) from None
        raise Unreachable(f"the node at {address} {lost}; try another one with -h") from None
