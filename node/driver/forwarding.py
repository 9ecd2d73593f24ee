"""How the outcome of a request travels back to the node that forwarded it to the leader."""

from __future__ import annotations

from ..config import command_limits
from ..errors import (
    HstoreError,
    NoLeader,
    NoSpace,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    PeerError,
    Refused,
)
from ..model import commands
from ..model.locks import SESSION_ID_BYTES
from ..peers import wire
from ..peers.wire import Forward, ForwardKind, ForwardReply, ForwardStatus
from .requests import Answer, NotLeading, unknown

COMMAND_BYTES_MAX = 2 * 1024 * 1024
"""Bytes of a command: the largest value is 1 MiB, and an entry must fit into one frame."""

_WORD_BYTES_MAX = 16 * 1024
_ASKED_BYTES_MAX = wire.SESSIONS_ASKED_MAX * SESSION_ID_BYTES
"""Of a word of a client about a check: its ID, and a note that was cut before it was sent."""

_KINDS = frozenset(int(kind) for kind in ForwardKind)

_STATUS: dict[type[HstoreError], ForwardStatus] = {
    NotLeading: ForwardStatus.NOT_LEADER,
    NotApplied: ForwardStatus.NOT_APPLIED,
    NoLeader: ForwardStatus.NOT_APPLIED,
    Overloaded: ForwardStatus.OVERLOADED,
    NoSpace: ForwardStatus.NO_SPACE,
    OutcomeUnknown: ForwardStatus.UNKNOWN,
    Refused: ForwardStatus.REFUSED,
    HstoreError: ForwardStatus.UNKNOWN,
}
"""The status of each error on the wire. The first class that fits is taken, in both directions."""


def too_large(data: bytes) -> str:
    """Return that a command fits into no frame."""
    return f"a command of {len(data)} bytes, more than {COMMAND_BYTES_MAX}"


def command_refusal(data: bytes) -> str:
    """Return why this node does not propose an encoded command, or nothing.

    Followers refuse an entry that is outside the limits, so its leader could replicate nothing any more;
    and a command that no node understands would end every node that finds it in its log.
    """
    if len(data) > COMMAND_BYTES_MAX:
        return too_large(data)
    if commands.is_recovery(data):
        return "only `hstore recover` writes this command, on its own machine"
    fault = command_limits.fault_in(data)
    return f"the command is not understood: {fault}" if fault else ""


def refusal(frame: Forward) -> str:
    """Return why this request is not taken from a peer, or nothing."""
    if frame.kind not in _KINDS:
        return f"a request of kind {frame.kind} is not known here"
    if frame.kind == ForwardKind.WRITE:
        return command_refusal(frame.data)
    if frame.kind == ForwardKind.WORD and len(frame.data) > _WORD_BYTES_MAX:
        return f"a word of {len(frame.data)} bytes, more than {_WORD_BYTES_MAX}"
    if frame.kind == ForwardKind.RENEW and len(frame.data) != SESSION_ID_BYTES:
        return f"the id of a session has {SESSION_ID_BYTES} bytes, not {len(frame.data)}"
    if frame.kind == ForwardKind.LEFT and (
        len(frame.data) % SESSION_ID_BYTES or len(frame.data) > _ASKED_BYTES_MAX
    ):
        return f"ids of sessions are up to {_ASKED_BYTES_MAX} bytes, {SESSION_ID_BYTES} each"
    return ""


def reply(rid: int, answer: Answer) -> ForwardReply:
    """Return the frame that carries `answer` back to the node that forwarded request `rid`."""
    if isinstance(answer, HstoreError):
        status = next(s for error, s in _STATUS.items() if isinstance(answer, error))
        return ForwardReply(rid, status, str(answer).encode())
    return ForwardReply(rid, ForwardStatus.DONE, wire.encode_result(answer))


def answer(frame: ForwardReply, kind: int) -> Answer:
    """Return the answer that a reply gives to the request that waits for it.

    Args:
        frame: The leader's reply; not `NOT_LEADER`, which is no answer to the request.
        kind: The `ForwardKind` of the request.
    """
    if frame.status == ForwardStatus.DONE:
        try:
            return wire.decode_result(kind, frame.data)
        except PeerError:
            return unknown("the leader's answer cannot be read")
    for error, status in _STATUS.items():
        if status == frame.status:
            return error(frame.data.decode(errors="replace"))
    return unknown("the leader gave an answer that this version does not know")
