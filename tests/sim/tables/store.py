"""The records of a state machine in a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType


class DictStore:
    """A `StateStore`; the whole of it is copied out after each write, and read in at a start."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.data = dict(pairs)

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        return self.data.get(key)

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """See `StateStore`."""
        for start, end in delete_ranges:
            for key in [key for key in self.data if start <= key < end]:
                del self.data[key]
        for key in deletes:
            self.data.pop(key, None)
        self.data.update(puts)

    def view(self, *, bulk: bool = False) -> DictReader:
        """See `StateStore`."""
        return DictReader(MappingProxyType(dict(self.data)))


class DictReader:
    """A `StateReader`."""

    def __init__(self, data: MappingProxyType[bytes, bytes]) -> None:
        self._data = data

    def get(self, key: bytes) -> bytes | None:
        """See `StateReader`."""
        return self._data.get(key)

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `StateReader`."""
        for key in sorted(key for key in self._data if start <= key):
            if end is not None and key >= end:
                return
            yield key, self._data[key]

    def close(self) -> None:
        """See `StateReader`."""
