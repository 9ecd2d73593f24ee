"""Ten thousand reads of services that wait: what they hold, and how many of them a change looks at."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from hstore.node.api.consul import health, instances
from hstore.node.api.dialect.crowds import CROWD_MIN
from hstore.node.api.http.connection import Request
from hstore.node.api.http.exchange import NO_OUTCOME, Deferred, Exchange
from hstore.node.api.http.server import ApiServer
from hstore.node.api.http.serving import Serving
from hstore.node.api.http.waiting import Wait
from hstore.node.api.routes import ROUTES
from hstore.node.model.checks import SERF_HEALTH
from tests.node.api.consul.conftest import OWN, StateBackend

MANY = 10_000
MEASURED = 500
"""The memory of so many is looked at, which is slow."""


class Place:
    """What the reads of one server share, without connections."""

    def __init__(self, backend: StateBackend) -> None:
        shared = ApiServer(backend.whole, ROUTES)._shared
        backend.watches.wake = shared.turn.soon
        self.shared = shared
        self.waits = shared.waits
        self.rendered = shared.kept.rendered
        self.answers: dict[str, list[Any]] = {}

    def exchange(self) -> Exchange:
        nothing: Any = None
        return Serving(nothing, self.shared, is_local=True)._exchange

    def wait(self, name: str, index: int, exchange: Exchange | None = None) -> None:
        """Begin to wait, as a parked connection does after its barrier."""
        raw = f"index={index}&wait=10m".encode()
        request = Request()
        request.query = raw
        deferred = health.service(exchange or self.exchange(), request, name.encode())
        assert isinstance(deferred, Deferred)
        wait = deferred.finish(NO_OUTCOME)
        assert isinstance(wait, Wait), wait
        told = self.answers.setdefault(name, [])
        self.waits.add(wait, told.append).start()


@pytest.fixture
def place(backend: StateBackend) -> Place:
    return Place(backend)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each service was looked at by a read of it."""
    counted: Counter[str] = Counter()
    look = instances._Read.look

    def counting(self: instances._Read, after: int | None) -> Any:
        counted[self._folded.decode()] += 1
        return look(self, after)

    monkeypatch.setattr(instances._Read, "look", counting)
    return counted


async def test_a_change_looks_at_those_who_wait_for_it_and_a_read_is_small(
    backend, catalog, place, looks, autojump_clock
):
    catalog.register(OWN, "one")
    catalog.check(OWN, "c", "passing", service="one")
    index = backend.applied_index
    # The names are not registered, but one: what waits for a name costs the same whether or not it is.
    names = ["one", *(f"s{number:05}" for number in range(1, MANY))]
    for name in names[MEASURED:]:
        place.wait(name, index)
    exchanges = [place.exchange() for _ in range(MEASURED)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for name, exchange in zip(names, exchanges, strict=False):
        place.wait(name, index, exchange)
    backend.readers.clear()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(place.waits) == MANY
    assert (after - before) / MEASURED < 2048
    looks.clear()
    catalog.check(OWN, "c", "critical", service="one")
    await trio.testing.wait_all_tasks_blocked()
    assert looks == {"one": 1}
    assert [type(answer) for answer in place.answers["one"]] == [bytes]
    assert len(place.waits) == MANY - 1
    place.waits.stop()


async def test_a_node_that_dies_wakes_all_that_wait_for_services_there_in_turns(
    backend, catalog, place, looks, autojump_clock
):
    backend.add("n2", 2, 8501)
    for number in range(500):
        catalog.register(OWN if number % 2 else 2, f"s{number:03}")
    index = backend.applied_index
    for number in range(500):
        place.wait(f"s{number:03}", index)
    looks.clear()
    backend.check(2, SERF_HEALTH, "critical", "Serf Health Status")
    answered = sum(map(len, place.answers.values()))
    assert answered <= 32  # The rest waits for later turns.
    await trio.testing.wait_all_tasks_blocked()
    assert looks == {f"s{number:03}": 1 for number in range(0, 500, 2)}
    assert all(len(place.answers[f"s{number:03}"]) == 1 - number % 2 for number in range(500))
    place.waits.stop()


async def test_reads_of_a_service_on_many_nodes_share_their_waits(
    backend, catalog, place, looks, autojump_clock
):
    numbers = [catalog.add_external(f"ext-{k:03}", "192.0.2.1") for k in range(CROWD_MIN + 4)]
    for number in numbers:
        catalog.register(number, "web", f"w{number}")
    index = backend.applied_index
    for _ in range(300):
        place.wait("web", index)
    [crowd] = place.rendered.crowds.values()
    assert len(crowd._waiter._waiters) == len(numbers) + 1
    looks.clear()
    catalog.check(numbers[3], "disk", "warning")
    assert len(place.answers["web"]) <= 32
    await trio.testing.wait_all_tasks_blocked()
    assert looks == {"web": 300}
    assert len(place.answers["web"]) == 300
    assert place.rendered.crowds == {}

    # A crowd that nobody is in any more is gone.
    for _ in range(3):
        place.wait("web", backend.applied_index)
    assert len(place.rendered.crowds) == 1
    for pending in list(place.waits._pending):
        pending.give_up()
    assert place.rendered.crowds == {}


async def test_a_member_of_a_crowd_that_gave_up_is_not_told(
    backend, catalog, place, autojump_clock
):
    for k in range(CROWD_MIN + 1):
        number = catalog.add_external(f"ext-{k:03}", "192.0.2.1")
        catalog.register(number, "web")
    for _ in range(100):
        place.wait("web", backend.applied_index)
    catalog.check(number, "disk", "warning")  # Some are told in later turns.
    told = len(place.answers["web"])
    assert told < 100
    for pending in list(place.waits._pending):
        pending.give_up()
    await trio.testing.wait_all_tasks_blocked()
    assert len(place.answers["web"]) == told
