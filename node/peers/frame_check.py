"""What a member's frames may hold, checked between their decoding and the core.

A member that runs another version, or lies, must not stop a node for good with any single frame.
Sizes and the range of most numbers are checked by the types of the frames (`wire.py`,
`raft/messages.py`) as they are decoded. Owns the two checks that need more: what entries carry, and
by how much a term may rise. What an append says of the log is the core's (`raft/replication.py`).

Whatever is refused raises `BadFrame`. The connection it came on is closed, nothing of the frame has
become durable, and the node lives on.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import log_limits
from ..errors import BadFrame, BadNumber
from ..raft import membership
from ..raft.entry import NUMBER_MAX, Entry, EntryKind
from ..raft.messages import Append, InstallSnapshot
from . import wire

TERM_JUMP = 1000
"""A term rises by one with each election. A higher one by more than this is an alarm."""

_MAX_ENTRY = 2 * 1024 * 1024
"""Bytes of a payload: the largest value is 1 MiB, and an entry must fit into one frame."""

_COMMAND, _CONFIG = int(EntryKind.COMMAND), int(EntryKind.CONFIG)


def check(frames: Sequence[wire.Frame]) -> None:
    """Check what arrived on a connection for messages.

    Raises:
        BadFrame: Nothing of these frames may be used.
    """
    for frame in frames:
        kind = type(frame)
        if kind is Append:
            if frame.entries:  # type: ignore[union-attr]
                _check_entries(frame.entries)  # type: ignore[union-attr]
        elif kind is InstallSnapshot:
            # A node makes this message itself, once a whole state has come on its own connection.
            raise BadFrame("a snapshot without its state")


def is_jump(own: int, term: int) -> bool:
    """Whether a peer's term is so far above this node's that it is an alarm.

    Raises:
        BadNumber: It is so high that no node may take it over: terms must go on to rise after it.
    """
    if term <= own + TERM_JUMP:
        return False
    if term > NUMBER_MAX:
        raise BadNumber(f"the term {term}, this node's is {own}")
    # A new node has none yet: that of its cluster may be any.
    return own > 0


def _check_entries(entries: list[Entry]) -> None:
    for entry in entries:
        if entry.kind == _COMMAND:
            fault = log_limits.fault_in(entry.data)
        elif entry.kind == _CONFIG:
            is_sound = membership.is_configuration(entry.data)
            fault = "" if is_sound else "a configuration that no cluster can have"
        elif entry.kind == EntryKind.NOOP:
            fault = ""
        else:
            fault = f"an entry of kind {entry.kind}, which this version does not know"
        if len(entry.data) > _MAX_ENTRY:
            fault = f"{len(entry.data)} bytes"
        if fault:
            raise BadFrame(f"entry {entry.index} holds {fault}")
