"""Clients that wait for a change: blocking reads of keys, of prefixes, of sessions and of events.

- W1: who waits with an index is answered with a greater one, or when the time is over; an index that
  is told is never lower than one that anybody was told for the same question before it was asked.
- W4: who waits since before the leader was asked is answered from a state that has all that was
  committed then.
- W2: who waits is answered soon after the node that he asked has applied a change of the result; after
  an election, or the start that has made a majority, if there was one meanwhile.
"""

from __future__ import annotations

import bisect
import uuid
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from hstore.node.api.dialect.questions import UnaskedWait
from hstore.node.errors import HstoreError
from hstore.node.model.commands import Put
from tests.histories.models import Action, Kind

from ..tables.judge import Question
from .clients import Answer, Client, Clients

if TYPE_CHECKING:
    from hstore.node.api.http.waiting import Due, Wait

    from .member import SimMember
    from .simulation import WholeSimulation

_WAITS_S = (0.5, 2.0, 6.0)
_SOON_S = 0.5
"""From the turn in which a change is applied to the answer on its way; beside that of the network."""

_OF_NODES = ("nodes", "named")
"""Questions about all nodes, and about the sessions of one, by its name."""

_PEACE_S = 3.0
_AT_THE_END = b"at-the-end"


def unasked_watched(sim: WholeSimulation) -> list[tuple[Any, str, object]]:
    """Return what looks at reads that wait before the leader is asked: (class, name, function)."""
    begun, look, over = UnaskedWait.begun, UnaskedWait.look, UnaskedWait.over
    committed: dict[UnaskedWait, int] = {}

    def watched_begun(wait: UnaskedWait, query: dict[str, str]) -> Wait | None:
        begins = begun(wait, query)
        if begins is not None:
            sim.counts["reads that wait before the leader is asked"] += 1
            committed[wait] = sim.checker.committed
        return begins

    def check(wait: UnaskedWait, found: Due | None) -> Due | None:
        if isinstance(found, bytes):
            sim.counts["reads that were proven by a later read index"] += 1
            applied = wait._exchange.keys.applied_index
            if applied < committed[wait]:
                sim.fail(f"W4: answers from {applied}, {committed[wait]} was committed before")
        elif found is not None:
            sim.counts["reads that were due before they were proven"] += 1
        return found

    return [
        (UnaskedWait, "begun", watched_begun),
        (UnaskedWait, "look", lambda wait: check(wait, look(wait))),
        (UnaskedWait, "over", lambda wait: check(wait, over(wait))),
    ]


class Waiter(Client):
    """One client; it asks the same question again and again, of any node."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._index = 0
        self._question: Question = ("key", b"l0")
        self._begun = 0.0

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        return answer.status in (200, 404) and answer.result_index > 0

    async def ask_something(self) -> None:
        """See `Client`."""
        rng = self.rng
        if not self._index or rng.random() < 0.1:
            self._question, self._index = self._draw(), 0
        wait_s = rng.choice(_WAITS_S)
        at_least = self.sim.told_indexes.get(self._question, 0)
        before, self._begun = self._index, trio.current_time()
        is_noted = self._question[0] == "key" and self._question[1].startswith(b"k")
        key, history = self._question[1].decode(errors="replace"), self.clients.history
        asked = history.call(key, Action(Kind.READ), f"client {self.number}") if is_noted else None
        answer = await self.ask_for(self._question, before, wait_s, self._whom())
        if asked is not None:
            self.note_read(key, asked, answer)
        if answer is None or answer.is_unavailable:
            return
        self._index = answer.result_index
        told = self.sim.told.setdefault((self._question, self._index), answer.body)
        if told != answer.body:
            about = f"{self._question}: told with {self._index}"
            self.sim.fail(f"W1: {about}: {answer.body!r:.300}, and elsewhere {told!r:.300}")
        self._compare(before, at_least, trio.current_time() - self._begun, wait_s)

    async def ask_for(
        self, question: Question, index: int, wait_s: float, member: SimMember | None = None
    ) -> Answer | None:
        """Ask a question, and wait until its index passes `index`, if that is not 0."""
        path = _path(question)
        if not index:
            return await self._send("GET", path, member=member)
        sign = "&" if "?" in path else "?"
        path += f"{sign}index={index}&wait={wait_s}s"
        return await self._send("GET", path, wait_s=wait_s * 17 / 16, member=member)

    def _whom(self) -> SimMember | None:
        """Return whom to ask; None: anybody."""
        return None

    def _draw(self) -> Question:
        rng, page = self.rng, self.sim.checker.judge.book.last
        kind = rng.choice(("key", "key", "tree", "session", "sessions", "events", *_OF_NODES))
        if kind == "named":
            return kind, b"n%d" % rng.choice(list(self.sim.members))
        if kind == "session":
            known = list(page.indexes.sessions)
            return kind, rng.choice(known) if known else bytes(16)
        if kind in ("key", "tree"):
            return kind, rng.choice((b"l0", b"l1", b"k%d" % rng.randrange(self.options.keys)))
        return kind, b""

    def _compare(self, before: int, at_least: int, took: float, wait_s: float) -> None:
        sim, index = self.sim, self._index
        about = f"{self._question}: answered with {index} after {took:.3f} s"
        if index > sim.checker.judge.book.last.index:
            sim.fail(f"W1: {about}, which is yet to come")
            return
        if index < max(at_least, 1):
            sim.fail(f"W1: {about}, {at_least} was told before it was asked")
        sim.told_indexes[self._question] = max(index, sim.told_indexes.get(self._question, 0))
        if not before:
            return
        if index < before or (index == before and took < wait_s):
            sim.fail(f"W1: {about}, it waited for more than {before} for {wait_s} s")
        sim.counts["waits answered" if index > before else "waits over"] += 1
        if index > before:
            self._check_soon(before, about)

    def _check_soon(self, before: int, about: str) -> None:
        """The node that was asked must not have had the change for long."""
        sim, member = self.sim, self.member
        judge = sim.checker.judge
        if self._question[0] == "named":
            return  # Which node has that name, the book does not know.
        changed = judge.changed_at(self._question, judge.book.pages[self._index])
        known_at = sim.checker.applied_at(member.id, member.lives, changed)
        if changed <= before or known_at is None or not self.was_undisturbed:
            return
        # Without a leader, or a majority that hears it, nobody proves that this is the newest.
        could_at = max(sim.checker.last_election, majority_runs_since(sim, member))
        ago = trio.current_time() - max(known_at, self._begun, could_at)
        if ago > _SOON_S + 40 * self.options.delay_mean:
            sim.fail(f"W2: {about}, {ago:.3f} s after node {member.id} applied {changed}")


class Follower(Waiter):
    """One that follows a key at one node, as real clients do, until it loses that node."""

    def _whom(self) -> SimMember | None:
        """See `Waiter`."""
        is_known = bool(self._connections)  # Closed where a request had no answer.
        return self.member if is_known and self.member.is_up else None

    def _draw(self) -> Question:
        return "key", b"k%d" % self.rng.randrange(self.options.keys)


def majority_runs_since(sim: WholeSimulation, member: SimMember) -> float:
    """Return since when the same majority of the voters that a node knows runs; now: none does."""
    now = trio.current_time()
    if not member.is_up:
        return now
    voters = member.core.config.all_voters()
    members = [sim.members[voter] for voter in voters if voter in sim.members]
    since = sorted(one.started_at if one.is_up else now for one in members)
    return since[len(voters) // 2] if len(since) > len(voters) // 2 else now


def _path(question: Question) -> str:
    kind, what = question
    if kind == "key":
        return f"/v1/kv/{what.decode()}"
    if kind == "tree":
        return f"/v1/kv/{what.decode()}?recurse"
    if kind == "session":
        return f"/v1/session/info/{uuid.UUID(bytes=what)}"
    return _PATHS[kind] + what.decode()


_PATHS = {
    "sessions": "/v1/session/list",
    "events": "/v1/event/list",
    "nodes": "/v1/catalog/nodes",
    "named": "/v1/session/node/",
}


class AppliedAt:
    """When each life of each node had applied how much."""

    def __init__(self) -> None:
        self._times: dict[tuple[int, int], tuple[list[int], list[float]]] = {}

    def note(self, member: int, life: int, index: int) -> None:
        """A node has come to an index."""
        indexes, times = self._times.setdefault((member, life), ([], []))
        indexes.append(index)
        times.append(trio.current_time())

    def __call__(self, member: int, life: int, index: int) -> float | None:
        """Return when a life of a node had applied an entry; None: never."""
        indexes, times = self._times.get((member, life), ([], []))
        place = bisect.bisect_left(indexes, index)
        return times[place] if place < len(times) else None


async def wait_in_peace(sim: WholeSimulation, members: Sequence[SimMember]) -> None:
    """See that who waits at each member is answered soon after a write, and by what was written.

    Twice: the second time may begin before the leader was asked, and the write comes at once or later.
    Some wait for the key itself, some for all with that prefix.
    """
    questions: tuple[Question, Question] = ("tree", _AT_THE_END), ("key", _AT_THE_END)
    answered: dict[int, int] = {}
    waiters = [Waiter(sim.clients, 1000 + m.id, Random(m.id)) for m in members]

    async def wait(waiter: Waiter, member: SimMember) -> None:
        question = questions[(member.id + sim.seed) % 2]
        answer = await waiter.ask_for(question, 0, 0.0, member)
        while answer is not None and answer.status in (200, 404):
            answered[member.id] = answer.result_index
            answer = await waiter.ask_for(question, answer.result_index, 60.0, member)

    async with trio.open_nursery() as nursery:
        for waiter, member in zip(waiters, members, strict=True):
            nursery.start_soon(wait, waiter, member)
        for number, pause_s in enumerate((_SOON_S, 4 * sim.options.delay_mean, 2 * _SOON_S)):
            await trio.sleep(pause_s)
            revision = await _put(members[0], _AT_THE_END, b"end %d" % number)
            with trio.move_on_after(_PEACE_S):
                while any(answered.get(m.id) != revision for m in members):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            late = {member.id for member in members if answered.get(member.id) != revision}
            if revision and late:
                sim.fail(
                    f"W2: in peace nodes {sorted(late)} do not tell who waits of {revision}: {answered}"
                )
        nursery.cancel_scope.cancel()
    for waiter in waiters:
        waiter.close()


async def _put(member: SimMember, key: bytes, value: bytes) -> int:
    try:
        return (await member.node.keys.write(Put(key, value), trio.current_time() + 5)).revision
    except HstoreError:
        return 0
