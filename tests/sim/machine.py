"""The state machine of the simulated cluster: a few registers, each with the id of its last write.

A command is a proposal's id, what it does (write, or write if the register holds what is expected)
and to which register. Ids are unique, so every value says which write it is from.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple
from zlib import crc32

from hstore.node.raft.entry import Entry, EntryKind

REGISTERS = 4

_COMMAND = Struct(">QBQ")
_ALWAYS = 0xFF
HEAD_BYTES = _COMMAND.size
"""What comes after these in an entry is padding, or a command for the tables (`tables/nodes.py`)."""
_IS_COMMAND = int(EntryKind.COMMAND)

Pairs = tuple[tuple[bytes, bytes], ...]
"""What a real state machine keeps."""
_PAIR = b" "
"""Before the keys of such pairs in a snapshot. They come before the rest, so that half of a state is
never taken for a whole one."""


def link(chain: int, entry: Entry) -> int:
    """Return the chain hash at `entry`, given that at the one before.

    A tuple of integers hashes the same in every process, unlike bytes.
    """
    return hash((chain, entry.term, entry.kind, crc32(entry.data)))


def put(rid: int, padding: int) -> bytes:
    """Return the command that writes the register of `rid`."""
    return _COMMAND.pack(rid, _ALWAYS, 0) + b"." * padding


def cas(rid: int, expected: int, padding: int) -> bytes:
    """Return the command that writes the register of `rid` if it holds `expected`."""
    return _COMMAND.pack(rid, 0, expected) + b"." * padding


def register_of(rid: int) -> int:
    """Return the register that a request is about."""
    return rid % REGISTERS


def rid_of(entry: Entry) -> int:
    """Return the id of the proposal that an entry with a command carries."""
    return int.from_bytes(entry.data[:8])


class Content(NamedTuple):
    """A state: how far it has come, a hash over everything applied, and the registers.

    `pairs` is what a real state machine keeps beside them, in runs that have one.
    """

    applied: int
    digest: int
    values: tuple[int, ...]
    pairs: Pairs = ()

    def bare(self) -> Content:
        """Return it without what the real state machine keeps, which has judges of its own."""
        return Content(self.applied, self.digest, self.values) if self.pairs else self

    def after(self, entry: Entry) -> tuple[Content, bool]:
        """Return the state after one more entry, and whether its command, if it is one, did it."""
        digest = link(self.digest, entry)
        if entry.kind != _IS_COMMAND:
            return Content(entry.index, digest, self.values, self.pairs), True
        rid, kind, expected = _COMMAND.unpack_from(entry.data)
        register = rid % REGISTERS
        if kind != _ALWAYS and self.values[register] != expected:
            return Content(entry.index, digest, self.values, self.pairs), False
        values = (*self.values[:register], rid, *self.values[register + 1 :])
        return Content(entry.index, digest, values, self.pairs), True


def pairs_of(content: Content, chain: int) -> list[tuple[bytes, bytes]]:
    """Return a state, and the chain hash that belongs to it, as keys and values in order."""
    numbers = (content.applied, chain, content.digest, *content.values)
    tables = sorted((_PAIR + key, value) for key, value in content.pairs)
    return [*tables, *((b"%d" % place, b"%d" % number) for place, number in enumerate(numbers))]


def content_of(pairs: dict[bytes, bytes]) -> tuple[Content, int] | None:
    """Return what `pairs_of` was given, or None if something is missing."""
    numbers = [int(pairs[key]) for key in sorted(pairs) if not key.startswith(_PAIR)]
    if len(numbers) != 3 + REGISTERS:
        return None
    applied, chain, digest, *values = numbers
    tables = tuple((key[1:], value) for key, value in pairs.items() if key.startswith(_PAIR))
    return Content(applied, digest, tuple(values), tables), chain


EMPTY = Content(0, 0, (0,) * REGISTERS)
