"""What is shipped is what is run: every option of a core, every event, the shipped values most often.

The lists of the simulator are compared with those of the core, so that an option or an event that a
core gets later cannot be forgotten here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from random import Random
from typing import Any, get_args

import pytest

from hstore.node.node import Life, Node
from hstore.node.raft.core import Core
from hstore.node.raft.events import Event
from hstore.node.raft.options import Options
from hstore.node.raft.update import Update
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk

from .options import OTHER_THAN_SHIPPED, SHIPPED, draw
from .runner import run_seed

_NAMES = [field.name for field in fields(Options)]
_DRAWN = [draw(seed).core for seed in range(500)]


async def _dial_nobody(_address: str) -> Any:
    raise OSError


async def test_what_is_taken_for_shipped_is_what_a_real_node_gives_its_core() -> None:
    storage = MemoryDisk(Identity("00112233445566aa", 1)).open()
    node = Node(storage, address="10.0.0.1:8500", dial=_dial_nobody, rng=Random(1), life=Life(1))

    assert node.replica.core.options == SHIPPED


def test_every_option_of_a_core_is_drawn() -> None:
    assert sorted(OTHER_THAN_SHIPPED) == sorted(_NAMES)


@pytest.mark.parametrize("name", _NAMES)
def test_the_shipped_value_is_drawn_most_often_and_every_other_one_as_well(name: str) -> None:
    shipped = getattr(SHIPPED, name)
    values = Counter(getattr(options, name) for options in _DRAWN)

    assert set(values) == {shipped, *OTHER_THAN_SHIPPED[name]}
    assert len(values) > 1
    assert values[shipped] > len(_DRAWN) / 2


def test_many_seeds_run_with_exactly_what_is_shipped() -> None:
    assert _DRAWN.count(SHIPPED) > len(_DRAWN) / 4


def test_every_event_of_a_core_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: set[type] = set()
    step_all = Core.step_all

    def noting(core: Core, events: Iterable[Event]) -> Update:
        together = list(events)
        fed.update(map(type, together))
        return step_all(core, together)

    monkeypatch.setattr(Core, "step_all", noting)
    for seed in range(12):
        run_seed(seed)

    assert fed == set(get_args(Event))
