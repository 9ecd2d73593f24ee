"""Requests of clients and of other nodes, on their way into the core or to the leader.

At the leader, writes become proposals, and those that need the cluster's time are stamped with it;
elsewhere they are forwarded to the leader, once. One read index serves all reads that have gathered.
`Replica` calls this at the beginning of a turn, and with each update of the core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import structlog
import trio

from ..errors import Overloaded, Refused
from ..measure.histogram import Histogram
from ..model import commands, decoded
from ..model.commands import Outcome
from ..peers import wire
from ..peers.wire import ForwardKind, ForwardStatus
from ..raft import events as happened
from ..raft.core import Core
from ..raft.roles import Role
from ..raft.update import Update
from . import forwarding
from .cluster_clock import ClusterClock
from .disk_space import DiskSpace
from .requests import MAX_WAITING, Answer, NotLeading, Request, Waiting

_MAX_PROPOSAL_BYTES = 1024 * 1024
"""Of payloads proposed in one turn: RocksDB holds the GIL while it writes them."""

_MAX_TIMEOUT_MS = 300_000
"""For a forwarded request: no client may ask for more."""

_log = structlog.get_logger()

Send = Callable[[int, wire.Forward | wire.ForwardReply], None]
"""Sends a frame to a peer at the end of the turn, with all others of this turn."""


class Intake:
    """The requests of one node that its core has not taken yet.

    Attributes:
        reads_asked: How many reads have asked for an index, in all.
        forwarded_total: Writes of this node that were forwarded to another one.
        commit_seconds: From the append of a proposal at this leader until it was applied.
        denied_term: The last term in which a node has answered that it does not lead.
        on_admin: Called at the leader with a request that is not a command, such as a join.
        on_renew: Called at the leader with a request to renew a session.
        on_word: Called with a client's word about a TTL check; also where this node does not lead.
        on_index: Called when a read index has come, with the time at which it was asked for.
    """

    def __init__(
        self,
        core: Core,
        waiting: Waiting,
        clock: ClusterClock,
        disk_space: DiskSpace,
        *,
        send: Send,
        is_connected: Callable[[int], bool],
        want_turn: Callable[[], None],
        first_id: int,
    ) -> None:
        """Begin with no requests.

        Args:
            core: Only read; events for it are added to those of the turn.
            waiting: Where requests wait for their answer.
            clock: What commands are stamped with.
            disk_space: Refuses writes while the disk is short of space.
            send: See `Send`.
            is_connected: Whether what is sent to a peer leaves now.
            want_turn: Has a turn taken soon.
            first_id: The number before the first `new_id`. From anywhere: an answer to what this
                node asked in its last life must not pass for one to what it asks in this.
        """
        self.reads_asked = 0
        self.forwarded_total = 0
        self.commit_seconds = Histogram()
        # Index of the last of some proposals, how many they are, and when they were appended.
        self._under_way: deque[tuple[int, int, float]] = deque()
        self.denied_term = -1
        self.on_admin: Callable[[Request], None] = lambda _request: None
        self.on_renew: Callable[[Request], None] = lambda _request: None
        self.on_word: Callable[[Request], None] = lambda _request: None
        self.on_index: Callable[[float], None] = lambda _asked_at: None
        self._core = core
        self._waiting = waiting
        self._clock = clock
        self._disk_space = disk_space
        self._send = send
        self._is_connected = is_connected
        self._want_turn = want_turn
        self._last_id = first_id
        self._applied = 0
        self._last_refusal = ""

    def new_id(self) -> int:
        """Return a number that this process has not used yet, for a proposal or a read."""
        self._last_id += 1
        return self._last_id

    # -- from other nodes -------------------------------------------------------------------

    def forward_received(self, peer: int, frame: wire.Forward) -> None:
        """Take a request that `peer` forwarded because this node leads, or for a check of its own."""

        def tell(answer: Answer) -> None:
            self._send(peer, forwarding.reply(frame.id, answer))

        if self._core.role is not Role.LEADER and frame.kind != ForwardKind.WORD:
            self._send(peer, wire.ForwardReply(frame.id, ForwardStatus.NOT_LEADER, b""))
            return
        refusal = forwarding.refusal(frame)
        if refusal:
            tell(Refused(refusal))
            return
        deadline = trio.current_time() + min(frame.timeout_ms, _MAX_TIMEOUT_MS) / 1000
        request = Request(frame.kind, frame.data, deadline, tell, is_foreign=True)
        request.is_checked = True
        if frame.kind == ForwardKind.WORD:
            self.on_word(request)
            return
        try:
            self._waiting.submit(request)
        except Overloaded as error:
            tell(error)
        else:
            self._want_turn()

    def reply_received(self, peer: int, frame: wire.ForwardReply) -> None:
        """Take the reply of `peer` to a request that this node forwarded to it."""
        request = self._waiting.forwarded.get(frame.id)
        if request is None or request.passed_to != peer:
            return
        del self._waiting.forwarded[frame.id]
        if frame.status == ForwardStatus.NOT_LEADER:
            # Certainly not done: it may wait, for the next leader (this one would say so again).
            self.denied_term = max(self.denied_term, request.term)
            self._waiting.queued.append(request)
            self._want_turn()
            return
        answer = forwarding.answer(frame, request.kind)
        # Where nothing was written there is nothing to wait for: its `revision` is 0.
        if request.applied_here and isinstance(answer, Outcome) and answer.revision > self._applied:
            self._waiting.elsewhere.add(answer.revision, request, answer)
        else:
            request.finish(answer)

    # -- into the core ----------------------------------------------------------------------

    def take_writes(self, events: deque[happened.Event]) -> None:
        """Turn queued requests into proposals, or forward them to the leader."""
        waiting, core = self._waiting, self._core
        if not waiting.queued:
            return
        if core.role is Role.LEADER:
            # Else its core would refuse them: they wait for the next leader.
            if core.transfer is None and core.id in core.config.all_voters():
                self._propose(events)
            return
        leader = core.leader
        while waiting.queued and self._can_ask(leader) and core.term > self.denied_term:
            self._forward(leader, waiting.queued.popleft())

    def _propose(self, events: deque[happened.Event]) -> None:
        if self._disk_space.is_leaving:
            return  # They wait for the next leader, which has room.
        waiting, needs_time = self._waiting, commands.needs_time
        items: list[tuple[int, bytes]] = []
        size, now_ms = 0, -1
        # What fits beside the entries under way; the first one always, for a value may be larger.
        under_way = self._core.log.size_between(self._applied, self._core.log.last_index)
        limit = min(_MAX_PROPOSAL_BYTES, self._disk_space.fitting - under_way + 1)
        while waiting.queued and size < limit:
            request = waiting.queued.popleft()
            if request.is_done:
                continue
            if request.kind != ForwardKind.WRITE:
                # Its read index, which proves the lead, is asked for later in this turn.
                self._handler(request.kind)(request)
                continue
            if self._disk_space.refusal and self._disk_space.refuses(request):
                waiting.refused_total += 1
                continue
            if not request.is_checked and not self._is_in_bounds(request):
                waiting.refused_total += 1
                continue
            data = request.data
            if needs_time(data):
                # Whatever another node has put there: only the leader's word counts. What is this
                # node's own came by `encode_unstamped`.
                stamp = decoded.stamped if request.is_foreign else commands.first_stamped
                now_ms = self._clock.ms if now_ms < 0 else now_ms
                data = stamp(data, now_ms)
            rid = self.new_id()
            waiting.proposed[rid] = request
            items.append((rid, data))
            size += len(data)
        if items:
            events.append(happened.Propose(items))
        if waiting.queued and limit == _MAX_PROPOSAL_BYTES:
            self._want_turn()  # Else there is one when something has been applied: see `resolve`.

    def _is_in_bounds(self, request: Request) -> bool:
        """Whether a command of this node keeps the limits of every node; else answer the request."""
        refusal = forwarding.command_refusal(request.data)
        if refusal:
            request.finish(Refused(refusal))
            if refusal != self._last_refusal:  # What has failed may be tried again at once.
                self._last_refusal = refusal
                _log.error("a command of this node was refused", reason=refusal)
        return not refusal

    def _handler(self, kind: int) -> Callable[[Request], None]:
        if kind in (ForwardKind.RENEW, ForwardKind.LEFT):
            return self.on_renew
        return self.on_word if kind == ForwardKind.WORD else self.on_admin

    def forward_to(self, member: int, request: Request) -> None:
        """Send a request of this node to a member that need not lead; it is answered as if it did.

        Raises:
            Overloaded: Too many wait for answers.
        """
        if len(self._waiting.forwarded) >= MAX_WAITING:
            raise Overloaded("too many requests are waiting; try again in a moment")
        self._forward(member, request)
        self._want_turn()

    def _forward(self, leader: int, request: Request) -> None:
        if request.is_done:
            return
        if request.is_foreign:  # It was forwarded once, and this node leads no more.
            request.finish(NotLeading())
            return
        if len(request.data) > forwarding.COMMAND_BYTES_MAX:  # Its frame would break the link.
            request.finish(Refused(forwarding.too_large(request.data)))
            return
        self.forwarded_total += request.kind == ForwardKind.WRITE
        request.term, request.passed_to = self._core.term, leader
        left = max(request.deadline - trio.current_time(), 0)
        rid = self.new_id()
        self._waiting.forwarded[rid] = request
        self._send(leader, wire.Forward(rid, request.kind, request.data, int(left * 1000)))

    def take_reads(self, events: deque[happened.Event]) -> None:
        """Ask for one read index for all reads that have gathered."""
        waiting = self._waiting
        if not waiting.new_reads:
            return
        if self._core.role is Role.LEADER or self._can_ask(self._core.leader):
            waiting.is_index_wanted = False
            rid = self.new_id()
            waiting.asked_reads[rid] = (trio.current_time(), waiting.new_reads)
            self.reads_asked += len(waiting.new_reads)
            waiting.new_reads = []
            events.append(happened.ReadIndex(rid))

    def _can_ask(self, leader: int) -> bool:
        """Whether what is sent to this leader now is likely to reach it."""
        return leader != 0 and not self._core.leader_gone and self._is_connected(leader)

    # -- out of the core --------------------------------------------------------------------

    def resolve(self, update: Update, applied: int) -> None:
        """Answer or move on every request that an update of the core is about.

        Args:
            update: The update; its entries have been applied.
            applied: Index of the last entry that has taken effect.
        """
        waiting = self._waiting
        self._applied = applied
        for rid, term, index in update.appended:
            waiting.in_log.add(waiting.proposed.pop(rid), index, term)
        self._time_commits(update, applied)
        for rid, reason, text in update.rejected:
            waiting.reject(rid, reason, text)
        for rid in update.transferred:
            waiting.proposed.pop(rid).finish(None)
        if update.rejected or update.transferred:
            self._want_turn()  # for what a transfer held back
        if update.apply and waiting.queued:
            self._want_turn()  # for what waits until entries under way have made room
        for rid, index in update.reads_ready:
            asked_at, reads = waiting.asked_reads.pop(rid)
            waiting.reads_for_index.add(index, asked_at, reads)
            self.on_index(asked_at)
        waiting.elsewhere.applied(applied)
        waiting.reads_for_index.applied(applied)
        for rid, reason in update.reads_failed:
            waiting.retry_reads(rid, reason)

    def _time_commits(self, update: Update, applied: int) -> None:
        """Note when proposals were appended, all of a turn together, and how long until they applied."""
        under_way = self._under_way
        if update.appended:
            under_way.append((update.appended[-1][2], len(update.appended), trio.current_time()))
            if len(under_way) > MAX_WAITING:
                under_way.clear()  # It leads no more, or has no majority: then this says nothing.
        if under_way and under_way[0][0] <= applied:
            now = trio.current_time()
            while under_way and under_way[0][0] <= applied:
                _, count, at = under_way.popleft()
                self.commit_seconds.observe_all(now - at, count)

    def give_back(self) -> None:
        """This node leads no more: answer the nodes that forwarded requests which are still queued.

        At once, so that they can forward them to the next leader: this node may be the last to hear
        which node that is.
        """
        self._under_way.clear()
        kept: deque[Request] = deque()
        for request in self._waiting.queued:
            if request.is_foreign:
                request.finish(NotLeading())
            else:
                kept.append(request)
        self._waiting.queued = kept

    def not_sent(self, frames: Iterable[wire.Forward | wire.ForwardReply]) -> None:
        """Answer the requests whose frames were dropped on the way out.

        A reply that was dropped is not missed here: `replies.py` has it, and sends it again when the
        link is made; else the node that waits for it has its deadline.
        """
        for frame in frames:
            if isinstance(frame, wire.Forward):
                request = self._waiting.forwarded.pop(frame.id, None)
                if request is not None:
                    request.finish(
                        Overloaded("the link to another member is full; try again in a moment")
                    )
