"""A member that lies, or runs another version: no single frame of it stops another node for good."""

from __future__ import annotations

from random import Random
from typing import Any, get_args

import pytest
import structlog
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstore.node.config import command_limits
from hstore.node.errors import BadFrame, PeerError, Refused
from hstore.node.model import commands
from hstore.node.model.checks import Check, SetCheck
from hstore.node.model.cluster_info import PROTOCOL, NodeFigures
from hstore.node.model.commands import (
    BecomeOnly,
    ChangeMember,
    ChangeSetting,
    Checkpoint,
    ClusterSettings,
    Command,
    Delete,
    DeletePrefix,
    InitCluster,
    Keyed,
    Member,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
    Transaction,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Release, Session
from hstore.node.model.transactions import (
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
)
from hstore.node.model.user_events import FireEvent, UserEvent
from hstore.node.peers import frame_check, wire
from hstore.node.peers.frame_check import TERM_JUMPED_MAX, TermCheck
from hstore.node.peers.snapshot_transfer import Incoming, Outgoing
from hstore.node.peers.wire import Forward, ForwardKind, ForwardReply, ForwardStatus
from hstore.node.raft import membership
from hstore.node.raft.core import Core
from hstore.node.raft.entry import NUMBER_MAX, Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.events import Persisted, Receive, Tick
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.options import Options
from hstore.node.state.intact import StateCheck
from hstore.node.state.machine import State
from hstore.node.storage import codec
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk
from tests.node.memory_cluster import CLUSTER_ID, Cluster, running
from tests.node.memory_cluster import Member as Process
from tests.sim.whole.hostile import FRAMES

LIAR = 3


async def say(cluster: Cluster, victim: Process, *frames: bytes, purpose: int = 0) -> bool:
    """Send frames in the name of the liar; return whether the connection is closed within 2 s."""
    dial = cluster.network.dialler(LIAR)
    stream = await dial(victim.settings.peer_address)
    liar = cluster[LIAR]
    hello = wire.Hello(
        PROTOCOL, CLUSTER_ID, LIAR, victim.id, "n3", purpose, liar.settings.peer_address,
        liar.starts << 32 | LIAR,
    )  # fmt: skip
    await stream.send_all(wire.encode(hello))
    assert await stream.receive_some()  # the welcome
    closed = False
    with trio.move_on_after(2):
        try:
            for frame in frames:
                await stream.send_all(frame)
            while await stream.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        closed = True
    await trio.aclose_forcefully(stream)
    return closed


async def still_works(cluster: Cluster, victim: Process) -> None:
    """The victim takes writes, before and after a restart from what it has on its disk."""
    await cluster.until(cluster.agrees)
    for restarts in range(2):
        if restarts:
            victim.crash()
            await victim.ended.wait()
            await victim.start()
            await cluster.until(cluster.agrees)
        await cluster.write(victim.id, "key", f"after {restarts} restarts")
        await cluster.until(
            lambda: all(m.value("key") == f"after {restarts} restarts" for m in cluster.up)  # noqa: B023
        )
    assert len(cluster.up) == 3


@pytest.mark.parametrize("whom", ["leader", "follower"])
async def test_a_frame_that_no_node_may_use_closes_its_connection_and_changes_nothing(
    whom: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        for number, (name, make) in enumerate(FRAMES.items()):
            await cluster.until(cluster.agrees)
            if cluster.leader.id == LIAR:
                await cluster[LIAR].node.administration.transfer("n1", trio.current_time() + 5)
                await cluster.until(lambda: cluster.agrees() and cluster.leader.id == 1)
            victim = cluster.leader if whom == "leader" else cluster[3 - cluster.leader.id]
            await cluster.write(1, "key", f"before {name}")
            term, log = victim.core.term, list(victim.core.log.entries)
            frame = make(Random(number), LIAR, victim)  # type: ignore[arg-type]

            with structlog.testing.capture_logs() as lines:
                assert await say(cluster, victim, wire.encode(frame)), name

            # An append of another history is one term further: that it takes over, as it must.
            assert victim.core.term <= term + 2, name
            assert set(log) <= set(victim.core.log.entries), name
            said = {line["event"] for line in lines}
            is_first = number == 0 or name == "no command"  # of its kind; others are not repeated
            assert not is_first or said & {"refused a frame", "term_jump"}, name
        await still_works(cluster, victim)


async def test_a_term_beyond_all_is_an_alarm_and_so_is_a_jump_by_more_than_a_thousand(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        victim = cluster[1]
        own = victim.core.term
        beyond = Heartbeat(LIAR, 1, NUMBER_MAX + 1, 0, 1)
        assert await say(cluster, victim, wire.encode(beyond))
        assert victim.node.alarms.holding() == ["term_jump"]
        assert victim.core.term == own

        await trio.sleep(61)
        assert victim.node.alarms.holding() == []
        near = VoteRequest(LIAR, 1, victim.core.term + 1000, 0, 0, True)
        await say(cluster, victim, wire.encode(near))
        assert victim.node.alarms.holding() == []
        far = VoteRequest(LIAR, 1, victim.core.term + 1001, 0, 0, True)
        await say(cluster, victim, wire.encode(far))
        assert victim.node.alarms.holding() == ["term_jump"]
        await still_works(cluster, victim)


async def test_the_highest_term_that_one_frame_brings_does_not_shut_a_node_out(
    autojump_clock,
) -> None:
    """Its next ballot is in a term that its peers refuse at first, or it would be at the end soon."""
    async with running(3) as cluster:
        highest = VoteRequest(LIAR, 1, TERM_JUMPED_MAX, 0, 0, True)
        await say(cluster, cluster[1], wire.encode(highest))
        await cluster.until(lambda: cluster[1].core.term >= TERM_JUMPED_MAX)

        await cluster.until(lambda: all(m.core.term > TERM_JUMPED_MAX for m in cluster.up), 30)
        await still_works(cluster, cluster[1])


def test_a_term_that_is_refused_is_taken_over_from_one_that_insists() -> None:
    check, high = TermCheck(), TERM_JUMPED_MAX + 1

    def is_taken(peer: int, now: float) -> bool:
        try:
            return check.is_jump(5, peer, high, now)
        except BadFrame:
            return False

    assert not any(is_taken(2, now) for now in (0, 2, 4, 6, 8, 9.9))
    assert not is_taken(3, 10)  # another one
    assert is_taken(2, 10)
    assert not any(is_taken(2, now) for now in (20, 22, 24, 26, 28))  # not without a break
    assert check.is_jump(high - 1000, 2, high, 40) is False


async def test_a_new_node_is_not_alarmed_by_the_term_of_its_cluster(autojump_clock) -> None:
    async with running(1) as cluster:
        cluster[1].node.received(LIAR, [VoteRequest(LIAR, 1, 5000, 0, 0, True)])
        await cluster.until(lambda: cluster[1].core.term >= 5000 and cluster[1].is_leader)
        joined = await cluster.join()
        assert joined.node.alarms.holding() == []


async def test_a_bulletin_of_a_false_term_shuts_no_other_out(autojump_clock) -> None:
    async with running(3) as cluster:
        follower = next(m for m in cluster.followers if m.id != LIAR)
        false = wire.Bulletin(follower.core.term + 900, {})
        await say(cluster, follower, wire.encode(false))

        await cluster.until(lambda: follower.health_of(LIAR) == "alive", within_s=2)
        await cluster.until(lambda: follower.health_of(follower.id) == "alive", within_s=2)


def _figures(**changes: Any) -> bytes:
    fields = {
        "state": "running", "term": 1, "commit_index": 1, "applied_index": 1, "version": "1",
        "uptime_s": 1, "reason": "", "disk_free": 1, "disk_needed": 1,
    }  # fmt: skip
    values = [*{**fields, **changes}.values(), False, False]
    return wire._encoder.encode([42, values])


@pytest.mark.parametrize(
    "changes",
    [
        {"term": -1},
        {"disk_free": -5},
        {"uptime_s": float("nan")},
        {"uptime_s": 1e300},
        {"commit_index": "many"},
        {"version": "v" * 100},
        {"reason": "r" * 3000},
        {"state": None},
    ],
    ids=str,
)
async def test_absurd_figures_are_no_report(changes: dict[str, Any], autojump_clock) -> None:
    async with running(3) as cluster:
        body = _figures(**changes)
        assert await say(cluster, cluster[1], len(body).to_bytes(4) + body)
        await still_works(cluster, cluster[1])


def test_sound_figures_are_a_report() -> None:
    body = _figures()
    frames = wire.FrameReader().feed(len(body).to_bytes(4) + body)
    assert frames == [wire.Report(NodeFigures("running", 1, 1, 1, "1", 1, "", 1, 1))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        commands.encode(Put(b"", b"v")),
        commands.encode(Put(b"\xff\xfe", b"v")),
        commands.encode(Put(b"k", b"v" * (1 << 20 | 1))),
        commands.encode(Put(b"k" * 4097, b"v")),
        commands.encode(Delete(b"\xff")),
        commands.encode(DeletePrefix(b"p" * 4097)),
        commands.encode(PutMember(Member(0, "n", "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"))),
        commands.encode(PutMember(Member(9, "n", "nowhere", "10.0.0.1:2", "10.0.0.1:3"))),
        commands.encode(PutMember(Member(9, "$(id)", "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"))),
        commands.encode(RemoveMember(-1)),
        commands.encode(BecomeOnly("ffffffffffffffff", 3, (1, 2))),
    ],
)
async def test_a_forwarded_command_that_no_node_can_carry_out_is_not_proposed(
    data: bytes, autojump_clock
) -> None:
    async with running(3) as cluster:
        leader, last = cluster.leader, cluster.leader.core.log.last_index
        said: list[tuple[int, Any]] = []
        leader.node.replica.intake._send = lambda peer, frame: said.append((peer, frame))

        leader.node.received(LIAR, [wire.Bundle([Forward(7, ForwardKind.WRITE, data, 1000)])])
        await trio.sleep(0.5)

        assert [(peer, frame.status) for peer, frame in said] == [(LIAR, ForwardStatus.REFUSED)]
        assert leader.core.log.last_index == last


async def test_only_the_node_that_was_asked_can_answer(autojump_clock) -> None:
    async with running(3) as cluster:
        follower = next(m for m in cluster.followers)
        other = next(m for m in cluster.followers if m is not follower)
        cluster.network.edit = lambda _f, _t, x: None if isinstance(x, ForwardReply) else x
        cluster.nursery.start_soon(_refused, follower)
        waiting = follower.node.replica.waiting
        await cluster.until(lambda: waiting.forwarded)
        (rid,) = waiting.forwarded

        reply = ForwardReply(rid, ForwardStatus.DONE, wire.encode_result(commands.Outcome(True, 9)))
        follower.node.received(other.id, [reply])
        assert rid in waiting.forwarded
        follower.node.received(cluster.leader.id, [ForwardReply(rid, ForwardStatus.REFUSED, b"no")])
        assert rid not in waiting.forwarded


async def _refused(follower: Process) -> None:
    with pytest.raises(Refused):
        await follower.node.keys.write(Put(b"k", b"v"), trio.current_time() + 2)


# -- a whole state ----------------------------------------------------------------------------

RECORDS = {
    "a member": (b"m" + bytes(7) + b"\x09", b"no member"),
    "a short key": (b"m\x01", b""),
    "the settings": (b"s", b"no settings"),
    "the ends of keyed writes": (b"y", bytes(8) + (1).to_bytes(8) + (9).to_bytes(8)),
    "a keyed write": (b"x\x01", b""),
    "a key that is no text": (b"k\xff", bytes(24)),
    "a short value": (b"kl", b"short"),
    "a table that is not": (b"q", b"of no table"),
    "a removed node": (b"r\x01", b""),
    "an answer": (b"w" + b"a" * 300, b""),
    "a short applied index": (b"z", b""),
}


@pytest.mark.parametrize(
    "name", [*RECORDS, "not the whole", "no voters", "a short chain", "later term"]
)
async def test_a_state_that_cannot_be_read_is_not_installed(name: str, autojump_clock) -> None:
    async with running(3) as cluster:
        # From the leader itself: of any other the core takes none.
        await cluster[1].node.administration.transfer("n3", trio.current_time() + 5)
        await cluster.until(lambda: cluster.agrees() and cluster.leader.id == LIAR)
        victim = cluster[1]
        term, index = victim.core.term, victim.core.log.commit + 5
        config = Configuration() if name == "no voters" else victim.core.config
        chain = b"short" if name == "a short chain" else bytes(16)
        meta = SnapshotMeta(index, term + (name == "later term"), config, chain)
        end = index - (name == "not the whole")
        records = {b"kk": bytes(24) + b"v", b"z": end.to_bytes(8) + term.to_bytes(8)}
        records |= dict([RECORDS[name]] if name in RECORDS else [])
        pairs = sorted(records.items())
        outgoing = Outgoing(99, meta, lambda _: iter(pairs))
        start = outgoing.start(term)
        outgoing.resume(Incoming(start).position())
        frames: list[wire.Frame] = [start]
        while not outgoing.is_exhausted:
            frames.append(outgoing.next_frame())

        assert await say(cluster, victim, *map(wire.encode, frames), purpose=wire.Purpose.SNAPSHOT)

        assert victim.core.log.snapshot_index != index
        await still_works(cluster, victim)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.binary(max_size=40))))
def test_any_records_are_a_state_or_an_error_of_the_peer(pairs: list[tuple[bytes, bytes]]) -> None:
    check = StateCheck()
    pairs = sorted(dict(pairs).items())
    pairs.append((b"z", (7).to_bytes(8) + (2).to_bytes(8)))
    try:
        check.take(pairs)
        check.end(7, 2)
    except BadFrame:
        return
    disk = MemoryDisk(Identity(CLUSTER_ID, 1))
    storage = disk.open()
    storage.load()
    storage.state.write(pairs, [], [])
    state = State(storage.state)
    assert state.applied == 7
    for key, _ in pairs:
        if key[:1] == b"k":
            assert state.get(key[1:]) is not None


# -- what may be in the log -------------------------------------------------------------------

numbers = st.one_of(st.integers(-3, 9), st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1]))
unsigned = st.one_of(st.integers(0, 9), st.sampled_from([2**62, 2**62 + 1, 2**64 - 1]))
keys = st.sampled_from([b"", b"k", "é".encode(), b"\xff", b"k" * 4096, b"k" * 4097])
addresses = st.sampled_from(["", "10.0.0.1:8500", "10.0.0.2:1", "[::1]:9", "x:1", "10.0.0.1:0"])
names = st.sampled_from(["", "n1", "n2", "N", "a.b", "x" * 64])
members = st.builds(Member, numbers, names, addresses, addresses, addresses)
puts = st.builds(Put, keys, st.just(b"v"), unsigned, st.none() | unsigned, st.booleans())
deletes = st.builds(Delete, keys, st.none() | unsigned)
prefixes = st.builds(DeletePrefix, keys)
an_id = st.binary(min_size=1, max_size=3)
digests = st.just(b"d" * 16)
cluster_settings = st.builds(
    ClusterSettings,
    st.sampled_from(["hstore.local", "", "a" * 300]),
    numbers,
    numbers,
    numbers,
    numbers,
)
fields = st.sampled_from(
    ["heartbeat_ms", "election_timeout_ms", "health_interval_ms", "dns_ttl_s", "datacenter"]
)
texts = st.sampled_from(["", "x", "serfHealth", "_x", "é" * 9_000])
uuids = st.sampled_from([bytes(16), b"s" * 16, b"t" * 16])
acquires = st.builds(Acquire, keys, st.just(b"v"), unsigned, uuids, unsigned)
releases = st.builds(Release, keys, st.just(b"v"), unsigned, uuids)
some_sessions = st.builds(
    Session,
    uuids,
    texts,
    unsigned,
    st.sampled_from([0, 10**9, 60 * 10**9, 61 * 10**9]),
    st.sampled_from(["release", "delete"]),
    texts,
    unsigned,
    st.lists(texts, max_size=2).map(tuple),
    st.none(),
    unsigned,
)
creates = st.builds(CreateSession, some_sessions)
ends = st.builds(EndSession, uuids, st.none() | st.tuples(unsigned, texts, unsigned), unsigned)
some_checks = st.builds(
    Check, unsigned, texts, texts, st.sampled_from(["passing", "critical"]), texts, unsigned
)
events = st.builds(
    UserEvent, uuids, texts, st.sampled_from([b"", b"p" * 5_000]), texts, texts, texts, unsigned
)
transactions = st.builds(
    Transaction,
    st.lists(
        st.one_of(
            puts,
            deletes,
            prefixes,
            acquires,
            releases,
            st.builds(Get, keys),
            st.builds(GetTree, keys),
            st.builds(CheckIndex, keys, unsigned),
            st.builds(CheckSession, keys, uuids),
            st.builds(CheckNotExists, keys),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    unsigned,
)
locking = st.one_of(acquires, releases, creates, ends, transactions, st.builds(FireEvent, events))
anything: st.SearchStrategy[Command] = st.one_of(
    puts,
    deletes,
    prefixes,
    locking,
    st.builds(SetCheck, some_checks, unsigned),
    st.builds(Keyed, an_id, digests, st.one_of(puts, deletes, prefixes, locking), unsigned),
    st.builds(InitCluster, st.just(CLUSTER_ID), cluster_settings, unsigned),
    st.builds(PutMember, members),
    st.builds(RemoveMember, numbers),
    st.builds(ReplaceMember, members, numbers),
    st.just(Checkpoint()),
    st.builds(ChangeSetting, fields, unsigned | st.sampled_from(["dc2", "no name", "ü" * 64])),
    st.builds(ChangeMember, numbers, st.none() | names, st.none(), st.none()),
    st.builds(BecomeOnly, st.just(CLUSTER_ID), numbers, st.lists(numbers, max_size=2).map(tuple)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(anything, max_size=8))
def test_every_node_can_carry_out_what_may_be_in_the_log(given_: list[Command]) -> None:
    disk = MemoryDisk(Identity(CLUSTER_ID, 1))
    storage = disk.open()
    storage.load()
    state = State(storage.state)
    sound = [data for one in given_ if not command_limits.fault_in(data := commands.encode(one))]

    state.apply([Entry(i, 1, EntryKind.COMMAND, data) for i, data in enumerate(sound, 1)])

    again = State(storage.state)
    assert (again.members, again.settings) == (state.members, state.settings)
    assert all(not command_limits.settings_fault(again.settings) for _ in sound)
    if sound:
        view = again.snapshot()
        check = StateCheck()
        check.take(list(view.scan(b"")))
        check.end(again.applied, again.applied_term)
        view.close()


def test_every_command_has_a_check() -> None:
    assert set(command_limits._FAULTS) == set(get_args(Command))


# -- any frame against a real core ------------------------------------------------------------

terms = st.one_of(st.integers(0, 6), st.sampled_from([1000, 2**62, 2**63, 2**64 - 1]))
indexes = st.one_of(st.integers(0, 9), st.sampled_from([10**6, 2**62, 2**62 + 1, 2**64 - 1]))
configs = st.builds(
    Configuration,
    st.lists(numbers, max_size=4).map(tuple),
    st.lists(numbers, max_size=2).map(tuple),
    st.lists(numbers, max_size=2).map(tuple),
    st.lists(numbers, max_size=2).map(tuple),
    st.booleans(),
)
payloads = st.one_of(
    st.just(commands.encode(Put(b"k", b"v"))), st.just(b"\xc1"), configs.map(membership.encode)
)
entries = st.builds(Entry, indexes, terms, st.integers(0, 3) | numbers, payloads)
following = st.builds(
    lambda prev, term, kinds: [Entry(prev + i, term, *kind) for i, kind in enumerate(kinds, 1)],
    st.integers(0, 6),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 2), payloads), max_size=3),
)
frm, to = st.sampled_from([2, 3]), st.just(1)
messages = st.one_of(
    st.builds(PreVoteRequest, frm, to, terms, indexes, terms),
    st.builds(PreVoteResponse, frm, to, terms, st.booleans()),
    st.builds(VoteRequest, frm, to, terms, indexes, terms, st.booleans()),
    st.builds(VoteResponse, frm, to, terms, st.booleans()),
    st.builds(
        Append, frm, to, terms, indexes, terms, st.lists(entries, max_size=3) | following, indexes
    ),
    st.builds(AppendResponse, frm, to, terms, indexes, st.booleans(), indexes, terms),
    st.builds(Heartbeat, frm, to, terms, indexes, indexes),
    st.builds(HeartbeatResponse, frm, to, terms, indexes),
    st.builds(InstallSnapshot, frm, to, terms, st.builds(SnapshotMeta, indexes, terms, configs)),
    st.builds(ReadIndexRequest, frm, to, terms, unsigned),
    st.builds(ReadIndexResponse, frm, to, terms, unsigned, st.none() | indexes),
    st.builds(TimeoutNow, frm, to, terms),
)


def arrives(core: Core, message: Any) -> Any:
    """Return the message as the core gets it; None: it does not."""
    try:
        (frame,) = wire.FrameReader().feed(wire.encode(message))
        frame_check.check([frame])
        TermCheck().is_jump(core.term, 2, frame.term, 0.0)  # type: ignore[union-attr]
    except PeerError:
        return None
    return frame


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(messages, st.just(Tick())), max_size=30))
def test_no_frames_of_members_raise_anything_in_a_core(given_: list[Any]) -> None:
    put = commands.encode(Put(b"k", b"v"))
    log = [Entry(1, 1, EntryKind.CONFIG, membership.encode(Configuration((1, 2, 3))))]
    log += [Entry(i, 1, EntryKind.COMMAND, put) for i in range(2, 6)]
    core = Core(1, Options(election_ticks=3), Random(1), hard_state=HardState(1, 0, 3), entries=log)
    chain = codec.GENESIS
    for one in given_:
        event = one if isinstance(one, Tick) else arrives(core, one)
        if event is None:
            continue
        update = core.step(event if isinstance(event, Tick) else Receive(event))
        while update.persist is not None:
            persist = update.persist
            for entry in persist.entries:
                codec.encode_entry(entry, chain)
            assert core.term < 2**63
            update = core.step(Persisted(persist.seq))


@pytest.mark.parametrize("refusal", [wire.Refusal.REMOVED, wire.Refusal.DUPLICATE])
async def test_what_one_member_says_ends_no_node_that_its_leader_counts(
    refusal: wire.Refusal, autojump_clock
) -> None:
    async with running(3) as cluster:
        for victim in (cluster.leader, *cluster.followers):
            for other in cluster.up:
                if other.id not in (victim.id, cluster.leader.id):
                    victim.node.refused(other.id, refusal, "10.0.0.9:8300")
        await cluster.until(cluster.agrees)
        assert len(cluster.up) == 3
        assert not any(m.node.process.stop_requested.is_set() for m in cluster.up)


async def test_names_of_nodes_that_are_none_are_not_kept_without_end(autojump_clock) -> None:
    async with running(2) as cluster:
        node = cluster[1].node
        report = wire.Report(NodeFigures("running", 1, 1, 1, "1", 1))
        for stranger in range(1000, 5000):
            node.said_hello(stranger, "10.0.0.9:8300")
            node.received(stranger, [report])
        assert len(node.replica.heard) < 1100
        assert len(node.status._health._figures) < 1100
        assert 2 in node.replica.heard
