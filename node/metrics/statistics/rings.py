"""Rings of points: fixed arrays of numbers, in which the newest overwrite the oldest.

Owns which points there are, and nothing of what they mean. 7,080 points of 13 series in 8 bytes each
are 736 kB, whatever happens: the bound is 8 MiB.

Words. A *slot* is a span of time as long as a ring's step, numbered since 1970. The point of a slot
stands at its number modulo the size of the ring. A slot without a point is NaN.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

import msgspec

from ...model.statistics import SERIES, SPANS, Points, Question, Span, bytes_of, numbers_of

_ITEM = array("d").itemsize


class Ring:
    """The points of all series at one step.

    Attributes:
        step: Seconds from point to point.
        size: How many points are kept.
        first, last: The first and the last slot that was written; -1: none was.
    """

    def __init__(self, span: Span, series: Sequence[str] = SERIES) -> None:
        self.step, self.size = span
        self.first = self.last = -1
        self._series = {name: _unknown(self.size) for name in series}

    @property
    def oldest(self) -> int:
        """The first slot that can have a point."""
        return max(self.first, self.last - self.size + 1)

    def put(self, slot: int, point: Sequence[float]) -> None:
        """Write the point of a slot, one number for each series.

        Slots that were left out are not known. Where `slot` is not after the last one the clock has
        gone back: points of the time that now comes again are forgotten.
        """
        if self.last < 0 or slot <= self.oldest:
            self._forget(0, self.size)
            self.first = slot
        elif slot > self.last:
            self._forget(self.last + 1, slot)
            if slot - self.last >= self.size:
                self.first = slot
        else:
            self._forget(slot, self.last + 1)
        self.last = slot
        for values, value in zip(self._series.values(), point, strict=True):
            values[slot % self.size] = value

    def _forget(self, start: int, end: int) -> None:
        count = min(end - start, self.size)
        at = start % self.size
        until = min(at + count, self.size)
        for values in self._series.values():
            # Slices: after a week without this node it is all of a ring, in one turn of the loop.
            values[at:until] = _unknown(until - at)
            values[: at + count - until] = _unknown(at + count - until)

    def points(self, names: Sequence[str], start: int, end: int) -> dict[str, array[float]]:
        """Return the points of the slots from `start` to `end`, the latter not included, by series.

        Slots after the last one are not known. `start` is not before `oldest`.
        """
        size, known = self.size, max(min(end, self.last + 1), start)
        missing = _unknown(max(end - known, 0))
        at, until = start % size, start % size + known - start
        found = {}
        for name in names:
            values = self._series[name]
            found[name] = values[at:until] + values[: max(until - size, 0)] + missing
        return found

    # -- saved and read again -----------------------------------------------------------------

    def packed(self) -> dict[str, bytes]:
        """Return all points as bytes, by series; see `load`."""
        return {name: bytes_of(values) for name, values in self._series.items()}

    def load(self, first: int, last: int, packed: Mapping[str, bytes]) -> bool:
        """Take over what `packed` returned when `first` and `last` were these.

        Series that are not known here are left out, and those that are missing stay unknown.

        Returns:
            Whether that was possible; if not, nothing was changed.
        """
        fits = all(len(data) == self.size * _ITEM for data in packed.values())
        if not fits or not -1 <= first <= last:
            return False
        for name in self._series.keys() & packed.keys():
            self._series[name] = numbers_of(packed[name])
        self.first, self.last = first, last
        return True


class Rings:
    """All rings of one node, the finest first.

    Attributes:
        rings: They.
    """

    def __init__(self) -> None:
        self.rings = tuple(Ring(span) for span in SPANS)

    def answer(self, question: Question, now_ms: int) -> Points:
        """Return the points that are asked for, up to the last slot that is over.

        Args:
            question: Which; its step need not be one of the rings', then the finest one is taken.
            now_ms: The time of day, in milliseconds since 1970.
        """
        ring = next((one for one in self.rings if one.step == question.step), self.rings[0])
        step_ms = ring.step * 1000
        # The last slot that is over may be about to be written.
        end = max(now_ms // step_ms - 1, ring.last + 1)
        wanted = -(-question.since_ms // step_ms)
        start = min(max(wanted, ring.oldest, end - ring.size), end) if ring.last >= 0 else end
        names = [name for name in SERIES if name in question.series]
        found = ring.points(names, start, end)
        return Points(
            ring.step,
            start * step_ms,
            {name: bytes_of(values) for name, values in found.items()},
        )

    def newest(self) -> tuple[int, dict[str, float]]:
        """Return the newest point: when its second began, in ms since 1970, and its known figures."""
        ring = self.rings[0]
        if ring.last < 0:
            return 0, {}
        found = ring.points(SERIES, ring.last, ring.last + 1)
        return ring.last * 1000, {
            name: values[0] for name, values in found.items() if not math.isnan(values[0])
        }


class _Saved(msgspec.Struct, array_like=True):
    """One ring in a file."""

    step: int
    first: int
    last: int
    packed: dict[str, bytes]


class _File(msgspec.Struct):
    """The content of the file, and whose it is."""

    node: str
    rings: list[_Saved]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_File)


def pack(rings: Rings, node: str) -> bytes:
    """Return all rings of a node as bytes, which `unpack` reads. `node` is its id."""
    saved = [_Saved(one.step, one.first, one.last, one.packed()) for one in rings.rings]
    return _encoder.encode(_File(node, saved))


def unpack(rings: Rings, content: bytes, node: str) -> str:
    """Take over what `pack` returned; return why that is not possible, or nothing.

    Rings of another step or size are left out.
    """
    try:
        found = _decoder.decode(content)
    except msgspec.MsgspecError as error:
        return f"it is not understood: {error}"
    if found.node != node:
        return f"it is of node {found.node[:16]}, and this is {node}"
    by_step = {one.step: one for one in found.rings}
    for ring in rings.rings:
        saved = by_step.get(ring.step)
        if saved is not None:
            ring.load(saved.first, saved.last, saved.packed)
    return ""


def _unknown(count: int) -> array[float]:
    return array("d", [math.nan]) * count
