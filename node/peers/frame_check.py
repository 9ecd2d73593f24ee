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

import msgspec

from ..config import command_limits
from ..errors import BadFrame, BadNumber
from ..model import decoded
from ..model.commands import KEY_BYTES_MAX, VALUE_BYTES_MAX, Put
from ..raft import membership
from ..raft.entry import NUMBER_MAX, Entry, EntryKind
from ..raft.messages import Append, InstallSnapshot
from . import wire

TERM_JUMP = 1000
"""A term rises by one with each election. A higher one by more than this is an alarm."""

TERM_JUMPED_MAX = NUMBER_MAX // 2
"""A term above it that is a jump, too, is refused until its sender has insisted on it."""

_INSISTS_S = 10.0
"""How long a peer has to go on sending such terms; it dials twice a second, closed each time."""

_BREAK_S = 3.0
"""After so long without such a term those seconds begin anew."""

_MAX_PEERS = 128
"""Peers of which that is remembered: as many as may be connected (`links.py`). All are forgotten then,
which only makes those that insist begin anew."""

_MAX_ENTRY = 2 * 1024 * 1024
"""Bytes of a payload: the largest value is 1 MiB, and an entry must fit into one frame."""

_COMMAND = int(EntryKind.COMMAND)


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


class TermCheck:
    """Compares the terms of a node's peers with its own, and says when one is too far above it.

    A term is never forgotten, and the next election needs a higher one. So a single frame must not
    bring a node near `NUMBER_MAX`, nor may a node be shut out for good that another frame has
    brought half-way there: its peers refuse its terms for a while, and then take them over.
    """

    def __init__(self) -> None:
        """Begin with nothing heard."""
        # By peer that sends terms above `TERM_JUMPED_MAX`: since when, and when it last did.
        self._insisting: dict[int, tuple[float, float]] = {}

    def is_jump(self, own: int, peer: int, term: int, now: float) -> bool:
        """Whether a peer's term is so far above this node's that it is an alarm.

        Args:
            own: This node's.
            peer: Id of the peer.
            term: The peer's, at most `NUMBER_MAX`.
            now: Seconds of a clock that does not go back.

        Raises:
            BadNumber: No node may take it over, or not yet.
        """
        if term <= own + TERM_JUMP:
            return False
        if term > TERM_JUMPED_MAX and not self._insists(peer, now):
            raise BadNumber(f"the term {term}, while this node's is {own}")
        # A new node has none yet: that of its cluster may be any.
        return own > 0

    def _insists(self, peer: int, now: float) -> bool:
        """Whether a peer has been in such a term for some time: it is no single frame."""
        began, last = self._insisting.pop(peer, (now, now))
        if now - last > _BREAK_S:
            began = now
        if len(self._insisting) >= _MAX_PEERS:
            self._insisting.clear()
        self._insisting[peer] = began, now
        return now - began >= _INSISTS_S


def _check_entries(entries: list[Entry]) -> None:
    # Each entry is decoded here and once more when it is applied.
    decode = decoded.decode_early
    try:
        for entry in entries:
            if entry.kind == _COMMAND:
                command = decode(entry.data)
                # Nearly all are plain writes: without the calls of `fault_of`.
                if (
                    type(command) is Put
                    and 0 < len(command.key) <= KEY_BYTES_MAX
                    and len(command.value) <= VALUE_BYTES_MAX
                    and command.key.isascii()
                ):
                    continue
                _refuse(entry, command_limits.fault_of(command))
            else:
                _check_other(entry)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadFrame(f"an entry holds a command that is not known here ({error})") from None


def _check_other(entry: Entry) -> None:
    fault = ""
    if entry.kind == EntryKind.CONFIG:
        is_sound = membership.is_configuration(entry.data)
        fault = "" if is_sound else "a configuration that no cluster can have"
    elif entry.kind != EntryKind.NOOP:
        fault = f"an entry of kind {entry.kind}, which this version does not know"
    _refuse(entry, fault)


def _refuse(entry: Entry, fault: str) -> None:
    if len(entry.data) > _MAX_ENTRY:
        fault = f"{len(entry.data)} bytes"
    if fault:
        raise BadFrame(f"entry {entry.index} holds {fault}")
