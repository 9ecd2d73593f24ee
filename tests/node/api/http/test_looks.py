"""Many readers who wait for the same keys share one look at them for each change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hstore.node.api.http import looks as module
from hstore.node.api.http.looks import BYTES_MAX, KEPT_MAX, KEYS_MAX, Looks, Question
from hstore.node.model.commands import DeletePrefix
from hstore.node.net.turn import Turn
from hstore.node.state.kv import deletions

from ..conftest import FakeBackend

READERS = 1000
EVERY = Question(b"a/", None)


def names(items: Iterator[Any]) -> Iterator[bytes]:
    return (b'"%b"' % item.key for item in items)


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each scan of keys, by how many of them it has read."""
    seen: list[int] = []
    run = module._Counted.__iter__

    def counted(self: Any) -> Iterator[Any]:
        seen.append(0)
        for item in run(self):
            seen[-1] += 1
            yield item

    monkeypatch.setattr(module._Counted, "__iter__", counted)
    return seen


def test_a_thousand_readers_of_one_prefix_cost_one_scan_for_one_change(backend, scans) -> None:
    looks, turn = Looks(), Turn()
    told: list[Any] = []

    def look() -> None:
        told.append(looks.look(backend, turn, EVERY, names))

    for _ in range(READERS):
        looks.hold(EVERY)
    backend.set(b"a/1", b"x")
    look()
    for _ in range(3):
        del scans[:], told[:]
        for _ in range(READERS):
            backend.wait_once(0, b"a/", look, is_prefix=True)
        backend.set(b"a/1", b"y")
        assert (len(scans), len(told), set(told)) == (
            1, READERS, {(backend.applied_index, b'"a/1"')},
        )  # fmt: skip
    backend.set(b"b", b"")
    look()
    assert len(scans) == 1, "a change of another key costs nothing"
    for _ in range(READERS):
        looks.release(EVERY)
    assert not looks._kept
    assert not looks._holders
    assert not backend.watches._waits[0]._by_prefix


def test_what_is_read_is_paid_for_by_the_turn(backend: FakeBackend) -> None:
    looks, turn = Looks(), Turn()
    looks.hold(EVERY)
    for number in range(128):
        backend.set(b"a/%03d" % number, b"")
    before = turn.bytes_left
    looks.look(backend, turn, EVERY, names)  # type: ignore[arg-type]
    paid = before - turn.bytes_left
    looks.look(backend, turn, EVERY, names)  # type: ignore[arg-type]
    assert paid > 64 * 1024
    assert before - turn.bytes_left == paid


@pytest.mark.parametrize("what", ["keys", "bytes", "a large value"])
def test_what_is_not_small_is_not_kept_and_looked_at_once(what, backend, scans) -> None:
    looks, turn = Looks(), Turn()
    looks.hold(EVERY)
    if what == "keys":
        for number in range(KEYS_MAX + 1):
            backend.set(b"a/%04d" % number, b"")
    elif what == "bytes":
        for number in range(9):
            backend.set(b"a/%d" % number, bytes(BYTES_MAX // 8))
    else:
        backend.set(b"a/", bytes(100_000))
    for _ in range(3):
        assert looks.look(backend, turn, EVERY, names) is None
    assert len(scans) == 1


def test_a_deletion_that_is_forgotten_raises_the_index_at_the_next_look(
    backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes nobody, and yet no node may tell a lower one later."""
    monkeypatch.setattr(deletions, "KEPT_MAX", 2)
    looks, turn = Looks(), Turn()
    looks.hold(EVERY)
    backend.set(b"a/1", b"")
    before = looks.look(backend, turn, EVERY, names)
    for name in (b"x", b"y", b"z", b"w"):
        backend.set(name, b"")
        backend.apply(DeletePrefix(name))
    after = looks.look(backend, turn, EVERY, names)
    assert before is not None
    assert after is not None
    assert after[0] > before[0]
    assert after[1] == before[1]


def test_a_bounded_number_is_kept(backend) -> None:
    looks, turn = Looks(), Turn()
    for number in range(3 * KEPT_MAX):
        question = Question(b"%d" % number, b"")
        looks.hold(question)
        looks.look(backend, turn, question, names)
    assert len(looks._kept) == KEPT_MAX
    assert len(backend.watches._waits[0]._by_prefix) == KEPT_MAX
