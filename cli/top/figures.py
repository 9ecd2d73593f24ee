"""How figures are written in few characters, and traces as sparklines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Trace = Sequence[float | None]
"""Points of a series, one a second, the newest last; None: not known."""

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"
"""For terminals whose encoding has no blocks."""

SHOWN_S = 240
"""Seconds that are shown at most: as many as a wide terminal has columns for."""

_NEWEST = 3
"""Points among which the newest known one is the present: the very last may not be there yet."""
_QUIET = 10
"""The same of quantiles, which are not known for a second in which nothing took place."""


def now_of(trace: Trace, *, is_quantile: bool = False) -> float | None:
    """Return the present value of a trace; None: it is not known."""
    newest = trace[-(_QUIET if is_quantile else _NEWEST) :]
    return next((one for one in reversed(newest) if one is not None), None)


def together(
    traces: Sequence[Trace], combine: Callable[[list[float]], float]
) -> list[float | None]:
    """Combine the traces of several nodes, second by second, counted from the newest."""
    longest = max(map(len, traces), default=0)
    combined: list[float | None] = []
    for back in range(longest, 0, -1):
        known = [
            value for trace in traces if back <= len(trace) and (value := trace[-back]) is not None
        ]
        combined.append(combine(known) if known else None)
    return combined


def sparkline(trace: Trace, width: int, levels: str = BLOCKS, top: float | None = None) -> str:
    """Return the newest points as blocks, right-aligned; a point that is not known is a space.

    Args:
        trace: The points.
        width: Characters.
        levels: From the lowest to the highest.
        top: What the highest level stands for; None: the greatest of the points shown.
    """
    shown = trace[-width:] if width > 0 else []
    known = [one for one in shown if one is not None]
    top = max(known, default=0.0) if top is None else top
    highest = len(levels) - 1
    line = "".join(
        " "
        if one is None
        else levels[min(highest, round(one / top * highest))]
        if top > 0
        else levels[0]
        for one in shown
    )
    return line.rjust(width)


def rate(value: float | None) -> str:
    """Write a rate; below ten with a digit behind the point."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:,.0f}"


def ms(value: float | None) -> str:
    """Write milliseconds with their unit, from a second on in seconds."""
    if value is None:
        return "-"
    if value >= 999.5:
        return f"{value / 1000:.1f}s"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}ms"


def size(value: float | None) -> str:
    """Write bytes in the unit in which they have at most three digits before the point."""
    if value is None:
        return "-"
    units, unit = ("B", "kB", "MB", "GB", "TB", "PB"), 0
    while value >= 999.5 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f}{units[unit]}" if unit and value < 9.95 else f"{value:.0f}{units[unit]}"


def count(value: float | None) -> str:
    """Write a number of things; from a hundred thousand on in thousands or millions."""
    if value is None:
        return "-"
    if value >= 1e8:
        return f"{value / 1e6:,.0f}M"
    return f"{value:,.0f}" if value < 1e5 else f"{value / 1e3:,.0f}k"
