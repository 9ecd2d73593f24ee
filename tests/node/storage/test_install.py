"""Crashes at each step of an install, on RocksDB: the old state and log, or the new, never a mix.

The steps, in the order in which a node takes them (rule D11):

    begun       a family for the new state is there, and empty
    half        some of the state is in it, flushed in between as a receiver does
    staged      all of it is
    switched    the batch is written that replaces state, log, configuration and hard state
    durable     that batch is flushed, and the old family dropped
    gone on     entries that follow the snapshot are appended and flushed
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.storage.interface import APPLIED_KEY, Recovered, pack_applied
from hstore.node.storage.rocks import RocksStorage

from .conftest import CACHE_BYTES, IDENTITY, entries
from .test_crash import Durability

STEPS = ["begun", "half", "staged", "switched", "durable", "gone on"]

OLD_CONFIG = Configuration(voters=(1, 2))
META = SnapshotMeta(50, 4, Configuration(voters=(1, 2, 3)), b"c" * 16)
OLD = Recovered(HardState(1, 7, 1), SnapshotMeta(), entries(1, 3), 1)
NEW = Recovered(HardState(5, 0, 50), META, [], 50)
FOLLOWED = Recovered(HardState(5, 0, 50), META, entries(51, 52, term=5), 50)

SMALL, LARGE = 100, 40_000
"""Bytes of each of 500 values: with large ones RocksDB writes tables by itself meanwhile."""


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[RocksStorage]:
    RocksStorage.create(tmp_path / "live", IDENTITY)
    storage = RocksStorage.open(tmp_path / "live", cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(1, 7, 1), None, entries(1, 3))
    storage.state.write([(b"old", b""), (APPLIED_KEY, pack_applied(1, 1))])
    await storage.flush()
    yield storage
    await storage.close()


async def install(storage: RocksStorage, size: int, at: Callable[[str], None]) -> None:
    """Install `META`, and say at which step it is."""
    staged = storage.begin_install()
    at("begun")
    pairs = [(b"new %03d" % number, b"%03d" % number * (size // 3)) for number in range(500)]
    staged.write(pairs[:250])
    await storage.flush()
    at("half")
    staged.write([*pairs[250:], (APPLIED_KEY, pack_applied(50, 4))])
    at("staged")
    storage.install(staged, META, HardState(5, 0, 50))
    at("switched")
    await storage.flush()
    at("durable")
    storage.append(None, None, entries(51, 52, term=5))
    await storage.flush()
    at("gone on")


async def found(path: Path) -> Recovered:
    """Open what a crash left; check that state and log are of one kind, and return the log's."""
    opened = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    try:
        recovered = opened.load()
        assert recovered in (OLD, NEW, FOLLOWED)
        is_old = recovered == OLD
        keys = [key for key, _ in opened.state.view().scan(b"")]
        expected = [b"old"] if is_old else [b"new %03d" % number for number in range(500)]
        assert keys == [*expected, APPLIED_KEY]
        assert len(opened._engine.families()) == 1, "what was staged is dropped"
        # And it goes on from there, also with another install.
        staged = opened.begin_install()
        staged.write([(APPLIED_KEY, pack_applied(60, 6))])
        opened.install(staged, SnapshotMeta(60, 6, chain=b"d" * 16), HardState(6, 0, 60))
        await opened.flush()
        assert opened.load().snapshot.index == 60
    finally:
        await opened.close()
    return recovered


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["in the log", "in tables"])
@pytest.mark.parametrize("kind", ["power cut", "kill"])
async def test_a_crash_at_each_step_of_an_install_leaves_the_old_or_the_new(
    kind: str, size: int, storage: RocksStorage, tmp_path: Path
) -> None:
    durability = Durability(storage, tmp_path / "live")
    # What was flushed before it was watched.
    await storage.flush()
    copies: dict[str, Path] = {}
    extra = 0 if kind == "power cut" else 1 << 40

    def crash(step: str) -> None:
        copies[step] = durability.power_cut(tmp_path / step, extra)

    await install(storage, size, crash)
    left = {step: await found(path) for step, path in copies.items()}

    assert list(left) == STEPS
    switched = OLD if kind == "power cut" else NEW
    assert list(left.values()) == [OLD, OLD, OLD, switched, NEW, FOLLOWED]


async def test_a_crash_while_the_old_state_is_dropped_leaves_the_new(
    storage: RocksStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the flush that makes the switch durable and the end of the old family."""
    durability = Durability(storage, tmp_path / "live")
    await storage.flush()
    copies: list[Path] = []
    drop = storage._engine.drop_family

    def crash_and_drop(name: str) -> None:
        copies.append(durability.power_cut(tmp_path / "before"))
        drop(name)
        copies.append(durability.power_cut(tmp_path / "after"))

    monkeypatch.setattr(storage._engine, "drop_family", crash_and_drop)
    await install(storage, SMALL, lambda _step: None)

    assert [await found(path) for path in copies] == [NEW, NEW]
