"""What every `Storage` does: RocksDB's and the one in memory pass the same tests."""

from __future__ import annotations

import pytest

from hstore.node.errors import StorageError
from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.storage.interface import APPLIED_KEY, Recovered, Storage, pack_applied

from .conftest import IDENTITY, Place, entries


def apply(storage: Storage, index: int, term: int = 1, *pairs: tuple[bytes, bytes]) -> None:
    storage.state.write([*pairs, (APPLIED_KEY, pack_applied(index, term))])


def contents(storage: Storage) -> list[tuple[bytes, bytes]]:
    view = storage.state.view()
    try:
        return list(view.scan(b""))
    finally:
        view.close()


# --- log and hard state -----------------------------------------------------------------------


async def test_a_new_storage_is_empty_and_knows_whom_it_belongs_to(storage: Storage) -> None:
    assert storage.identity == IDENTITY
    assert storage.load() == Recovered(HardState(), SnapshotMeta(), [], 0)
    assert contents(storage) == []


async def test_nothing_is_written_before_the_log_was_verified_by_load(place: Place) -> None:
    with pytest.raises(StorageError, match="load"):
        place.storage.append(None, None, entries(1, 1))


async def test_entries_and_hard_state_are_there_after_a_restart(place: Place) -> None:
    place.storage.load()
    place.storage.append(HardState(3, 7, 1), None, entries(1, 3, data=b""))
    place.storage.append(None, None, entries(4, 5, term=3))
    await place.storage.flush()

    recovered = (await place.reopen()).load()

    assert recovered.hard_state == HardState(3, 7, 1)
    assert recovered.entries == entries(1, 3, data=b"") + entries(4, 5, term=3)


async def test_truncation_drops_the_old_tail_in_the_same_write(place: Place) -> None:
    place.storage.load()
    place.storage.append(None, None, entries(1, 9))
    place.storage.append(HardState(2, 0, 0), 4, entries(4, 5, term=2))

    recovered = (await place.reopen()).load()

    assert recovered.entries == entries(1, 3) + entries(4, 5, term=2)


async def test_truncation_without_new_entries_leaves_the_prefix(place: Place) -> None:
    place.storage.load()
    place.storage.append(None, None, entries(1, 9))
    place.storage.append(None, 1, [])
    assert place.storage.load().entries == []

    place.storage.append(None, 1, entries(1, 2, term=5))

    assert (await place.reopen()).load().entries == entries(1, 2, term=5)


async def test_a_gap_in_the_log_is_refused(storage: Storage) -> None:
    storage.append(None, None, entries(1, 3))

    for wrong in (entries(5, 5), entries(3, 3), [*entries(4, 4), *entries(6, 6)]):
        with pytest.raises(StorageError, match="does not follow"):
            storage.append(None, None, wrong)

    assert storage.load().entries == entries(1, 3)


async def test_what_is_committed_or_applied_is_never_truncated(storage: Storage) -> None:
    storage.append(HardState(1, 0, 2), None, entries(1, 6))
    apply(storage, 4)

    for index in (1, 2, 3, 4, 8):
        with pytest.raises(StorageError, match="cannot be dropped"):
            storage.append(None, index, entries(index, index, term=2))

    storage.append(None, 5, entries(5, 5, term=2))
    assert storage.load().entries == entries(1, 4) + entries(5, 5, term=2)


async def test_entries_are_read_back_as_far_as_asked_with_the_term_before_them(
    storage: Storage,
) -> None:
    log = entries(1, 4) + entries(5, 9, term=2)
    storage.append(HardState(2, 0, 9), None, log)
    apply(storage, 6)

    assert storage.read(1, 1 << 20) == (0, log)
    assert storage.read(6, 1) == (2, log[5:6])
    assert storage.read(5, 1 << 20) == (1, log[4:])
    storage.compact(SnapshotMeta(5, 2))
    assert storage.read(6, 1 << 20) == (2, log[5:])
    assert storage.read(9, 1 << 20) == (2, log[8:])
    assert storage.read(5, 1 << 20) is None
    assert storage.read(10, 1 << 20) is None


async def test_the_stored_commit_never_exceeds_the_stored_log(place: Place) -> None:
    """Rule D6: a node that was told of a commit it has no entries for must be able to restart."""
    place.storage.load()
    place.storage.append(HardState(2, 1, 99), None, entries(1, 3))

    assert (await place.reopen()).load().hard_state == HardState(2, 1, 3)


async def test_the_recovered_commit_is_at_least_what_is_applied(place: Place) -> None:
    """Rule D5: a commit index need not be stored each time it moves."""
    place.storage.load()
    place.storage.append(HardState(1, 0, 0), None, entries(1, 5))
    apply(place.storage, 4)

    recovered = (await place.reopen()).load()

    assert (recovered.hard_state.commit, recovered.applied) == (4, 4)


# --- compaction -------------------------------------------------------------------------------


async def test_compaction_drops_the_prefix_and_keeps_what_stands_for_it(place: Place) -> None:
    place.storage.load()
    place.storage.append(None, None, entries(1, 9))
    apply(place.storage, 6)
    chain = place.storage.snapshot_meta_chain(5)
    config = Configuration(voters=(1, 2, 3))

    place.storage.compact(SnapshotMeta(5, 1, config))
    place.storage.append(None, None, entries(10, 10))

    recovered = (await place.reopen()).load()
    assert recovered.snapshot == SnapshotMeta(5, 1, config, chain)
    assert recovered.entries == entries(6, 10)
    assert len(chain) == 16


async def test_the_whole_log_can_be_compacted_and_goes_on_after_that(place: Place) -> None:
    place.storage.load()
    place.storage.append(None, None, entries(1, 4))
    apply(place.storage, 4)

    place.storage.compact(SnapshotMeta(4, 1))
    storage = await place.reopen()
    assert storage.load().entries == []
    storage.append(None, None, entries(5, 6))

    assert (await place.reopen()).load().entries == entries(5, 6)


async def test_what_is_not_applied_is_not_compacted(storage: Storage) -> None:
    """Rule D4: the entries are all there is of what the state does not have yet."""
    storage.append(None, None, entries(1, 9))
    apply(storage, 3)

    with pytest.raises(StorageError, match="3 is applied"):
        storage.compact(SnapshotMeta(4, 1))
    with pytest.raises(StorageError, match="of term 1, not 2"):
        storage.compact(SnapshotMeta(3, 2))

    assert storage.load().entries == entries(1, 9)


async def test_compacting_what_is_gone_changes_nothing(storage: Storage) -> None:
    storage.append(None, None, entries(1, 9))
    apply(storage, 9)
    storage.compact(SnapshotMeta(5, 1))

    storage.compact(SnapshotMeta(5, 1))
    storage.compact(SnapshotMeta(2, 1))

    assert storage.load().snapshot.index == 5


async def test_equal_logs_have_equal_chain_hashes_and_others_do_not(
    storage: Storage,
) -> None:
    storage.append(None, None, entries(1, 3))
    first = [storage.snapshot_meta_chain(i) for i in range(4)]
    storage.append(None, 2, entries(2, 3, term=2))
    second = [storage.snapshot_meta_chain(i) for i in range(4)]
    storage.append(None, 2, entries(2, 3))
    third = [storage.snapshot_meta_chain(i) for i in range(4)]

    assert first == third
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, False]
    assert len(set(first)) == 4


async def test_the_chain_hash_of_an_entry_that_is_not_there_is_an_error(storage: Storage) -> None:
    storage.append(None, None, entries(1, 5))
    apply(storage, 5)
    storage.compact(SnapshotMeta(3, 1))

    assert storage.snapshot_meta_chain(3)
    for index in (0, 2, 6):
        with pytest.raises(StorageError):
            storage.snapshot_meta_chain(index)


# --- the state --------------------------------------------------------------------------------


async def test_the_state_is_read_as_written_in_the_order_of_keys(storage: Storage) -> None:
    storage.state.write([(b"b", b"2"), (b"a", b"1"), (b"\xff\xff", b"9"), (b"c", b"")])
    storage.state.write([(b"a", b"one")], [b"b", b"missing"])

    assert storage.state.get(b"a") == b"one"
    assert storage.state.get(b"b") is None
    assert storage.state.get(b"c") == b""
    assert contents(storage) == [(b"a", b"one"), (b"c", b""), (b"\xff\xff", b"9")]


async def test_a_scan_includes_its_start_and_excludes_its_end(storage: Storage) -> None:
    storage.state.write([(key, b"") for key in (b"a", b"b", b"b\0", b"bz", b"c", b"d")])
    view = storage.state.view()

    assert [key for key, _ in view.scan(b"b", b"c")] == [b"b", b"b\0", b"bz"]
    assert [key for key, _ in view.scan(b"bb", b"d")] == [b"bz", b"c"]
    assert [key for key, _ in view.scan(b"c")] == [b"c", b"d"]
    assert [key for key, _ in view.scan(b"x")] == []
    view.close()


async def test_ranges_are_deleted_before_the_same_batch_puts(storage: Storage) -> None:
    storage.state.write([(key, b"old") for key in (b"a", b"b1", b"b2", b"c")])

    storage.state.write([(b"b2", b"new")], (), [(b"b", b"c")])

    assert contents(storage) == [(b"a", b"old"), (b"b2", b"new"), (b"c", b"old")]


async def test_a_view_is_unaffected_by_later_writes(storage: Storage) -> None:
    storage.state.write([(b"a", b"1"), (b"b", b"1")])
    view = storage.state.view()
    scan = view.scan(b"")
    assert next(scan) == (b"a", b"1")

    storage.state.write([(b"b", b"2"), (b"c", b"2")], [b"a"])

    assert list(scan) == [(b"b", b"1")]
    assert (view.get(b"a"), view.get(b"b"), view.get(b"c")) == (b"1", b"1", None)
    view.close()
    view.close()
    assert contents(storage) == [(b"b", b"2"), (b"c", b"2")]


async def test_a_closed_view_answers_with_an_error_and_never_with_half_a_scan(
    storage: Storage,
) -> None:
    storage.state.write([(b"a", b"1"), (b"b", b"1")])
    view = storage.state.view()
    scan = view.scan(b"")
    next(scan)

    view.close()

    with pytest.raises(StorageError):
        next(scan)
    with pytest.raises(StorageError):
        view.get(b"a")


# --- installing a snapshot --------------------------------------------------------------------

CHAIN = b"c" * 16


async def test_an_installed_state_replaces_state_and_log(place: Place) -> None:
    storage = place.storage
    storage.load()
    storage.append(HardState(1, 1, 1), None, entries(1, 3))
    apply(storage, 1, 1, (b"old", b"1"))
    meta = SnapshotMeta(50, 4, Configuration(voters=(1, 2)), CHAIN)
    state = storage.state

    staged = storage.begin_install()
    staged.write([(b"new", b"2")])
    staged.write([(APPLIED_KEY, pack_applied(50, 4))])
    assert state.get(b"new") is None
    storage.install(staged, meta, HardState(5, 0, 40))

    assert state.get(b"new") == b"2"
    for restarted in (False, True):
        storage = await place.reopen() if restarted else storage
        assert storage.load() == Recovered(HardState(5, 0, 50), meta, [], 50)
        assert contents(storage) == [(b"new", b"2"), (APPLIED_KEY, pack_applied(50, 4))]
        await storage.flush()
    storage.append(None, None, entries(51, 52, term=5))
    assert (await place.reopen()).load().entries == entries(51, 52, term=5)


async def test_a_view_outlives_the_state_that_an_install_replaced(storage: Storage) -> None:
    apply(storage, 0, 0, (b"old", b"1"))
    view = storage.state.view()
    staged = storage.begin_install()
    staged.write([(APPLIED_KEY, pack_applied(9, 1))])

    storage.install(staged, SnapshotMeta(9, 1, chain=CHAIN), HardState(1, 0, 9))
    await storage.flush()

    assert view.get(b"old") == b"1"
    assert [key for key, _ in view.scan(b"")] == [b"old", APPLIED_KEY]
    assert storage.state.get(b"old") is None
    view.close()


async def test_an_aborted_install_leaves_no_trace_and_cannot_be_installed(place: Place) -> None:
    storage = place.storage
    storage.load()
    apply(storage, 0, 0, (b"old", b"1"))
    staged = storage.begin_install()
    staged.write([(b"new", b"2"), (APPLIED_KEY, pack_applied(9, 1))])

    staged.abort()
    staged.abort()

    with pytest.raises(StorageError, match="given up"):
        staged.write([(b"x", b"")])
    with pytest.raises(StorageError, match="given up"):
        storage.install(staged, SnapshotMeta(9, 1, chain=CHAIN), HardState(1, 0, 9))
    assert storage.state.get(b"old") == b"1"
    storage = await place.reopen()
    storage.load()
    assert storage.state.get(b"new") is None


async def test_a_second_install_takes_the_place_of_the_first(storage: Storage) -> None:
    first = storage.begin_install()
    first.write([(b"first", b""), (APPLIED_KEY, pack_applied(9, 1))])

    second = storage.begin_install()
    second.write([(b"second", b""), (APPLIED_KEY, pack_applied(9, 1))])
    with pytest.raises(StorageError, match="given up"):
        storage.install(first, SnapshotMeta(9, 1, chain=CHAIN), HardState(1, 0, 9))
    storage.install(second, SnapshotMeta(9, 1, chain=CHAIN), HardState(1, 0, 9))
    first.abort()
    second.abort()

    assert [key for key, _ in contents(storage)] == [b"second", APPLIED_KEY]


@pytest.mark.parametrize(
    ("pairs", "meta"),
    [
        ([(b"k", b"its end is missing")], SnapshotMeta(9, 1, chain=CHAIN)),
        ([(APPLIED_KEY, pack_applied(8, 1))], SnapshotMeta(9, 1, chain=CHAIN)),
        ([(APPLIED_KEY, pack_applied(9, 2))], SnapshotMeta(9, 1, chain=CHAIN)),
        ([(APPLIED_KEY, pack_applied(9, 1))], SnapshotMeta(9, 1)),
        ([(APPLIED_KEY, pack_applied(2, 1))], SnapshotMeta(2, 1, chain=CHAIN)),
    ],
)
async def test_a_state_that_is_not_the_one_announced_is_not_installed(
    storage: Storage, pairs: list[tuple[bytes, bytes]], meta: SnapshotMeta
) -> None:
    storage.append(HardState(1, 0, 2), None, entries(1, 3))
    staged = storage.begin_install()
    staged.write(pairs)

    with pytest.raises(StorageError):
        storage.install(staged, meta, HardState(1, 0, 9))

    staged.abort()
    assert storage.load().entries == entries(1, 3)


async def test_closing_twice_is_harmless_and_using_a_closed_storage_is_an_error(
    storage: Storage,
) -> None:
    await storage.close()
    await storage.close()

    with pytest.raises(StorageError, match="closed"):
        storage.append(None, None, entries(1, 1))
    with pytest.raises(StorageError, match="closed"):
        storage.state.get(b"a")
    with pytest.raises(StorageError, match="closed"):
        await storage.flush()
