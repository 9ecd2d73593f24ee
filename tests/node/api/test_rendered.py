"""Bodies about one service that are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hstore.node.api import rendered
from hstore.node.api.rendered import BODY_BYTES_MAX, KEY_BYTES_MAX, Rendered
from hstore.node.model.commands import ClusterSettings


class Backend:
    """A service's index, and the settings."""

    def __init__(self) -> None:
        self.indexes: dict[bytes, int] = {}
        self.catalog = SimpleNamespace(service_index=lambda folded: self.indexes.get(folded, 0))
        self.settings = SimpleNamespace(cluster_settings=ClusterSettings())


def key(name: bytes, query: bytes = b"") -> tuple[bytes, bytes, bytes]:
    return b"health", name, query


@pytest.fixture
def backend() -> Any:
    return Backend()


@pytest.fixture
def kept(backend: Any) -> Rendered:
    return Rendered(backend)


def put(
    kept: Rendered, backend: Any, name: bytes, body: bytes = b"[1]", query: bytes = b""
) -> None:
    index = backend.indexes.setdefault(name, 7)
    kept.put(key(name, query), name, index, body)


def test_a_body_is_kept_when_it_is_made_for_the_second_time(kept, backend):
    put(kept, backend, b"web")
    assert key(b"web") not in kept
    assert kept.get(key(b"web")) is None
    put(kept, backend, b"web")
    hot = kept.get(key(b"web"))
    assert (hot.index, hot.body) == (7, b"[1]")
    assert kept.get(key(b"web", b"passing")) is None


def test_it_is_good_until_the_index_of_its_service_moves(kept, backend):
    for _ in range(2):
        put(kept, backend, b"web")
    backend.indexes[b"other"] = 9
    assert kept.get(key(b"web")) is not None
    backend.indexes[b"web"] = 10
    assert kept.get(key(b"web")) is None
    assert key(b"web") in kept
    put(kept, backend, b"web", b"[2]")  # At once: it was there before.
    assert kept.get(key(b"web")).body == b"[2]"
    del backend.indexes[b"web"]
    assert kept.get(key(b"web")) is None


def test_it_is_not_good_with_other_settings(kept, backend):
    """The name of the datacenter is in it."""
    for _ in range(2):
        put(kept, backend, b"web")
    backend.settings.cluster_settings = ClusterSettings(datacenter="dc2")
    assert kept.get(key(b"web")) is None


def test_what_is_large_is_not_kept(kept, backend):
    for _ in range(3):
        put(kept, backend, b"a", bytes(BODY_BYTES_MAX + 1))
        put(kept, backend, b"b", query=bytes(KEY_BYTES_MAX))
    assert key(b"a") not in kept
    assert key(b"b", bytes(KEY_BYTES_MAX)) not in kept


def test_the_older_half_goes_when_there_is_no_room(kept, backend, monkeypatch):
    monkeypatch.setattr(rendered, "BYTES_MAX", 100_000)
    names = [b"%04d" % number for number in range(500)]
    for name in names:
        put(kept, backend, name, bytes(600))
        put(kept, backend, name, bytes(600))
        assert sum(len(hot.body) for hot in kept._bodies.values()) < 100_000
        assert kept.get(key(name)) is not None
    assert kept._size == sum(rendered._size(*item) for item in kept._bodies.items())
    there = [name for name in names if key(name) in kept]
    assert there == names[-len(there) :]
    assert 40 < len(there) < 100


def test_what_was_asked_once_is_remembered_of_a_bounded_number(kept, backend, monkeypatch):
    monkeypatch.setattr(rendered, "_ASKED_MAX", 100)
    for number in range(1000):
        put(kept, backend, b"%d" % number)
        assert len(kept._asked) <= 100
    assert not kept._bodies


# --- what streams send ----------------------------------------------------------------------------


def test_two_nodes_of_one_process_each_make_what_their_streams_send_once() -> None:
    nodes: dict[str, Any] = {"one": Backend(), "other": Backend()}
    kept, made = {name: Rendered(node) for name, node in nodes.items()}, []

    def send(name: str, second: int) -> None:
        def make() -> bytes:
            made.append((name, second))
            return name.encode()

        for latest in (kept[name].cluster, kept[name].dashboard):
            assert latest.content((7, second), make) == name.encode()

    for second in (1, 1, 1, 2):
        for name in kept:
            send(name, second)
    assert made == [(name, second) for second in (1, 2) for name in kept for _ in range(2)]
