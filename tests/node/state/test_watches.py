"""What a watch sees: every change under its prefix, in order, once; or that it cannot."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.driver import compaction
from hstore.node.errors import Compacted
from hstore.node.model import commands
from hstore.node.model.commands import Command, Delete, DeletePrefix, Keyed, Put
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state import batch as batches
from hstore.node.state.machine import State
from hstore.node.state.watching import changes, watches
from hstore.node.state.watching.changes import Change, History
from hstore.node.state.watching.watches import Watch, Watches
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk
from tests.node.cluster.test_snapshots import leave_behind
from tests.node.memory_cluster import running


def new_state() -> State:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return State(storage.state)


def apply(machine: State, *given: Command) -> None:
    machine.apply(
        [
            Entry(index, 1, EntryKind.COMMAND, commands.encode(command))
            for index, command in enumerate(given, machine.applied + 1)
        ]
    )


def drain(watch: Watch) -> list[tuple[bytes, int, bytes | None]]:
    seen = []
    while watch.is_behind:
        seen += [(one.key, one.revision, one.value) for one, _ in watch.take()]
    return seen


@pytest.fixture
def machine() -> State:
    return new_state()


@pytest.fixture
def all_of_it(machine: State) -> Watches:
    return Watches(machine.history)


def test_each_change_of_a_key_is_told_and_what_changed_nothing_is_not(machine, all_of_it):
    keyed = Keyed(b"once", b"0" * 16, Put(b"b", b"3"))
    watch = all_of_it.open(b"", None)
    apply(machine, Put(b"a", b"1"), Put(b"a", b"2", cas=7), Delete(b"none"), Put(b"a", b""))
    apply(machine, Put(b"c", b"", must_exist=True), keyed, keyed, Delete(b"a", cas=4), Delete(b"a"))
    told = [(b"a", 1, b"1"), (b"a", 4, b""), (b"b", 6, b"3"), (b"a", 8, None)]
    assert drain(watch) == told
    assert watch.seen == 9


def test_a_prefix_that_is_deleted_gives_a_change_for_each_key_that_was_there(machine, all_of_it):
    apply(machine, *(Put(b"p%03d" % k, b"") for k in range(100)), Put(b"q", b""))
    watch = all_of_it.open(b"p", None)
    # In one batch with what comes before and after, and twice.
    apply(
        machine,
        Delete(b"p000"),
        Put(b"pnew", b""),
        DeletePrefix(b"p"),
        Put(b"p002", b"again"),
        DeletePrefix(b"p00"),
        DeletePrefix(b"p"),
    )
    first, index = machine.applied - 5, machine.applied - 3
    assert drain(watch) == [
        (b"p000", first, None),
        (b"pnew", first + 1, b""),
        *((b"p%03d" % k, index, None) for k in range(1, 100)),
        (b"pnew", index, None),
        (b"p002", index + 1, b"again"),
        (b"p002", index + 2, None),
    ]


@pytest.mark.parametrize("limit", ["_LISTED_RECORDS", "_LISTED_BYTES"])
def test_more_than_can_be_told_is_a_gap_that_is_told(machine, all_of_it, monkeypatch, limit):
    monkeypatch.setattr(batches, limit, 70)
    apply(machine, *(Put(b"p%03d" % k, b"") for k in range(100)))
    watch, later = all_of_it.open(b"q", None), all_of_it.open(b"q", 102)
    apply(machine, DeletePrefix(b"p"), Put(b"q", b"1"), Put(b"q", b"2"))
    assert all_of_it.history.floor == 101
    with pytest.raises(Compacted, match="after=101 is the oldest"):
        watch.take()
    assert drain(later) == [(b"q", 103, b"2")]
    assert drain(all_of_it.open(b"q", 101)) == [(b"q", 102, b"1"), (b"q", 103, b"2")]


def test_only_the_last_change_of_a_revision_under_the_prefix_is_marked(machine, all_of_it):
    apply(machine, *(Put(key, b"") for key in (b"a1", b"b1", b"b2", b"c1")))
    watch = all_of_it.open(b"b", None)
    apply(machine, DeletePrefix(b""), Put(b"b3", b""))
    assert [(one.key, is_last) for one, is_last in watch.take()] == [
        (b"b1", False),
        (b"b2", True),
        (b"b3", True),
    ]


def test_a_revision_that_is_yet_to_come_is_waited_for(machine, all_of_it):
    watch = all_of_it.open(b"", 2)
    assert watch.seen == 2
    apply(machine, Put(b"a", b"1"), Put(b"a", b"2"))
    assert not watch.is_behind
    apply(machine, Put(b"a", b"3"))
    assert drain(watch) == [(b"a", 3, b"3")]


@pytest.mark.parametrize(("name", "most"), [("CHANGES_MAX", 100), ("BYTES_MAX", 100 * 300)])
def test_the_history_is_bounded_and_says_how_far_back_it_reaches(monkeypatch, name, most):
    monkeypatch.setattr(changes, name, most)
    machine = new_state()
    kept = Watches(machine.history)
    slow, quiet = kept.open(b"", None), kept.open(b"quiet", None)
    for _ in range(10):
        apply(machine, *(Put(b"key", bytes(97)) for _ in range(100)))
    held = machine.history.end - machine.history.first
    assert 60 < held <= 100
    assert machine.history.floor == machine.applied - held
    with pytest.raises(Compacted):
        slow.take()
    with pytest.raises(Compacted):
        kept.open(b"", machine.history.floor - 1)
    assert len(drain(kept.open(b"", machine.history.floor))) == held
    # Nothing that it would have seen was forgotten: it has missed nothing.
    apply(machine, Put(b"quiet", b""))
    assert drain(quiet) == [(b"quiet", machine.applied, b"")]


def test_a_change_is_brought_only_to_who_watches_a_beginning_of_its_key(monkeypatch):
    noticed = []
    monkeypatch.setattr(Watch, "notice", lambda watch, _number: noticed.append(watch.prefix))
    recent = History()
    kept = Watches(recent)
    opened = [kept.open(b"k%05d/" % k, None) for k in range(10_000)]
    some = [
        kept.open(prefix, None) for prefix in (b"", b"k", b"k00007/abc", b"k00007/b", b"x" * 99)
    ]
    recent.add([Change(changes.KEYS, b"k00007/abc", 1, b"")], 1)
    assert noticed == [b"", b"k", b"k00007/", b"k00007/abc"]
    assert len(kept) == 10_005
    watched = kept._by_table[changes.KEYS]
    for watch in [*opened, *some, *some]:
        watch.close()
    assert (len(kept), len(watched), kept._by_table) == (0, 0, {})
    assert (watched._by_prefix, watched._names._names) == ({}, [])
    assert (watched._lengths, watched._count_by_length) == ([], {})


def test_a_watch_is_about_one_table_and_marks_the_last_of_a_revision_wherever_it_is(monkeypatch):
    """As a transaction will write them: several tables in one entry, keys in any order."""
    monkeypatch.setattr(watches, "TAKEN_AT_ONCE", 2)
    keys, other = changes.KEYS, changes.Table(1)
    recent = History()
    kept = Watches(recent)
    watch, elsewhere, nothing = (
        kept.open(b"a", None), kept.open(b"a", None, other), kept.open(b"b", None, other),
    )  # fmt: skip
    recent.add(
        [
            Change(keys, b"a2", 1, b""),
            *(Change(other, b"a%d" % n, 1, b"") for n in range(5)),
            Change(keys, b"b", 1, b""),
            Change(keys, b"a1", 1, None),
            *(Change(keys, b"b%d" % n, 1, b"") for n in range(5)),
            Change(keys, b"a3", 2, b""),
            Change(other, b"a3", 2, b""),
        ],
        2,
    )
    assert not nothing.is_behind
    seen, seen_elsewhere = [], []
    while watch.is_behind or elsewhere.is_behind:
        seen += [(one.key, is_last) for one, is_last in watch.take()]
        seen_elsewhere += [(one.key, is_last) for one, is_last in elsewhere.take()]
    assert seen == [(b"a2", False), (b"a1", True), (b"a3", True)]
    expected = [(b"a0", False), (b"a1", False), (b"a2", False), (b"a3", False), (b"a4", True)]
    assert seen_elsewhere == [*expected, (b"a3", True)]
    watch.close()
    assert list(kept._by_table) == [other]
    assert len(kept) == 2


async def test_a_wait_ends_with_the_change_and_is_not_for_others(machine, all_of_it, nursery):
    watch, other = all_of_it.open(b"a", None), all_of_it.open(b"b", None)
    woken = []

    async def wait(name, one):
        await one.wait()
        woken.append(name)

    nursery.start_soon(wait, "a", watch)
    nursery.start_soon(wait, "b", other)
    await trio.testing.wait_all_tasks_blocked()
    apply(machine, Put(b"abc", b""))
    await trio.testing.wait_all_tasks_blocked()
    assert woken == ["a"]
    machine.reload()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == ["a", "b"]
    nursery.cancel_scope.cancel()


KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"ba"])
PREFIXES = st.sampled_from([b"", b"a", b"aa", b"b", b"c"])
WRITES = st.one_of(
    st.builds(Put, KEYS, st.sampled_from([b"1", b"2"]), cas=st.sampled_from([None, None, 0, 3])),
    st.builds(Delete, KEYS),
    st.builds(DeletePrefix, PREFIXES),
)
STEPS = st.one_of(
    st.lists(WRITES, min_size=1, max_size=6),
    st.tuples(st.just("open"), PREFIXES, st.integers(-14, 3)),
    st.tuples(st.just("take"), st.integers(0, 5)),
    st.just("install"),
)


class Truth:
    """All that ever changed, by a model that knows nothing of batches, beside what is watched."""

    def __init__(self):
        self.machine = new_state()
        self.kept = Watches(self.machine.history)
        self.model: dict[bytes, bytes] = {}
        self.changes: list[tuple[bytes, int, bytes | None]] = []
        self.opened: dict[Watch, list[object]] = {}

    def write(self, batch):
        for index, command in enumerate(batch, self.machine.applied + 1):
            self.changes += self.effects(command, index)
        apply(self.machine, *batch)

    def effects(self, command, index):
        model = self.model
        if isinstance(command, Put):
            revisions = {key: revision for key, revision, _ in self.changes if key in model}
            if command.cas is not None and command.cas != revisions.get(command.key, 0):
                return []
            model[command.key] = command.value
            return [(command.key, index, command.value)]
        if isinstance(command, Delete):
            gone = [command.key] if command.key in model else []
        else:
            gone = sorted(key for key in model if key.startswith(command.prefix))
        for key in gone:
            del model[key]
        return [(key, index, None) for key in gone]

    def open(self, prefix, distance):
        after = max(self.machine.applied + distance, 0)
        if after < self.machine.history.floor:
            with pytest.raises(Compacted):
                self.kept.open(prefix, after)
        else:
            self.opened[self.kept.open(prefix, after)] = []

    def take(self, watch):
        seen = self.opened[watch]
        try:
            seen += [(one.key, one.revision, one.value) for one, _ in watch.take()]
        except Compacted:
            del self.opened[watch]
            return
        due = [c for c in self.changes if c[0].startswith(watch.prefix) and c[1] > watch.start]
        assert seen == (due[: len(seen)] if watch.is_behind else due)

    def take_all(self):
        for watch in list(self.opened):
            while watch in self.opened and watch.is_behind:
                self.take(watch)


@given(st.lists(STEPS, max_size=40))
def test_a_watch_sees_exactly_what_changed_since_its_revision_or_is_told_that_it_cannot(steps):
    truth = Truth()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "CHANGES_MAX", 12)
        patch.setattr(watches, "TAKEN_AT_ONCE", 3)
        for step in steps:
            if isinstance(step, list):
                truth.write(step)
            elif step == "install":
                truth.machine.reload()
            elif step[0] == "open":
                truth.open(*step[1:])
            elif truth.opened:
                truth.take(list(truth.opened)[step[1] % len(truth.opened)])
        truth.take_all()


async def test_a_watch_on_any_node_sees_every_write_and_goes_on_after_another(autojump_clock):
    async with running(3) as cluster:
        opened = [member.node.keys.watch(b"k", None) for member in cluster.up]
        for k in range(5):
            await cluster.write(1 + k % 3, f"k{k}", "v")
            await cluster.write(1, f"other{k}", "v")
        await cluster.until(
            lambda: len({member.node.keys.applied_index for member in cluster.up}) == 1
        )
        seen = [drain(watch) for watch in opened]
        assert [key for key, _, _ in seen[0]] == [b"k0", b"k1", b"k2", b"k3", b"k4"]
        assert seen[0] == seen[1] == seen[2]
        # The node dies, and another one knows what comes after what was seen.
        cluster[1].crash()
        await cluster.until(cluster.agrees)
        await cluster.write(2, "k5", "v")
        after = seen[0][2][1]
        await cluster.until(lambda: cluster[3].value("k5") == "v")
        assert [key for key, _, _ in drain(cluster[3].node.keys.watch(b"k", after))] == [
            b"k3", b"k4", b"k5",
        ]  # fmt: skip


async def test_a_node_that_was_restarted_tells_who_would_miss_something(autojump_clock):
    async with running(3) as cluster:
        before = await cluster.write(1, "k", "1")
        last = await cluster.write(1, "k", "2")
        await cluster.until(lambda: cluster[3].node.keys.applied_index >= last)
        await cluster[3].stop()
        await cluster[3].start()
        with pytest.raises(Compacted):
            cluster[3].node.keys.watch(b"k", before)
        floor = cluster[3].node.keys.watches.history.floor
        watch = cluster[3].node.keys.watch(b"k", floor)
        revision = await cluster.write(1, "k", "3")
        await cluster.until(lambda: watch.is_behind)
        assert drain(watch)[-1] == (b"k", revision, b"3")


async def test_a_watch_is_told_when_a_snapshot_takes_the_place_of_changes(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
    async with running(3) as cluster:
        member = cluster[3]
        await leave_behind(cluster, member)
        await member.start()
        before = member.node.keys.applied_index
        watch, far = member.node.keys.watch(b"key", None), member.node.keys.watch(b"key", 10**6)
        await cluster.until(lambda: watch.is_behind)
        assert member.node.keys.applied_index > before + 20
        with pytest.raises(Compacted):
            watch.take()
        assert not far.is_behind
