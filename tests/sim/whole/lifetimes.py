"""How long sessions live, by the one clock of a run.

- E1: a session does not end before twice its TTL is over since its last create or renewal that was
  answered was *sent*, unless it was destroyed, or its node or a check failed. So nobody gets its
  locks while it may think that it holds them, which is half as long (contract of services, 6.3).
  Nor is twice its TTL over sooner since the leader was elected in whose term it ends: a new leader
  starts all clocks again (6.2).
- E2: a leader decides that end at most 200 ms later: after twice the TTL since the session was made on
  it, it got a renewal, or it began to keep clocks; judged by its first decision in the term that its
  clocks are of. In peace the session has ended by then, or by as long after the last election, and as
  long as a commit may take; so have all whose node is no member any more.
- E3: for the check of its node it ends only when that has been critical for the grace (6.2).
- E5: nobody else gets a lock before its delay is over since the end was written, by the clock of the
  run: the cluster's time may stand still for a while, but never runs faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hstore.node.model import commands
from hstore.node.model.checks import SERF_HEALTH, SetCheck
from hstore.node.model.commands import Command, Keyed
from hstore.node.model.locks import CreateSession, EndSession, Session
from hstore.node.raft.entry import Entry, EntryKind
from tests.histories.locks import LockKind, Step, Steps

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_LATE_S = 0.2
"""By the contract."""

_EARLY_S = 0.002
"""Of the cluster's time, which is in milliseconds, at the end of a session and at the next lock."""

_COMMIT_S = 2.0
"""For the end of a session to be committed and applied by somebody, on slow disks and links.

In a third of the runs two writes may wait at a node: then ends are proposed one by one, with ticks.
"""


class _Life:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.made_at = trio.current_time()
        self.ended_at: float | None = None
        self.is_cut_short = False


class Lifetimes:
    """The sessions of one run. `cut_short` are those whose client has asked for their end."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.cut_short: set[bytes] = set()
        self._lives: dict[bytes, _Life] = {}
        self._sent: dict[bytes, float] = {}
        # By node and session: when it was made there, or the node last got a renewal as the leader.
        self._begun: dict[tuple[int, bytes], float] = {}
        # By node and session: the term in which its end was decided first.
        self._decided: dict[tuple[int, bytes], int] = {}
        self._awaited: dict[bytes, trio.Event] = {}
        self._critical_since: dict[int, float] = {}
        # When each end of a session was written first, by its entry; when keys are free again.
        self._written: dict[tuple[int, int], float] = {}
        self._free_at: dict[bytes, float] = {}

    # -- what clients are told --------------------------------------------------------------

    def confirmed(self, session: bytes, sent_at: float) -> None:
        """A create or a renewal that was sent at some time was answered."""
        self.sim.counts["sessions kept alive"] += 1
        self._sent[session] = max(sent_at, self._sent.get(session, 0.0))
        life = self._lives.get(session)
        if life is None and not self.sim.checker.judge.book.last.is_open:
            return
        if life is None:
            self.sim.fail(f"I7: session {session.hex()} is confirmed, and was never committed")
        elif life.ended_at is not None:
            self._judge(life)

    # -- at a leader ------------------------------------------------------------------------

    def made_on(self, member: SimMember, command: Command) -> None:
        """A node has applied a command."""
        if isinstance(command, Keyed):
            command = command.command
        if isinstance(command, CreateSession):
            self._begun[member.id, command.session.id] = trio.current_time()

    def renewed_on(self, member: SimMember, session: bytes) -> None:
        """A leader has got a renewal, whatever comes of it."""
        self._begun[member.id, session] = trio.current_time()

    def end_of(self, session: bytes) -> trio.Event:
        """Return what is set as soon as a leader decides the end of a session."""
        return self._awaited.setdefault(session, trio.Event())

    def decided(self, member: SimMember, session_id: bytes, *, by_clock: bool) -> None:
        """A leader decides the end of a session: not too late (E2)."""
        if session_id in self._awaited:
            self._awaited[session_id].set()
        # The term of its clocks: the core may be in another one already, and the clocks hear of that
        # a moment later. Till then they decide again what could not be written, as in their own term.
        clocks = member.node.sessions
        place, term, life = (member.id, session_id), clocks._term, self._lives.get(session_id)
        is_first = self._decided.get(place) != term
        self._decided[place] = term
        if member.is_frozen or not (by_clock and is_first) or life is None:
            return
        options, since = self.sim.options, clocks._since
        begun = max(since, self._begun.get(place, 0.0))
        due = begun + 2 * life.session.ttl_ms / 1000
        # Of sessions that it does not know yet, no leader decides the end.
        loaded = since + (len(self._lives) / options.session_slice + 1) * options.session_pause
        late = trio.current_time() - max(due, loaded)
        self.sim.counts["ends of sessions decided by their clock"] += 1
        if late > _LATE_S:
            self.sim.fail(f"E2: node {member.id} ends {life.session} {late:.3f} s late")

    # -- what is committed ------------------------------------------------------------------

    def written(self, entries: Sequence[Entry]) -> None:
        """A node writes entries; the first that does leads, and has just stamped them."""
        if self.sim.options.clock_every or not self.sim.options.lockers:
            return
        for entry in entries:
            place = entry.index, entry.term
            if entry.kind != EntryKind.COMMAND or place in self._written:
                continue
            if isinstance(commands.decode(entry.data), EndSession):
                self._written[place] = trio.current_time()

    def applied(self, command: Command, term: int) -> None:
        """The command of the book's last page has taken effect for the first time, on some node.

        Args:
            command: What was committed.
            term: Of its entry.
        """
        if isinstance(command, Keyed):
            command = command.command
        self._check_delays()
        if isinstance(command, CreateSession):
            self._lives[command.session.id] = _Life(command.session)
        elif isinstance(command, EndSession):
            self._ended(command, term)
            self._delay(command, term)
        elif isinstance(command, SetCheck) and command.check.id == SERF_HEALTH:
            node = command.check.node
            if command.check.status != "critical":
                self._critical_since.pop(node, None)
            else:
                self._critical_since.setdefault(node, trio.current_time())

    def _ended(self, command: EndSession, term: int) -> None:
        life = self._lives[command.id]
        life.ended_at = trio.current_time()
        session = life.session
        takes_keys = session.behavior == "delete"
        kind = LockKind.END_AND_DELETE if takes_keys else LockKind.END
        history = self.sim.clients.lock_history
        steps = Steps((Step(kind, session=session.id.hex()),), is_done=True)
        history.answered(history.call("", steps), steps)
        # A node that is no member any more takes its sessions with it.
        page = self.sim.checker.judge.book.last
        life.is_cut_short |= command.check is not None or not page.has_node(session.node)
        self.sim.counts["sessions ended"] += 1
        if command.check is not None and page.has_node(session.node):
            node, check_id, _ = command.check
            if check_id == SERF_HEALTH:
                self._check_grace(session, node)
            else:
                self._check_bound(session, node, check_id)
        self._judge(life)
        self._judge_clock(life, term)

    def _check_bound(self, session: Session, node: int, check_id: str) -> None:
        """V10: another check than that has no grace, and ends a session only as long as it is critical."""
        self.sim.counts["sessions ended by another check"] += 1
        check = self.sim.checker.judge.book.last.checks.get((node, check_id))
        if check is not None and check.status != "critical":
            self.sim.fail(f"V10: {session} ends for {check_id}, which is {check.status}")

    def _check_grace(self, session: Session, node: int) -> None:
        self.sim.counts["sessions ended by the check of their node"] += 1
        since = self._critical_since.get(node)
        check = self.sim.checker.judge.book.last.checks.get((node, SERF_HEALTH))
        if check is not None and check.status != "critical":
            self.sim.fail(f"E3: {session} ends for a check that is {check.status}")
        # One that the book does not know to be critical, nobody has seen to become so: a new member's.
        if since is None:
            return
        took, grace = trio.current_time() - since, self.sim.options.settings.session_node_grace_ms
        if took < grace / 1000 - 1e-6:
            self.sim.fail(f"E3: {session} ends after {took:.3f} s of grace")

    def _judge(self, life: _Life) -> None:
        session = life.session
        if life.is_cut_short or session.id in self.cut_short or life.ended_at is None:
            return
        sent_at = self._sent.get(session.id)
        if sent_at is None:
            return
        lasted, due = life.ended_at - sent_at, 2 * session.ttl_ms / 1000
        self.sim.counts["sessions ended by their TTL"] += 1
        if not session.ttl_ms or lasted < due - 1e-6:
            self.sim.fail(f"E1: {session} ends {lasted:.3f} s after its renewal, not {due:.3f} s")

    def _judge_clock(self, life: _Life, term: int) -> None:
        """Whether the leader that has proposed the end gave the session its whole time."""
        session, ended_at = life.session, life.ended_at
        if life.is_cut_short or session.id in self.cut_short or ended_at is None:
            return
        started_at = max(life.made_at, self.sim.checker.elected_at(term))
        due = started_at + 2 * session.ttl_ms / 1000
        if ended_at < due - 1e-6:
            early = due - ended_at
            self.sim.fail(f"E1: in term {term} {session} ends {early:.3f} s before its whole time")

    # -- delays -----------------------------------------------------------------------------

    def _delay(self, command: EndSession, term: int) -> None:
        """Nobody gets the locks of a session that has ended, until their delay is over."""
        pages = self.sim.checker.judge.book.pages
        written_at = self._written.get((pages[-1].index, term))
        if written_at is None:
            return
        free_at = written_at + self._lives[command.id].session.lock_delay_ns / 1e9
        for key, cell in pages[-2].keys.items():
            if cell.session == command.id:
                self._free_at[key] = free_at

    def _check_delays(self) -> None:
        before, page = self.sim.checker.judge.book.pages[-2:]
        for key in page.changed if self._free_at else ():
            holder, cell = b"", page.keys.get(key)
            if key in before.keys:
                holder = before.keys[key].session
            if cell is None or not cell.session or cell.session == holder:
                continue
            early = self._free_at.pop(key, 0.0) - trio.current_time()
            self.sim.counts["locks taken after a delay"] += 1
            if early > _EARLY_S:
                self.sim.fail(f"E5: {key!r} is locked {early:.3f} s before its delay is over")

    # -- the end ----------------------------------------------------------------------------

    def left(self, session: bytes) -> float:
        """Return how long a session may last still that nobody renews, in peace; 0: it has ended."""
        life = self._lives.get(session)
        if life is None or life.ended_at is not None:
            return 0.0
        begin = max(life.made_at, self.sim.checker.last_election)
        left = begin + 2 * life.session.ttl_ms / 1000 + self._late_s() - trio.current_time()
        if left <= 0:
            self.sim.fail(
                f"E2: nobody renews {life.session}, and it is there: {self.sim.describe()}"
            )
        return max(left, 0.0)

    async def over(self, since: float) -> None:
        """In peace, wait until every session with a TTL must have ended (E2); nobody renews since then."""
        while there := self._timed() or self._left_over():
            begin = max(since, self.sim.checker.last_election)
            longest = max(session.ttl_ms for session in there) * 2 / 1000
            left = begin + longest + self._late_s() - trio.current_time()
            if left <= 0:
                self.sim.fail(f"E2: in peace there is still {there[0]}: {self.sim.describe()}")
                return
            await trio.sleep(min(left + 0.001, 0.5))

    def _timed(self) -> list[Session]:
        page = self.sim.checker.judge.book.last
        return [one for one in page.sessions.values() if one.ttl_ms and page.is_open]

    def _left_over(self) -> list[Session]:
        page = self.sim.checker.judge.book.last
        return [
            one for one in page.sessions.values() if page.is_open and not page.has_node(one.node)
        ]

    def _late_s(self) -> float:
        options = self.sim.options
        return _LATE_S + _COMMIT_S + 8 * (options.flush_mean + options.delay_mean)
