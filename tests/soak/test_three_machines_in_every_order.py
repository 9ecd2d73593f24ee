"""One configuration file on three machines, whose nodes are started in every order."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.system.cluster import eventually
from tests.system.test_three_machines import FIRST, Machines, machines

__all__ = ["machines"]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_in_every_order_they_are_one_cluster(machines: Machines, order: tuple[int, ...]) -> None:
    for number in order:
        machines.start(number)
        if number == FIRST:
            eventually(lambda: machines.nodes[FIRST].info().nodes, "the first has begun")
        elif FIRST in order[: order.index(number)]:
            machines.wait_log(number, "serving")
        else:
            machines.waits_on(number)
    machines.wait_healthy()
    for number in order:
        machines.nodes[number].kill()
    for number in order:
        machines.start(number)
    machines.wait_healthy()
