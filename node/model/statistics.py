"""The figures that every node keeps of itself over time, and what is asked and answered about them.

Owns the names of the series and the lengths of the rings. What is measured for them is in
`node/metrics/`.
"""

from __future__ import annotations

import sys
from array import array
from typing import Annotated, NamedTuple

import msgspec

from .numbers import Unsigned

SERIES = (
    "requests_per_s",
    "writes_per_s",
    "http_p50_ms",
    "http_p99_ms",
    "write_p50_ms",
    "write_p99_ms",
    "fsync_p50_ms",
    "fsync_p99_ms",
    "loop_lag_p99_ms",
    "dns_per_s",
    "memory_bytes",
    "disk_used_bytes",
    "keys",
)
"""All series, in the order in which they are shown. They are added to at the end, never renamed."""

COUNTED = frozenset({"memory_bytes", "disk_used_bytes", "keys"})
"""Series of whole numbers."""


class Span(NamedTuple):
    """One ring: a point every `step` seconds, and how many of them are kept."""

    step: int
    points: int


SPANS = (Span(1, 600), Span(15, 1440), Span(120, 5040))
"""Ten minutes, six hours, seven days; the finest first."""

STEPS = tuple(span.step for span in SPANS)

_NAME_MAX, _NAMES_MAX = 32, 32
_POINT_BYTES = 8
_Name = Annotated[str, msgspec.Meta(max_length=_NAME_MAX)]
_ON_THE_WAY_MS = 1000
"""Who asks for the last ten minutes says when they began by an earlier clock than the one that answers."""

_Packed = Annotated[bytes, msgspec.Meta(max_length=SPANS[-1].points * _POINT_BYTES)]


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is asked of one node.

    Attributes:
        series: Names of `SERIES`; one that the node does not have is left out of its answer.
        step: Seconds from point to point, one of `STEPS`.
        since_ms: Points before this moment are not wanted, in milliseconds since 1970; 0: all.
    """

    series: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=_NAMES_MAX)]
    step: Unsigned
    since_ms: Unsigned = 0


class Points(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one node answers.

    Attributes:
        step: Seconds from point to point.
        since_ms: When the time begins that the first point is about; that of the next one begins
            `step` seconds later.
        series: By name: doubles of 8 bytes, little-endian, one a point; NaN: not known. All are of
            the same length.
    """

    step: Unsigned
    since_ms: Unsigned
    series: Annotated[dict[_Name, _Packed], msgspec.Meta(max_length=_NAMES_MAX)]


def numbers_of(data: bytes) -> array[float]:
    """Return the numbers of a series of `Points`; bytes behind the last whole one are left out."""
    numbers = array("d")
    numbers.frombytes(data[: len(data) // _POINT_BYTES * _POINT_BYTES])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def bytes_of(numbers: array[float]) -> bytes:
    """Return a series of `Points` from its numbers."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def step_for(since_ms: int, now_ms: int) -> int:
    """Return the finest step whose ring reaches back to a moment; 0: as far back as the finest goes."""
    for step, points in SPANS:
        if not since_ms or now_ms - since_ms < step * points * 1000 + _ON_THE_WAY_MS:
            return step
    return STEPS[-1]
