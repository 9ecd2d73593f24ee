"""Query parameters of the dialect: what they may say, and what they say.

Owns the reading of flags, booleans, numbers, durations, `?dc=`, the modes of consistency, and
`?index=` with `?wait=`. Which parameters a path knows is in the table of routes, and what it must not
ignore in `../parameters.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from ...model import durations
from ..http.params import UNSIGNED_64_MAX, parse_query
from .forms import refused
from .heads import Mode
from .texts import NO_PATH

if TYPE_CHECKING:
    from ..http.answers import HttpError
    from ..http.exchange import Exchange
    from ..http.params import Query

# strconv.ParseBool of Go, and the empty value.
_BOOLEANS = {
    **dict.fromkeys(("", "1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}
# Consul's agent/consul/rpc.go: defaultQueryTime, maxQueryTime, jitterFraction.
WAIT_NS_DEFAULT = 300 * 10**9
WAIT_NS_MAX = 600 * 10**9
JITTER = 16

_SHOWN = 40
"""Characters of a wrong value in the answer."""


class Blocking(NamedTuple):
    """What a read waits for.

    Attributes:
        after: Its index has to pass this one; 0: it waits for nothing.
        wait_s: For how long at most, in seconds.
    """

    after: int
    wait_s: float


AT_ONCE = Blocking(0, 0.0)


def datacenter(exchange: Exchange) -> str:
    """Return the name of the cluster's one datacenter."""
    return exchange.backend.settings.cluster_settings.datacenter


def check_datacenter(exchange: Exchange, name: str | None) -> None:
    """Check the datacenter that a query or a body asks for; empty, or None, is ours.

    Raises:
        HttpError: 500, there is no other.
    """
    if name and name != datacenter(exchange):
        raise refused(500, NO_PATH)


def check(exchange: Exchange, known: frozenset[str], raw: bytes) -> None:
    """Check what every path of the dialect checks, of a query that is not empty.

    Args:
        exchange: Of the connection.
        known: What the path supports.
        raw: The query, still percent-encoded.

    Raises:
        HttpError: 400 or 500.
    """
    query = parse_query(raw)
    check_datacenter(exchange, query.get("dc"))
    if "consistent" in query:
        for other in ("cached", "max_stale", "stale"):
            refuse_both(query, "consistent", other)
    if "max_stale" in query and "stale" in known:
        _max_stale_ns(query)


def refuse_both(query: Query, *names: str) -> None:
    """Refuse a query with more than one of these parameters.

    Raises:
        HttpError: 400.
    """
    found = sorted(name for name in names if name in query)
    if len(found) > 1:
        raise refused(400, f"Conflicting flags: {','.join(found)}")


def boolean(query: Query, name: str, *, default: bool = False) -> bool:
    """Return what a parameter says that has to be a boolean; without a value it is true.

    Raises:
        HttpError: 400.
    """
    text = query.get(name)
    if text is None:
        return default
    if text not in _BOOLEANS:
        raise _invalid(name, text, "true or false")
    return _BOOLEANS[text]


def as_boolean(text: str) -> bool | None:
    """Return what the value of a parameter says that has to be a boolean; None: it says neither."""
    return _BOOLEANS.get(text)


def number(query: Query, name: str) -> int | None:
    """Return an unsigned 64-bit number, or None when it is not there.

    Raises:
        HttpError: 400.
    """
    text = query.get(name)
    if text is None:
        return None
    value = _unsigned(text)
    if value is None:
        raise _invalid(name, text, f"a whole number from 0 to {UNSIGNED_64_MAX}")
    return value


def blocking(query: Query) -> Blocking:
    """Return what a read waits for, without the jitter of `with_jitter`.

    Handlers call it before they do anything else for the request, since it may refuse the request.
    `?wait=` means nothing without `?index=`, but is checked all the same, as in Consul.

    Raises:
        HttpError: 400.
    """
    text = query.get("wait", "")
    wait_ns = durations.parse(text) if text else 0
    if wait_ns is None or wait_ns < 0:
        raise refused(400, "Invalid wait time")
    text = query.get("index", "")
    after = _unsigned(text) if text else 0
    if after is None:
        raise refused(400, "Invalid index")
    if not after:
        return AT_ONCE
    return Blocking(after, min(wait_ns or WAIT_NS_DEFAULT, WAIT_NS_MAX) / 1e9)


def with_jitter(wait_s: float) -> float:
    """Return a wait with up to a sixteenth added, so that those that began together end apart."""
    return wait_s * (1 + random.random() / JITTER)  # noqa: S311 (no secret)


def mode_of(exchange: Exchange, query: Query) -> tuple[Mode, Query]:
    """Return how consistent a read is to be, and the query with `stale` exactly where it may be so.

    Raises:
        HttpError: 400.
    """
    if "stale" in query:
        return Mode.STALE, query
    if "max_stale" in query:
        stale_ms = exchange.keys.stale_ms()
        if stale_ms is not None and stale_ms * 1_000_000 <= _max_stale_ns(query):
            return Mode.STALE, {**query, "stale": ""}
    return (Mode.CONSISTENT if "consistent" in query else Mode.LEADER), query


def _max_stale_ns(query: Query) -> int:
    text = query["max_stale"]
    ns = durations.parse(text) if text else 0
    if ns is None or ns < 0:
        raise _invalid("max_stale", text, "a duration such as 10s")
    return ns


def _unsigned(text: str) -> int | None:
    # At most 20 digits, so that nobody has a number of a million digits multiplied out.
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        return None
    value = int(text)
    return value if value <= UNSIGNED_64_MAX else None


def _invalid(name: str, text: str, wanted: str) -> HttpError:
    return refused(400, f"Invalid {name}: {text[:_SHOWN]!r} is not {wanted}")
