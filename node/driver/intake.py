"""What clients and other nodes ask for, on its way into the core, at the beginning of a turn.

At the leader, writes become proposals; elsewhere they are passed on to it, once. One read index
serves all reads that have gathered. Functions of a `Replica`, as those of `raft/` are of a core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from ..errors import Overloaded, Refused
from ..model import commands
from ..peers import wire
from ..peers.wire import ForwardKind, ForwardStatus
from ..raft import events as happened
from ..raft.roles import Role
from . import forwarding
from .requests import Answer, NotLeading, Request

if TYPE_CHECKING:
    from .replica import Replica

_MAX_PROPOSAL_BYTES = 1024 * 1024
"""Of payloads proposed in one turn: RocksDB holds the GIL while it writes them."""


def take_forward(replica: Replica, peer: int, frame: wire.Forward) -> None:
    """Take a request that another node passed on because this one leads."""

    def tell(answer: Answer) -> None:
        replica.send_together(peer, forwarding.reply(frame.id, answer))

    if replica.core.role is not Role.LEADER:
        replica.send_together(peer, wire.ForwardReply(frame.id, ForwardStatus.NOT_LEADER, b""))
        return
    refusal = forwarding.refusal(frame)
    if refusal:
        tell(Refused(refusal))
        return
    deadline = trio.current_time() + min(frame.timeout_ms, 300_000) / 1000
    try:
        replica.submit(Request(frame.kind, frame.data, deadline, tell, is_foreign=True))
    except Overloaded as error:
        tell(error)


def take_writes(replica: Replica, events: deque[happened.Event]) -> None:
    """Turn queued requests into proposals, or pass them on to the leader."""
    if not replica.waiting.queued:
        return
    if replica.core.role is Role.LEADER:
        # Else its core would refuse them: they wait for whoever leads next.
        if replica.core.transfer is None and replica.core.id in replica.core.config.all_voters():
            _propose(replica, events)
        return
    leader = replica.core.leader
    while (
        replica.waiting.queued
        and _can_ask(replica, leader)
        and replica.core.term > replica.denied_term
    ):
        _pass_on(replica, leader, replica.waiting.queued.popleft())


def give_back(replica: Replica) -> None:
    """This node leads no more: who passed something on may keep it for whoever leads next.

    At once: this node may be the last to hear who that is.
    """
    kept: deque[Request] = deque()
    for request in replica.waiting.queued:
        if request.is_foreign:
            request.finish(NotLeading())
        else:
            kept.append(request)
    replica.waiting.queued = kept


def _can_ask(replica: Replica, leader: int) -> bool:
    """Whether what is sent to this leader now is likely to reach it."""
    is_there = leader != 0 and not replica.core.leader_gone
    return is_there and replica.is_connected(leader)


def _propose(replica: Replica, events: deque[happened.Event]) -> None:
    items: list[tuple[int, bytes]] = []
    size = 0
    while replica.waiting.queued and size < _MAX_PROPOSAL_BYTES:
        request = replica.waiting.queued.popleft()
        if request.is_done:
            continue
        data = request.data
        if request.kind == ForwardKind.KEYED:
            data = commands.stamped(data, replica.cluster_ms)
        elif request.kind != ForwardKind.WRITE:
            replica.on_admin(request)
            continue
        if replica.disk_space.refuses(request):
            continue
        rid = replica.new_id()
        replica.waiting.proposed[rid] = request
        items.append((rid, data))
        size += len(data)
    if items:
        events.append(happened.Propose(items))
    if replica.waiting.queued:
        replica.want_turn()


def _pass_on(replica: Replica, leader: int, request: Request) -> None:
    if request.is_done:
        return
    if request.is_foreign:  # It was passed on once, and this node leads no more.
        request.finish(NotLeading())
        return
    request.term, request.passed_to = replica.core.term, leader
    left = max(request.deadline - trio.current_time(), 0)
    rid = replica.new_id()
    replica.waiting.forwarded[rid] = request
    replica.send_together(leader, wire.Forward(rid, request.kind, request.data, int(left * 1000)))


def not_passed_on(replica: Replica, frames: Iterable[wire.Forward | wire.ForwardReply]) -> None:
    """Answer those whose requests have not left; what is lost of replies, others wait for."""
    for frame in frames:
        if isinstance(frame, wire.Forward):
            request = replica.waiting.forwarded.pop(frame.id, None)
            if request is not None:
                request.finish(Overloaded("the link to the leader is full; try again in a moment"))


def take_reads(replica: Replica, events: deque[happened.Event]) -> None:
    """One read index serves all reads that have gathered."""
    if not replica.waiting.new_reads:
        return
    if replica.core.role is Role.LEADER or _can_ask(replica, replica.core.leader):
        rid = replica.new_id()
        replica.waiting.asked_reads[rid] = (trio.current_time(), replica.waiting.new_reads)
        replica.stats["reads"] += len(replica.waiting.new_reads)
        replica.waiting.new_reads = []
        events.append(happened.ReadIndex(rid))
