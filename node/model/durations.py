"""Durations as Go writes and reads them (`time.ParseDuration`): `150ms`, `1h30m`, `-1.5s`, `0`.

Owns the syntax and nothing else. Whole nanoseconds, so that nothing is lost: a fraction beyond them
is cut off, as Go does.
"""

from __future__ import annotations

import re
from functools import lru_cache

NS_MAX = 2**63 - 1
"""The longest that Go can hold, some 292 years."""

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # The micro sign, and the Greek letter mu.
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)
_TEXT_MAX = 100
"""Characters. What is longer says nothing that a shorter text could not say."""


@lru_cache(maxsize=64)  # Clients wait for the same time, again and again.
def parse(text: str) -> int | None:
    """Return the nanoseconds that a text says, or None where it is no duration.

    A bare `0` is one, any other number without a unit is not.
    """
    sign, rest = 1, text[:_TEXT_MAX]
    if len(text) > _TEXT_MAX:
        return None
    if rest[:1] in {"+", "-"}:
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            return None
        unit, fraction = _UNITS_NS[match[3]], match[2] or ""
        total += int(match[1] or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        at = match.end()
    if at == 0 or total > NS_MAX:
        return None
    return sign * total


def show(ns: int) -> str:
    """Return a duration as Go prints it: `1m30s`, `1.5s`, `200ms`, `0s`."""
    if ns < 0:
        return "-" + show(-ns)
    if ns == 0:
        return "0s"
    for unit, of in ((1, "ns"), (1_000, "\u00b5s"), (1_000_000, "ms")):
        if ns < unit * 1_000:
            return _decimal(ns, unit) + of
    seconds = _decimal(ns % 60_000_000_000, 1_000_000_000) + "s"
    minutes = ns // 60_000_000_000
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(ns: int, unit: int) -> str:
    whole, rest = divmod(ns, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
