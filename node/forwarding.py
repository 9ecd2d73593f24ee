"""How the outcome of a request travels back to the node that passed it on to the leader."""

from __future__ import annotations

from . import wire
from .errors import HstoreError, NoLeader, NotApplied, OutcomeUnknown, Overloaded, Refused
from .requests import Answer, unknown
from .wire import ForwardReply, ForwardStatus

_STATUS: dict[type[HstoreError], ForwardStatus] = {
    NotApplied: ForwardStatus.NOT_APPLIED,
    NoLeader: ForwardStatus.NOT_APPLIED,
    Overloaded: ForwardStatus.OVERLOADED,
    OutcomeUnknown: ForwardStatus.UNKNOWN,
    Refused: ForwardStatus.REFUSED,
    HstoreError: ForwardStatus.UNKNOWN,
}
"""What an error is on the wire. The first class that fits is taken, in both directions."""


def reply(rid: int, answer: Answer) -> ForwardReply:
    """Return the frame that carries `answer` back to who passed request `rid` on."""
    if isinstance(answer, HstoreError):
        status = next(s for error, s in _STATUS.items() if isinstance(answer, error))
        return ForwardReply(rid, status, str(answer).encode())
    return ForwardReply(rid, ForwardStatus.DONE, wire.encode_result(answer))


def answer(frame: ForwardReply, kind: int) -> Answer:
    """Return what a reply means to who waits for it.

    Args:
        frame: The leader's reply; not `NOT_LEADER`, which is no answer.
        kind: The `ForwardKind` of the request.
    """
    if frame.status == ForwardStatus.DONE:
        return wire.decode_result(kind, frame.data)
    for error, status in _STATUS.items():
        if status == frame.status:
            return error(frame.data.decode(errors="replace"))
    return unknown("the leader gave an answer that this version does not know")
