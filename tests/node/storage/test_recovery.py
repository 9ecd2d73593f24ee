"""What a node believes of its own disk: every crash and every loss, played through in memory.

The disk is `MemoryDisk`, whose decisions are those of the real one (`recovery.py`); the real one
is damaged in `test_damage.py`.
"""

from __future__ import annotations

import itertools

import pytest

from hstore.node.errors import StorageError
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.storage.interface import APPLIED_KEY, Recovered, pack_applied
from tests.fakes.storage import MemoryDisk, MemoryStorage

from .conftest import IDENTITY, entries

Step = tuple[str, int]


def steps() -> list[Step]:
    """Appends, truncations, votes, flushes: each writing is a batch of its own."""
    return [
        ("append", 3),
        ("flush", 0),
        ("rewrite", 2),
        ("vote", 0),
        ("flush", 0),
        ("apply", 1),
        ("compact", 1),
        ("rewrite", 3),
        ("rewrite", 2),
        ("flush", 0),
        ("append", 1),
        ("install", 9),
        ("flush", 0),
        ("append", 2),
    ]


class History:
    """Plays steps on a disk and notes what each batch and each flush left."""

    def __init__(self) -> None:
        self.disk = MemoryDisk(IDENTITY)
        self.disk.remember = 100
        self.storage: MemoryStorage = self.disk.open()
        self.storage.load()
        self.term = 1
        self.batches = 0
        self.flushed = 0
        self.log_batches_after: list[int] = [0]
        """How many of the batches so far were on the log, for each count of batches."""

    def _wrote(self, *, log: bool = True) -> None:
        self.batches += 1
        self.log_batches_after.append(self.log_batches_after[-1] + log)

    async def play(self, step: Step) -> None:
        what, figure = step
        storage = self.storage
        last = storage.image().snapshot.index + len(storage.image().entries)
        if what == "append":
            storage.append(None, None, entries(last + 1, last + figure, self.term))
            self._wrote()
        elif what == "rewrite":
            self.term += 1
            new = entries(figure, figure, self.term)
            storage.append(HardState(self.term, 0, 0), figure, new)
            self._wrote()
        elif what == "vote":
            self.term += 1
            storage.append(HardState(self.term, 7, 0), None, [])
            self._wrote()
        elif what == "apply":
            storage.state.write([(APPLIED_KEY, pack_applied(figure, 1))])
            self._wrote(log=False)
        elif what == "compact":
            storage.compact(SnapshotMeta(figure, 1))
            self._wrote()
        elif what == "install":
            staged = storage.begin_install()
            staged.write([(APPLIED_KEY, pack_applied(figure, self.term))])
            meta = SnapshotMeta(figure, self.term, chain=b"c" * 16)
            storage.install(staged, meta, HardState(self.term, 0, figure))
            self._wrote()
        else:
            await storage.flush()
            self.flushed = self.batches


async def played(count: int) -> History:
    history = History()
    for step in steps()[:count]:
        await history.play(step)
    return history


@pytest.mark.parametrize("count", range(len(steps()) + 1))
async def test_no_crash_raises_a_false_alarm(count: int) -> None:
    """Whatever of the unflushed reached the disk, and however old the witness is."""
    unflushed = (await played(count)).disk.unflushed
    for keep, stale in itertools.product(range(len(unflushed) + 1), [False, True]):
        history = await played(count)
        history.disk.crash(keep, stale_witness=stale)

        found = history.disk.open().load()

        assert (found.recover_to, found.lost) == (0, "")


@pytest.mark.parametrize("count", range(1, len(steps()) + 1))
async def test_no_loss_of_what_was_flushed_goes_unnoticed(count: int) -> None:
    """As far as the witness can know: the loss of a batch on the log that it has seen."""
    flushed = (await played(count)).flushed
    for kept in range(flushed):
        history = await played(count)
        history.disk.crash()
        history.disk.lose_flushed(flushed - kept)
        gone = history.log_batches_after[flushed] - history.log_batches_after[kept]
        term, last = history.disk.witness.hard_term, history.disk.witness.index  # type: ignore[union-attr]

        try:
            found = history.disk.open().load()
        except StorageError:
            assert gone
            continue

        assert (found.recover_to > 0) == (gone > 0)
        if gone:
            assert found.recover_to >= last
            assert found.hard_state.term >= term
            assert found.lost


async def damaged(index: int, applied: int = 0, *, config_at: int = 0) -> MemoryDisk:
    """Make a log of nine flushed entries, one of them damaged."""
    disk = MemoryDisk(IDENTITY)
    storage = disk.open()
    storage.load()
    log = entries(1, 9)
    if config_at:
        config = membership.encode(Configuration(voters=(4, 5)))
        log[config_at - 1] = Entry(config_at, 1, EntryKind.CONFIG, config)
    storage.append(HardState(1, 7, applied), None, log)
    if applied:
        storage.state.write([(APPLIED_KEY, pack_applied(applied, 1))])
    await storage.flush()
    disk.crash()
    disk.damage(index)
    return disk


@pytest.mark.parametrize("index", [1, 5, 9])
async def test_a_damaged_entry_takes_those_behind_it_along(index: int) -> None:
    disk = await damaged(index)

    found = disk.open().load()

    assert found.entries == entries(1, index - 1)
    assert found.recover_to == 9
    assert found.lost.startswith(f"entries {index} to 9 (entry {index} of the log is damaged")


async def test_a_loss_is_remembered_until_it_is_made_up_for() -> None:
    disk = await damaged(5)
    storage = disk.open()
    first = storage.load()

    assert storage.load() == first
    storage.append(HardState(2, 0, 0), None, entries(5, 6, term=2))
    await storage.flush()
    disk.crash()
    storage = disk.open()
    again = storage.load()
    storage.append(HardState(2, 0, 0), None, entries(7, 9, term=2))
    storage.recovered()
    await storage.flush()
    disk.crash()

    assert (again.recover_to, again.lost) == (first.recover_to, first.lost)
    assert disk.open().load().recover_to == 0


async def test_a_crash_before_the_loss_is_written_down_finds_it_again() -> None:
    disk = await damaged(5)
    first = disk.open().load()
    disk.crash()

    assert disk.open().load() == first


async def test_damage_in_what_is_applied_costs_the_log_up_to_there_and_nothing_else() -> None:
    disk = await damaged(3, applied=6, config_at=2)

    found = disk.open().load()

    assert found.recover_to == 0
    assert (found.snapshot.index, found.snapshot.term) == (6, 1)
    assert found.snapshot.config == Configuration(voters=(4, 5))
    assert found.entries == entries(7, 9)


async def test_a_damaged_configuration_is_known_from_its_copy() -> None:
    disk = await damaged(3, applied=6, config_at=3)

    assert disk.open().load().snapshot.config == Configuration(voters=(4, 5))


async def test_a_configuration_that_is_not_known_is_not_guessed() -> None:
    disk = await damaged(3, applied=6, config_at=3)
    disk.live.configs[3] = b"damaged too"

    with pytest.raises(StorageError, match="remove it from its cluster"):
        disk.open().load()


async def test_damage_in_the_last_applied_entry_too_is_the_end() -> None:
    disk = await damaged(3, applied=6)
    disk.damage(6)

    with pytest.raises(StorageError, match=r"entry 3 .* entry 6.*remove it from its cluster"):
        disk.open().load()


async def test_damage_on_both_sides_of_what_is_applied_is_a_loss() -> None:
    disk = await damaged(3, applied=6)
    disk.damage(8)

    found = disk.open().load()

    assert found.snapshot.index == 6
    assert found.entries == entries(7, 7)
    assert found.recover_to == 9


async def test_a_lost_vote_is_a_loss_and_the_term_does_not_fall() -> None:
    disk = MemoryDisk(IDENTITY)
    storage = disk.open()
    storage.load()
    storage.append(HardState(4, 7, 0), None, entries(1, 2))
    await storage.flush()
    disk.crash()
    disk.damage_hard_state()

    found = disk.open().load()

    assert found.hard_state == HardState(4, 7, 0)
    assert found.entries == entries(1, 2)
    assert found.recover_to == 3
    assert found.lost == "a term or a vote"


async def test_a_lost_vote_without_a_witness_is_the_end() -> None:
    disk = MemoryDisk(IDENTITY)
    disk.damage_hard_state()

    with pytest.raises(StorageError, match="hard state"):
        disk.open().load()


async def test_after_a_loss_the_next_one_is_noticed_too() -> None:
    """Numbers of batches never fall below the witness's, also when the log did."""
    disk = await damaged(5)
    disk.remember = 10
    storage = disk.open()
    storage.load()
    storage.append(HardState(2, 0, 0), None, entries(5, 9, term=2))
    storage.recovered()
    await storage.flush()
    storage.append(HardState(2, 0, 0), None, entries(10, 12, term=2))
    await storage.flush()
    disk.crash()
    disk.lose_flushed(1)

    found: Recovered = disk.open().load()

    assert found.lost == "entries 10 to 12 (the database ends before what was flushed)"
