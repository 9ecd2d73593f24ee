"""The clocks of sessions: the leader ends each that was not renewed for twice its TTL.

Owns who may still renew: a renewal is answered only by a leader that still leads. What clients are
promised is in the contract of services, section 6.2.

Theory of operation: only the leader has clocks. When a node begins to lead, every session gets its
whole time again, from that moment. A renewal comes to the leader, forwarded if need be. There it

1. waits, if the end of its session is decided already, until that is over (`session_ends.py`);
2. starts the clock again;
3. and only then has a majority confirm the lead (a read index, `raft/reads.py`).

If the leader was deposed without knowing it, step 3 fails, and the renewal goes to the next leader.
If it was deposed after step 3, the next leader was elected after step 2, and gives the session its
whole time from a later moment. So a client whose renewal was answered has its session for a TTL, and
in fact for two, from when it sent the request. For the same reason the creation of a session is safe:
its entry was committed in the term of this leader, and the clock starts when it is applied.

An end that this leader proposes never gets to another leader, unless it is in the log by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import READ, Answer, Request, unrenewed
from ..errors import Compacted, HstoreError, NoLeader, Overloaded
from ..model.locks import SESSION_ID_BYTES, Session
from ..net.flag import Flag
from ..peers.wire import ForwardKind
from ..state.records import decode_session
from ..state.watching.changes import SESSIONS, Change
from ..state.watching.watches import Watch
from .session_ends import SessionEnds, ask_again
from .session_nodes import PAUSE_S, SLICE, SessionNodes

_TTLS = 2
"""A session ends after so many times its TTL, as Consul's do: Patroni and others renew once in half
of what they set, and count on the rest (contract of services, section 10)."""

_GRAIN_S = 0.05
"""Between two looks at the clocks: thousands may be due within moments."""

_LOOKED_AT_ONCE = 1000
"""Clocks that are looked at in one go, some 2 ms."""

_AGAIN_S = 0.1
"""After so long, a clock is looked at again whose session's end was decided and may have failed."""

_STALE_ENTRIES = 1000
"""Entries of the heap whose sessions have ended, beyond as many as there are of others: a client may
make and destroy sessions of a long TTL without end."""


_TOGETHER_MAX, _TOGETHER_S = 64, 0.1
"""Renewals that share a read, and how much longer than the first the others may have to wait."""


class _Together(NamedTuple):
    """Renewals that are confirmed together.

    Attributes:
        read: It ends when a majority has confirmed the lead.
        renewals: More may be added while the read has not asked for its index.
        asking: The list of reads that it is in until then.
    """

    read: Request
    renewals: list[Request]
    asking: list[Request]


_NOBODY = _Together(Request(READ, b"", -math.inf), [], [])


class _Clock:
    """The clock of one session: when it was started, and how long it runs."""

    __slots__ = ("session", "span_s", "started_at")

    def __init__(self, session: Session, started_at: float) -> None:
        self.session = session
        self.started_at = started_at
        self.span_s = _TTLS * session.ttl_ms / 1000


class SessionClocks:
    """The clocks of one node's sessions. The HTTP API serves it as `Sessions`."""

    def __init__(self, replica: Replica, keys: Keys) -> None:
        """Nothing ends before `run`.

        Args:
            replica: The node's.
            keys: Reads the sessions, and watches them.
        """
        self._replica = replica
        self._facts = replica.facts
        self._keys = keys
        self._ends = SessionEnds(replica)
        self._ends.on_ended = self._forget
        self._ends.on_failed = self._look_again
        self._nodes = SessionNodes(replica, keys, self._ends)
        self._ends.on_refused = self._nodes.refused
        self._term = 0
        self._since = 0.0
        self._clocks: dict[bytes, _Clock] = {}
        self._watch: Watch | None = None
        # One entry for each clock, at the time when it was due when that was last looked at; those of
        # sessions that have ended stay until then, or until they are too many.
        self._due: list[tuple[float, bytes]] = []
        self._together = _NOBODY
        self._is_begun = Flag()
        self._is_earlier = Flag()
        self._scope = trio.CancelScope()

    # -- what clients ask -------------------------------------------------------------------

    @property
    def expired_total(self) -> int:
        """How many sessions this leader has ended because nobody renewed them in time."""
        return self._ends.expired_total

    async def renew(self, session_id: bytes, deadline: float) -> Session | None:
        """Start the time of a session again; return it, or None: there is none.

        Raises:
            NoLeader, Overloaded: It certainly was not renewed.
            OutcomeUnknown: Perhaps it was renewed.

        Cancellation: perhaps it was renewed.
        """
        waiting = self._keys.waiting
        if waiting:
            raise NoLeader(waiting)
        session: Session | None = await self._replica.request(
            ForwardKind.RENEW, session_id, deadline
        )
        return session

    def begin_renew(
        self, session_id: bytes, deadline: float, tell: Callable[[Answer], None]
    ) -> Request | None:
        """As `renew`, without a task that waits; None: this one needs a task.

        Raises:
            Overloaded: Too many wait; `tell` is not called.
        """
        if self._keys.waiting:
            return None
        request = Request(ForwardKind.RENEW, session_id, deadline, tell)
        self._replica.submit(request)
        return request

    async def left_ms(self, session_ids: Sequence[bytes], deadline: float) -> list[int | None]:
        """Return of each session the milliseconds until its TTL is over, as the leader has it.

        Negative: it is over, and the session ends after as long again. None: it has no clock.

        Raises:
            Unavailable: The leader has not said.
        """
        left: list[int | None] = await self._replica.request(
            ForwardKind.LEFT, b"".join(session_ids), deadline
        )
        return left

    def _left(self, data: bytes) -> list[int | None]:
        now, clocks = trio.current_time(), self._clocks
        ids = (data[at : at + SESSION_ID_BYTES] for at in range(0, len(data), SESSION_ID_BYTES))
        return [
            None if clock is None else round((clock.started_at + clock.span_s / _TTLS - now) * 1000)
            for clock in map(clocks.get, ids)
        ]

    # -- at the leader ----------------------------------------------------------------------

    def handle(self, request: Request) -> None:
        """Renew a session, or say how much time some have left.

        Called at the leader, in a turn, before read indexes are asked for.
        """
        if self._term != self._facts.term:
            self.look()
        if request.kind == ForwardKind.LEFT:
            request.finish(self._left(request.data))
            return
        if self._ends.holds(request):
            return
        session_id, now = request.data, trio.current_time()
        clock = self._clocks.get(session_id)
        if clock is not None:
            clock.started_at = now
        else:  # It has no TTL, is not loaded yet, or is only just made.
            session = self._keys.session(session_id)
            if session is not None:
                self._start(session, now)
        request.passed_to = self._facts.id
        self._confirm(request)

    def _confirm(self, request: Request) -> None:
        """Answer a renewal once a majority has confirmed that this node leads, from now on.

        Those of one turn share one read, if their deadlines are about the same.
        """
        waiting, together = self._replica.waiting, self._together
        if (
            # As long as this is the list, its reads have not asked for their index.
            together.asking is waiting.new_reads
            and not together.read.is_done
            and len(together.renewals) < _TOGETHER_MAX
            and 0 <= request.deadline - together.read.deadline < _TOGETHER_S
        ):
            together.renewals.append(request)
            return
        term, renewals = self._term, [request]
        read = Request(
            READ, b"", request.deadline, lambda answer: self._confirmed(renewals, term, answer)
        )
        try:
            waiting.submit_read(read)
        except Overloaded as error:
            request.finish(unrenewed(request, error))
        else:
            self._together = _Together(read, renewals, waiting.new_reads)

    def _confirmed(self, renewals: list[Request], term: int, answer: Answer) -> None:
        """Answer these renewals, of this term: a majority has confirmed the lead since, or an error."""
        if self._together.renewals is renewals:
            self._together = _NOBODY  # What it holds may be large.
        if isinstance(answer, HstoreError):
            for request in renewals:
                request.finish(unrenewed(request, answer))
            return
        is_same = self._facts.is_leader and self._facts.term == term
        # As long as the watch is not behind, what is in the clocks is what the state has.
        is_known = self._watch is not None and not self._watch.is_behind
        for request in renewals:
            if not is_same:
                # Another leader has confirmed: it does not know of this renewal.
                ask_again(self._replica, request)
            elif not self._ends.holds(request):
                clock = self._clocks.get(request.data) if is_known else None
                session = self._keys.session(request.data) if clock is None else clock.session
                request.finish(session)

    def look(self) -> None:
        """Leadership or members may have changed."""
        term = self._facts.term if self._facts.is_leader else 0
        if term != self._term:
            self._begin(term)
        if term:
            self._nodes.look()

    def tick(self) -> None:
        """Time has passed."""
        self.look()
        self._ends.tick()

    def _begin(self, term: int) -> None:
        """Begin to keep the clocks in a term; 0: keep none, for this node leads no more."""
        self._scope.cancel()
        self._term, self._since = term, trio.current_time()
        self._clocks.clear()
        self._due.clear()
        self._ends.begin(term)
        self._nodes.forget_sessions()
        if term:
            self._nodes.begin()
            self._is_begun.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the clocks while this node leads, until cancelled."""
        task_status.started()
        while True:
            await self._is_begun.wait()
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._follow)
                    nursery.start_soon(self._keep_time)
                    nursery.start_soon(self._nodes.run)

    # -- which sessions there are -----------------------------------------------------------

    async def _follow(self) -> None:
        """Have a clock for every session that has a TTL."""
        started_at = self._since
        while True:
            # Before the view is taken: what happens from then on is seen here.
            watch = self._keys.watches.open(b"", None, SESSIONS)
            try:
                await self._load(started_at, watch)
                self._watch = watch
                while True:
                    for change, _ in watch.take():
                        self._changed(change)
                    if watch.is_behind:
                        await trio.lowlevel.checkpoint()
                    else:
                        await watch.wait()
            except Compacted:
                # Some may have been made since, and none may end too early.
                started_at = trio.current_time()
            finally:
                self._watch = None
                watch.close()

    async def _load(self, started_at: float, watch: Watch) -> None:
        """Start the clocks of all sessions, and of those that are made meanwhile as they are made."""
        self._nodes.forget_sessions()
        view, ended = self._keys.view(), set[bytes]()
        try:
            for count, session in enumerate(view.sessions(), 1):
                if session.id not in ended:
                    self._nodes.loaded(session)
                    self._start(session, started_at)
                if count % SLICE == 0:
                    await trio.sleep(PAUSE_S)
                    for change, _ in watch.take():
                        self._changed(change)
                        if change.value is None:
                            ended.add(change.key)
        finally:
            view.close()

    def _changed(self, change: Change) -> None:
        if change.value is None:
            self._forget(change.key)
            return
        session, clock = decode_session(change.value), self._clocks.get(change.key)
        self._nodes.made(session)
        if clock is not None:
            clock.session = session
        else:
            self._start(session, trio.current_time())

    def _forget(self, session_id: bytes) -> None:
        clocks, due = self._clocks, self._due
        clocks.pop(session_id, None)  # What is due for it finds no clock.
        self._nodes.ended(session_id)
        if len(due) > 2 * len(clocks) + _STALE_ENTRIES:
            due[:] = [entry for entry in due if entry[1] in clocks]
            heapify(due)

    def _start(self, session: Session, started_at: float) -> None:
        """Start the clock of a session that has a TTL and no clock yet."""
        if not session.ttl_ms or session.id in self._clocks:
            return
        clock = self._clocks[session.id] = _Clock(session, started_at)
        due = started_at + clock.span_s
        if not self._due or due < self._due[0][0]:
            self._is_earlier.set()
        heappush(self._due, (due, session.id))

    # -- time -------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            if self._look_at_due():
                await trio.lowlevel.checkpoint()
                continue
            now = trio.current_time()
            due = self._due[0][0] if self._due else math.inf
            with trio.move_on_at(max(due, now + _GRAIN_S)):
                await self._is_earlier.wait()

    def _look_at_due(self) -> bool:
        """Decide the end of sessions whose time is over; return whether more have to be looked at."""
        now, due = trio.current_time(), self._due
        for _ in range(_LOOKED_AT_ONCE):
            if not due or due[0][0] > now:
                return False
            _, session_id = heappop(due)
            clock = self._clocks.get(session_id)
            if clock is None:
                continue
            end = clock.started_at + clock.span_s
            if self._ends.is_decided(session_id):
                self._look_again(session_id)  # That end may come to nothing.
            elif end > now:
                heappush(due, (end, session_id))
            else:
                self._ends.decide(session_id, by_clock=True)
        return True

    def _look_again(self, session_id: bytes) -> None:
        """Look at the clock of a session again, soon."""
        heappush(self._due, (trio.current_time() + _AGAIN_S, session_id))
