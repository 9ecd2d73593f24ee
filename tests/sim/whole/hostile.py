"""A member that lies: frames that no node may use arrive in the name of a member.

They come on a connection of their own, which takes the place of that member's as a new one does.

- P4: a node uses nothing of such a frame: it closes the connection, its term and its log stay as
  they were, and it lives on. That it ends is I14, as whatever else it ends by. That a state is
  installed is I11: nobody has committed it.

- So it is with figures (`AskStatistics`): an answer that is none to the question, comes from another
  than the one who was asked, too late, or is asked for with what nobody keeps, is not used, and ends no
  node. Who asks is answered in time, whoever is silent.

A lie that is possible in the protocol (a vote, an acknowledgement, a lead that was won) is not told:
Raft does not withstand it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from hstore.node.model import commands
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.model.commands import Keyed, Member, Put, PutMember, RemoveMember
from hstore.node.model.statistics import SPANS, STEPS, Points, Question
from hstore.node.peers import wire
from hstore.node.peers.snapshot_transfer import Incoming, Outgoing
from hstore.node.raft import membership
from hstore.node.raft.entry import NUMBER_MAX, Entry, EntryKind, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVoteRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
)
from hstore.node.storage.interface import APPLIED_KEY, pack_applied

from .member import CLUSTER_ID
from .wires import End

if TYPE_CHECKING:
    from hstore.node.node import Node

    from .member import SimMember
    from .simulation import WholeSimulation

_PATIENCE_S = 1.0

_BEYOND = NUMBER_MAX + 1

_Make = Callable[[Random, int, "SimMember"], wire.Frame]


class Hostile:
    """The frames of one run that nobody may use."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.counts = sim.counts
        self._refused: dict[tuple[int, int], int] = {}
        self._told: set[tuple[int, int]] = set()

    def broke_protocol(self, member: SimMember, peer: int, error: Exception) -> None:
        """`member` says that `peer` has sent what it does not use."""
        if (peer, member.id) in self._told:
            self._refused[peer, member.id] = self._refused.get((peer, member.id), 0) + 1
        else:
            self.sim.fail(f"I14: node {member.id} refuses a frame of node {peer}: {error}", error)

    async def strike(self, rng: Random) -> None:
        """Send one such frame, and see what becomes of its receiver."""
        up = [member for member in self.sim.members.values() if member.is_up]
        if len(up) < 2:
            return
        liar, victim = rng.sample(up, 2)
        self._told.add((liar.id, victim.id))
        if rng.random() < 0.2:
            await self._send_state(rng, liar, victim)
            return
        name = rng.choice(list(FRAMES))
        before = self._refused.get((liar.id, victim.id), 0)
        is_closed = await self._say(liar, victim, FRAMES[name], rng)
        if is_closed is None:
            return
        self.counts[f"hostile: {name}"] += 1
        if self._refused.get((liar.id, victim.id), 0) > before:
            self.counts["hostile frames refused"] += 1

    async def ask(self, rng: Random) -> None:
        """Have a member ask for figures, and answer in the name of another; ask it odd questions, too."""
        up = [member for member in self.sim.members.values() if member.is_up]
        if len(up) < 2:
            return
        liar, victim = rng.sample(up, 2)
        node, others = victim.node, [member.id for member in up if member is not victim]
        question = Question(("keys", "dns_per_s"), rng.choice(STEPS))
        odd = wire.AskStatistics(_BEYOND, rng.choice(_ODD_QUESTIONS))
        found: dict[int, Points] = {}
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def gather() -> None:
                with trio.move_on_after(2 * _ANSWERED_S):
                    found.update(await node.statistics.gather(others, question))

            nursery.start_soon(gather)
            await trio.sleep(1e-5)  # It has asked, and no answer is here yet.
            asked = [*node.statistics._questions._waiting, _BEYOND]
            lies: list[wire.Frame] = [
                wire.StatisticsReply(number, _lie(rng, question)) for number in asked
            ]
            self._hand(victim, node, liar, [odd, *lies])
        took = trio.current_time() - began
        self._hand(victim, node, liar, lies)  # Once more, too late.
        for peer, points in found.items():
            sizes = {len(data) for data in points.series.values()}
            is_whole = len(sizes) <= 1 and not any(size % 8 for size in sizes)
            fits = points.step == question.step and points.series.keys() <= {*question.series}
            if not (is_whole and fits) or (points.since_ms == _LIED_MS and peer != liar.id):
                self.sim.fail(f"P4: node {victim.id} takes {points} for an answer of node {peer}")
        if took > _ANSWERED_S:
            self.sim.fail(f"P4: node {victim.id} has waited {took:.1f} s for figures")
        self.counts["figures asked for among lies"] += 1

    def _hand(
        self, victim: SimMember, node: Node, liar: SimMember, frames: list[wire.Frame]
    ) -> None:
        """Let a node read frames, if it still runs."""
        if victim.node is not node or not victim.is_up:
            return
        try:
            node.received(liar.id, frames)
        except Exception as error:  # noqa: BLE001 - whatever it is, it would end the node
            self.sim.fail(f"I14: node {victim.id} ends by frames about figures: {error!r}", error)

    async def _say(
        self, liar: SimMember, victim: SimMember, make: _Make, rng: Random
    ) -> bool | None:
        """Send a frame; return whether the connection was closed; None: it did not get there."""
        with trio.move_on_after(_PATIENCE_S):
            try:
                end = await self._greeted(liar, victim, wire.Purpose.MESSAGES)
            except (OSError, trio.BrokenResourceError):
                return None
            life, is_sent = victim.lives, False
            try:
                if not await _is_welcomed(end) or not victim.is_up:
                    return None
                frame, is_sent = make(rng, liar.id, victim), True
                await end.send_all(wire.encode(frame))
                rest = await end.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                rest = b""
            finally:
                end.close()
            if rest:
                self.sim.fail(f"P4: node {victim.id} answers {rest!r}")
            if is_sent and victim.is_up and victim.lives == life:
                self._check(victim, frame)
            return True if is_sent else None
        # It may be paused, or the network parted: the frame may have got there all the same.
        return None

    def _check(self, victim: SimMember, frame: wire.Frame) -> None:
        log = victim.core.log
        if victim.core.term >= NUMBER_MAX or log.commit >= NUMBER_MAX:
            self.sim.fail(f"P4: node {victim.id} is in term {victim.core.term} by {frame}")
        if isinstance(frame, Append):
            taken = [e for e in frame.entries if e in log.entries[-len(frame.entries) - 2 :]]
            if taken and frame.entries[0].data == _BAD:
                self.sim.fail(f"P4: node {victim.id} has entries of {frame}")

    async def _greeted(self, liar: SimMember, victim: SimMember, purpose: wire.Purpose) -> End:
        end = await self.sim.wires.dial(liar.id, victim.settings.peer_address)
        hello = wire.Hello(
            PROTOCOL, CLUSTER_ID, liar.id, victim.id, f"n{liar.id}", purpose,
            liar.settings.peer_address, liar.lives << 32 | liar.id,
        )  # fmt: skip
        await end.send_all(wire.encode(hello))
        return end

    async def _send_state(self, rng: Random, liar: SimMember, victim: SimMember) -> None:
        """Send a state of which one record, or the whole, is of no use.

        That it is installed is I11, which looks at each install: the log alone does not show it. The
        receiver may commit meanwhile, and cut its own log at the very index that this state is of.
        """
        core = victim.core
        index = core.log.commit + 5
        config = Configuration() if rng.random() < 0.2 else core.config
        meta = SnapshotMeta(index, core.term, config, bytes(16))
        pairs = [(b"kk", bytes(24) + b"v"), rng.choice(_RECORDS)]
        if rng.random() < 0.5:
            # But for the other records it is whole.
            pairs.append((APPLIED_KEY, pack_applied(index, core.term)))
        outgoing = Outgoing(rng.getrandbits(62), meta, lambda _after: iter(sorted(pairs)))
        start = outgoing.start(core.term)
        with trio.move_on_after(_PATIENCE_S):
            try:
                end = await self._greeted(liar, victim, wire.Purpose.SNAPSHOT)
                await end.send_all(wire.encode(start))
                outgoing.resume(Incoming(start).position())
                while not outgoing.is_exhausted:
                    await end.send_all(wire.encode(outgoing.next_frame()))
                while await end.receive_some():
                    pass
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            self.counts["hostile states"] += 1


async def _is_welcomed(end: End) -> bool:
    reader = wire.FrameReader()
    while data := await end.receive_some():
        for frame in reader.feed(data):
            return isinstance(frame, wire.Welcome) and not frame.refusal
    return False


# -- frames -----------------------------------------------------------------------------------

_BAD = b"\xc1 no command"

_RECORDS = [
    (b"m" + bytes(7) + b"\x09", b"no member"),
    (b"m\x01", b"\x81\xa2id\x09"),
    (b"s", b"no settings"),
    (b"y", bytes(8) + (1).to_bytes(8) + (9).to_bytes(8)),
    (b"x\x01", b""),
    (b"k\xff", bytes(24)),
    (b"kl", b"short"),
    (b"q", b"of no table"),
    (b"r\x01", b""),
    (b"w" + b"a" * 300, b""),
]


def _following(victim: SimMember, *payloads: tuple[int, bytes]) -> Append:
    """Return an append that continues this node's log, from itself as the leader."""
    log, term = victim.core.log, victim.core.term
    entries = [
        Entry(i, term, kind, data) for i, (kind, data) in enumerate(payloads, log.last_index + 1)
    ]
    return Append(0, victim.id, term, log.last_index, log.last_term, entries, log.commit)


def _carrying(data: bytes, kind: int = EntryKind.COMMAND) -> _Make:
    return lambda _rng, me, victim: _from(me, _following(victim, (kind, data)))


def _from(me: int, message: Append) -> Append:
    return Append(
        me,
        message.to,
        message.term,
        message.prev_index,
        message.prev_term,
        message.entries,
        message.commit,
    )


def _conflict(_rng: Random, me: int, victim: SimMember) -> wire.Frame:
    log, term = victim.core.log, victim.core.term
    index = log.commit
    data = commands.encode(Put(b"k", b"of another history"))
    before = log.term_at(index - 1)
    entry = Entry(index, term + 1, EntryKind.COMMAND, data)
    if index <= 1 or before is None:
        entry = Entry(index + 7, term + 1, EntryKind.COMMAND, data)
    return Append(me, victim.id, term + 1, index - 1, before or 0, [entry], index)


def _jumping(make: Callable[[int, int, int], wire.Frame]) -> _Make:
    return lambda rng, me, victim: make(me, victim.id, rng.choice((NUMBER_MAX, _BEYOND, 2**64 - 1)))


_LIED_MS = 666
_ANSWERED_S = 4.1  # Twice 2 s: for a place, and for the answers.

_ODD_QUESTIONS = (
    Question((), 1),
    Question(("of nobody",), 1),
    Question(("keys", "keys"), 7),
    Question(("keys",), 2**64 - 1),
    Question(("keys",), 120, 2**64 - 1),
)


def _lie(rng: Random, question: Question) -> Points:
    """Return an answer that is none to the question, or might be one."""
    step = question.step
    return rng.choice(
        (
            Points(step, _LIED_MS, {}),
            Points(step, _LIED_MS, {"keys": bytes(16), "dns_per_s": bytes(16)}),
            Points(step + 1, _LIED_MS, {"keys": bytes(8)}),
            Points(step, _LIED_MS, {"keys": bytes(8), "dns_per_s": bytes(16)}),
            Points(step, _LIED_MS, {"keys": bytes(7)}),
            Points(step, _LIED_MS, {"memory_bytes": bytes(8)}),
        )
    )


_TOO_LONG = bytes(8 * (SPANS[-1].points + 1))

_CONFIGS = (
    Configuration(),
    Configuration((0,)),
    Configuration((2, 1)),
    Configuration(tuple(range(1, 3000))),
    Configuration((1,), (1,)),
    Configuration((1,), auto_leave=True),
)

FRAMES: dict[str, _Make] = {
    "heartbeat of a term beyond": _jumping(lambda me, to, n: Heartbeat(me, to, n, 0, 1)),
    "append of a term beyond": _jumping(lambda me, to, n: Append(me, to, n, 0, 0, [], 0)),
    "ballot of a term beyond": _jumping(lambda me, to, n: VoteRequest(me, to, n, 0, 0)),
    "transfer of a term beyond": _jumping(lambda me, to, n: VoteRequest(me, to, n, 0, 0, True)),
    "pre-ballot of a term beyond": _jumping(lambda me, to, n: PreVoteRequest(me, to, n, 0, 0)),
    "answer of a term beyond": _jumping(lambda me, to, n: AppendResponse(me, to, n, 0, True)),
    "round of a term beyond": _jumping(lambda me, to, n: HeartbeatResponse(me, to, n, 1)),
    "read of a term beyond": _jumping(lambda me, to, n: ReadIndexResponse(me, to, n, 1, None)),
    "hand-over of a term beyond": _jumping(TimeoutNow),
    "bulletin of a term beyond": _jumping(lambda _me, _to, n: wire.Bulletin(n, {})),
    "commit beyond": lambda _, me, v: Heartbeat(me, v.id, v.core.term, _BEYOND, 1),
    "index beyond": lambda _, me, v: Append(me, v.id, v.core.term, _BEYOND, 0, [], 0),
    "no command": _carrying(_BAD),
    "no entry of a known kind": _carrying(b"", 9),
    "a time beyond": _carrying(commands.encode(Keyed(b"k", bytes(16), Put(b"k", b""), 2**64 - 1))),
    "a key that is no text": _carrying(commands.encode(Put(b"\xff", b""))),
    "a member that cannot be": _carrying(commands.encode(PutMember(Member(-1, "", "", "", "")))),
    "an id that cannot be": _carrying(commands.encode(RemoveMember(-5))),
    "no configuration": _carrying(_BAD, EntryKind.CONFIG),
    "a configuration that cannot be": lambda rng, me, victim: _from(
        me, _following(victim, (EntryKind.CONFIG, membership.encode(rng.choice(_CONFIGS))))
    ),
    "another history": _conflict,
    "figures that are too many": lambda _rng, _me, _v: wire.StatisticsReply(
        1, Points(1, 0, {"keys": _TOO_LONG})
    ),
    "figures of too many series": lambda _rng, _me, _v: wire.StatisticsReply(
        1, Points(1, 0, {str(number): b"" for number in range(33)})
    ),
    "a question for too many figures": lambda _rng, _me, _v: wire.AskStatistics(
        1, Question(("keys",) * 33, 1)
    ),
    "a question for a long name": lambda _rng, _me, _v: wire.AskStatistics(
        1, Question(("k" * 33,), 1)
    ),
    "a snapshot without a state": lambda _, me, v: InstallSnapshot(
        me, v.id, v.core.term, SnapshotMeta(v.core.log.commit + 9, v.core.term, v.core.config)
    ),
}
"""By name: a frame from a member, to another one."""
