"""Requests that wait for an answer: writes on their way through the log, reads for their index.

Bookkeeping only: what a request is answered is decided by `replica.py` and `intake.py`. Every request
is answered before its deadline has passed by more than a tick: a client gets an answer to every
request.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import outcome as _outcome
import trio

from ..errors import (
    HstoreError,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    Refused,
    Unavailable,
)
from ..model.commands import Outcome
from ..peers.wire import ForwardKind
from ..raft.entry import Entry
from ..raft.errors import Reason

MAX_WAITING = 16384
"""Requests of one kind that may wait at once; one more is refused as overload."""

MAY_REPEAT = frozenset(map(int, (ForwardKind.RENEW, ForwardKind.WORD, ForwardKind.LEFT)))
"""The kinds of requests that may be carried out twice: when the leader that has one is lost, the next
leader is asked."""

READ = -1
"""The kind of a request that only waits for its index."""

Answer = Any
"""The answer to a request: its result, or an HstoreError that is raised where it waits."""


class NotLeading(NoLeader):
    """The node that a request was forwarded to does not lead: it certainly was not done there."""

    def __init__(self) -> None:
        super().__init__("this node does not lead any more")


class Request:
    """One request of a client of this node, or one that another node forwarded.

    Attributes:
        kind: A `wire.ForwardKind`, or `READ`.
        data: As the kind has it.
        deadline: In seconds of `trio.current_time()`.
        index, term: Where it stands in the log, once it does; forwarded: the term of the leader.
        passed_to: The leader that it was forwarded to, 0: none. Of a renewal also this node itself,
            once it has started the session's time again.
        is_foreign: Another node has forwarded it to this one.
        is_checked: Its command keeps the limits of `config/command_limits.py`; else that is looked at
            before it is proposed.
        applied_here: Its answer, when another node gives it, is told when the write has taken effect
            in this node's copy, too.
        is_done: Whether it has been answered or given up.
        among: Counts it as a read that waits, until it is done.
    """

    __slots__ = (
        "_task",
        "_tell",
        "among",
        "applied_here",
        "data",
        "deadline",
        "index",
        "is_checked",
        "is_done",
        "is_foreign",
        "kind",
        "passed_to",
        "term",
    )

    def __init__(
        self,
        kind: int,
        data: bytes,
        deadline: float,
        tell: Callable[[Answer], None] | None = None,
        *,
        is_foreign: bool = False,
    ) -> None:
        """Without `tell`, a task waits for the answer by `wait`."""
        self.kind = kind
        self.data = data
        self.deadline = deadline
        self.index = 0
        self.term = 0
        self.passed_to = 0
        self.is_done = self.is_checked = self.applied_here = False
        self.is_foreign = is_foreign
        self._tell = tell
        self.among: Waiting | None = None
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> Answer:
        """Wait for the answer.

        Raises:
            HstoreError: The answer is an error.

        Cancellation: the request is given up; its outcome is unknown.
        """
        self._task = trio.lowlevel.current_task()

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._task = None
            self.give_up()
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def give_up(self) -> None:
        """Give the request up: its answer is not wanted any more."""
        if not self.is_done:
            self.is_done = True
            if self.among is not None:
                self.among.reads -= 1

    def finish(self, answer: Answer) -> None:
        """Give the answer; the first one stands."""
        if self.is_done:
            return
        self.is_done = True
        if self.among is not None:
            self.among.reads -= 1
        if self._tell is not None:
            self._tell(answer)
        elif self._task is not None:
            task, self._task = self._task, None
            if isinstance(answer, HstoreError):
                trio.lowlevel.reschedule(task, _outcome.Error(answer))
            else:
                trio.lowlevel.reschedule(task, _outcome.Value(answer))


class WritesInLog:
    """Writes that stand in this node's log, until their entry is applied.

    Attributes:
        by_index: They, by the index of their entry.
        committed_total, lost_total, unknown_total: How many were committed, were replaced by another
            leader's entries, or were answered before either was known.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.by_index: dict[int, Request] = {}
        self.committed_total = self.lost_total = self.unknown_total = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self.by_index)

    def add(self, request: Request, index: int, term: int) -> None:
        """Remember where `request` stands. A write that stood there before was overwritten on this node.

        The entry of that write may still live on another node, so its outcome stays unknown.
        """
        request.index, request.term = index, term
        before = self.by_index.get(index)
        if before is not None:
            self.unknown_total += not before.is_done
            before.finish(unknown("another entry took its place on this node"))
        self.by_index[index] = request

    def applied(self, entries: Sequence[Entry], outcomes: list[Outcome | None]) -> None:
        """Answer the writes that stood at these entries.

        Where an entry of another term is applied, that entry has replaced the write.
        """
        pop = self.by_index.pop
        waiting = len(self.by_index)
        if not waiting:
            return
        for entry, result in zip(entries, outcomes, strict=True):
            request = pop(entry.index, None)
            if request is None:
                continue
            if entry.term == request.term:
                request.finish(result)
            else:
                self.lost_total += 1
                self.committed_total -= 1
                request.finish(
                    NotApplied("another leader's entry took its place; nothing was written")
                )
        self.committed_total += waiting - len(self.by_index)

    def snapshot_installed(self, index: int) -> None:
        """Answer the writes that a snapshot has replaced: their outcomes cannot be known any more."""
        for at in [at for at in self.by_index if at <= index]:
            request = self.by_index.pop(at)
            self.unknown_total += not request.is_done
            request.finish(unknown("the log was replaced by a snapshot"))

    def expire(self, now: float) -> None:
        """Answer the writes whose deadline has passed, and forget those that were given up."""
        for index, request in list(self.by_index.items()):
            if request.is_done:
                del self.by_index[index]
            elif request.deadline <= now:
                del self.by_index[index]
                self.unknown_total += 1
                request.finish(unknown("no majority has confirmed the write in time"))


class AnsweredElsewhere:
    """Writes that another node has answered, until they have taken effect in this node's copy."""

    def __init__(self) -> None:
        """Start with none."""
        self._heap: list[tuple[int, int, Request, Answer]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._heap)

    def add(self, index: int, request: Request, answer: Answer) -> None:
        """Have `request` answered when the entry at `index` is applied."""
        self._count += 1
        heapq.heappush(self._heap, (index, self._count, request, answer))

    def applied(self, index: int) -> None:
        """Answer the writes whose entry is applied."""
        while self._heap and self._heap[0][0] <= index:
            _, _, request, answer = heapq.heappop(self._heap)
            request.finish(answer)

    def expire(self, now: float) -> None:
        """Answer those whose deadline has passed, for they are committed; forget those given up."""
        kept = []
        for waiting in self._heap:
            _, _, request, answer = waiting
            if request.deadline <= now:
                request.finish(answer)
            elif not request.is_done:
                kept.append(waiting)
        if len(kept) < len(self._heap):
            heapq.heapify(kept)
            self._heap = kept


_NO_LEADER = "there is no leader, or this node cannot reach a majority; try again"


class Waiting:
    """All requests that wait for an answer at one node.

    Attributes:
        queued: Writes and membership requests that are neither in the log nor forwarded.
        proposed: Writes handed to the core, by proposal id, until it has taken or refused them.
        in_log: Writes in this node's log.
        forwarded: Requests forwarded to the leader, by the id of the `Forward`.
        elsewhere: Writes that the leader has answered and this node has not applied.
        new_reads: Reads that have not asked for an index.
        is_index_wanted: A client's read waits that began before the leader was asked: it is to be
            asked with the next tick, unless another read asks before.
        asked_reads: Reads that have, by read id: when they asked, and which they are.
        reads_for_index: Reads that know their index.
        reads: How many reads there are, in whatever state.
        refused_total: Writes that ended here, and certainly took no effect: no leader in time, no room,
            too many.
        unknown_total: Writes that were forwarded, and whose outcome nobody has told.
        why_no_leader: Returns, for a client, why this node knows no leader and what to do.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.queued: deque[Request] = deque()
        self.proposed: dict[int, Request] = {}
        self.in_log = WritesInLog()
        self.forwarded: dict[int, Request] = {}
        # By the id of a `Forward`, while it is in `forwarded`: until when an answer is waited for.
        self._answer_by: dict[int, float] = {}
        self.elsewhere = AnsweredElsewhere()
        self.new_reads: list[Request] = []
        self.is_index_wanted = False
        self.asked_reads: dict[int, tuple[float, list[Request]]] = {}
        self.reads_for_index = ReadsForIndex()
        self.reads = 0
        self.refused_total = self.unknown_total = 0
        self.why_no_leader: Callable[[], str] = lambda: _NO_LEADER

    def submit(self, request: Request) -> None:
        """Queue a write; raises Overloaded when too many wait."""
        passed = len(self.forwarded) + len(self.elsewhere)
        if len(self.queued) + len(self.in_log.by_index) + passed >= MAX_WAITING:
            self.refused_total += _is_write(request)
            raise Overloaded("too many writes are waiting; try again in a moment")
        self.queued.append(request)

    def submit_read(self, read: Request) -> None:
        """Queue a read; raises Overloaded when too many wait."""
        if self.reads >= MAX_WAITING:
            raise Overloaded("too many reads are waiting; try again in a moment")
        read.among = self
        self.reads += 1
        self.new_reads.append(read)

    def reject(self, rid: int, reason: Reason, text: str) -> None:
        """Queue again a proposal that the core has refused, or answer it with the reason."""
        request = self.proposed.pop(rid)
        if reason is Reason.NOT_LEADER and request.is_foreign:
            request.finish(NotLeading())
            return
        if reason in (Reason.NOT_LEADER, Reason.TRANSFERRING) and request.data:
            # Never appended, so it may wait for the next leader.
            self.queued.append(request)
            return
        self.refused_total += _is_write(request)
        if reason is Reason.NOT_LEADER:
            request.finish(NoLeader("this node does not lead any more"))
        elif reason is Reason.OVERLOADED:
            request.finish(Overloaded("too much is not committed yet; try again in a moment"))
        elif reason is Reason.TRANSFER_ABORTED:
            request.finish(Unavailable(text))
        else:
            request.finish(Refused(text))

    def retry_reads(self, rid: int, reason: Reason) -> None:
        """Have reads whose index could not be found ask again, under a new id (rule D15)."""
        _, reads = self.asked_reads.pop(rid)
        if reason is not Reason.OVERLOADED:
            self.new_reads += reads
            return
        for read in reads:
            read.finish(Overloaded("too many reads are waiting; try again in a moment"))

    def retry_forwarded(self, leader: int) -> None:
        """Queue again what was forwarded to this leader and may be carried out twice: it may be lost."""
        for rid, request in list(self.forwarded.items()):
            if request.kind in MAY_REPEAT and request.passed_to == leader:
                del self.forwarded[rid]
                self.queued.append(request)

    def fail_forwarded(self, leader: int, why: str) -> None:
        """Answer the requests forwarded to a leader that will not answer any more.

        Those that may be carried out twice are queued, for the next leader.
        """
        self.retry_forwarded(leader)
        for rid, request in list(self.forwarded.items()):
            if request.passed_to == leader:
                self.unknown_total += _is_write(request)
                del self.forwarded[rid]
                request.finish(unknown(why))

    def hurry_forwarded(self, leader: int, by: float) -> None:
        """Wait no longer than until `by` for answers of leaders other than `leader`.

        A leader that has handed over still answers: its successor commits what it had appended. What
        may be carried out twice is queued, for the next leader.
        """
        for rid, request in list(self.forwarded.items()):
            if request.passed_to == leader:
                continue
            if request.kind in MAY_REPEAT:
                del self.forwarded[rid]
                self.queued.append(request)
            else:
                self._answer_by.setdefault(rid, by)

    def expire(self, now: float, *, has_leader: bool) -> None:
        """Answer every request whose time is over."""
        why = ""

        def no_leader() -> HstoreError:
            if has_leader:
                return NoLeader("no majority has confirmed the request in time; try again")
            nonlocal why  # the same for all that expire now
            why = why or self.why_no_leader()
            return NoLeader(why)

        keep: deque[Request] = deque()
        for request in self.queued:
            if request.deadline <= now:
                self.refused_total += _is_write(request)
                request.finish(unrenewed(request, no_leader()))
            elif not request.is_done:
                keep.append(request)
        self.queued = keep
        self.in_log.expire(now)
        for rid, request in list(self.forwarded.items()):
            # Not of the request itself: a write that is answered in time may have to wait on, here.
            deadline = min(request.deadline, self._answer_by.get(rid, math.inf))
            if request.is_done or deadline <= now:
                self.unknown_total += _is_write(request)
                del self.forwarded[rid]
                late = unknown("the leader has not answered in time")
                request.finish(unrenewed(request, late))
        for rid in [rid for rid in self._answer_by if rid not in self.forwarded]:
            del self._answer_by[rid]
        self.elsewhere.expire(now)
        for reads in [self.new_reads, *(reads for _, reads in self.asked_reads.values())]:
            expire_reads(reads, now, no_leader)
        self.reads_for_index.expire(now, no_leader)


def _is_write(request: Request) -> bool:
    """Whether a request is a write, and not answered yet."""
    return request.kind == ForwardKind.WRITE and bool(request.data) and not request.is_done


def unknown(why: str) -> OutcomeUnknown:
    """Return the error of a write that may or may not take effect."""
    return OutcomeUnknown(f"{why}; the write may or may not take effect: read before you repeat it")


def unrenewed(request: Request, error: HstoreError) -> HstoreError:
    """Return `error`, or of a renewal that some leader has had, that it may have taken effect."""
    if request.kind != ForwardKind.RENEW or not request.passed_to:
        return error
    return OutcomeUnknown(
        f"{str(error).partition(';')[0]}; the session may have been renewed: repeat it"
    )


class ReadsForIndex:
    """Batches of reads whose index is known and not yet applied."""

    def __init__(self) -> None:
        """Start with none."""
        self._heap: list[tuple[int, int, float, list[Request]]] = []
        self._count = 0
        self.fresh_at: float | None = None
        """The latest moment such that this node is known to have applied all that was committed
        then: the moment when the newest of the answered reads had asked for its index."""

    def add(self, index: int, asked_at: float, reads: list[Request]) -> None:
        """Have `reads` wait until `index` is applied."""
        self._count += 1
        heapq.heappush(self._heap, (index, self._count, asked_at, reads))

    def applied(self, index: int) -> None:
        """Answer the reads whose index is reached (rule D16)."""
        while self._heap and self._heap[0][0] <= index:
            _, _, asked_at, reads = heapq.heappop(self._heap)
            self.fresh_at = asked_at if self.fresh_at is None else max(self.fresh_at, asked_at)
            for read in reads:
                read.finish(None)

    def expire(self, now: float, error: Callable[[], HstoreError]) -> None:
        """Answer the reads whose deadline has passed."""
        for *_, reads in self._heap:
            expire_reads(reads, now, error)
        if self._heap and not any(reads for *_, reads in self._heap):
            self._heap.clear()


def expire_reads(reads: list[Request], now: float, error: Callable[[], HstoreError]) -> None:
    """Answer and remove the reads whose deadline has passed, and remove those given up."""
    keep = []
    for read in reads:
        if read.deadline <= now:
            read.finish(error())
        elif not read.is_done:
            keep.append(read)
    reads[:] = keep
