"""The leader is killed and halted, and is found again through every resolver and proxy.

All of them are set up by what `hstore dns setup` prints, and are asked at once while the same leader
is lost. Beside the time of the election, each has its own; the bounds are below what it costs when
a failure is remembered (5 s by unbound, 10 s by systemd-resolved) or only the lost node is asked.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import trio

from .cluster import Node, eventually
from .machine import is_permitted
from .outages import Ask, Look, ask_leader, lose, post
from .resolvers import PROGRAMS, PROXIES, House, house, installed

pytestmark = pytest.mark.skipif(not is_permitted(), reason="takes root, and namespaces")

BOUND_S = 4.5
"""Ordinary is 0.1 to 1 s after SIGKILL and 1 to 2.2 s after SIGSTOP; the machine may be busy."""

OWN_WAITS_S = {
    ("systemd-resolved", "SIGSTOP"): 5.0,
    ("knot", "SIGKILL"): 4.0,
    ("knot", "SIGSTOP"): 4.0,
}
"""What a resolver waits for the lost node before it asks another one; Knot asks twice at times."""

LOSSES = {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}

Measured = dict[tuple[str, str], tuple[float, list[Look]]]
"""The seconds and the answers of each client and each loss."""

ADMIN = ("/v1/node/stop", "/v1/cluster/stop", "/v1/leader/transfer")
OTHERWISE = ("//v1/node/stop", "/%761/node/stop", "/v1//cluster/stop")
"""What an operator asks, and the same as another program might read it."""


def host_of(node: Node) -> str:
    return node.address.partition(":")[0]


def one_loss(house: House, loss: str, proxies: list[str]) -> Measured:
    """Lose the leader in one way, and let it run again."""
    house.cluster.wait_healthy()
    leader = house.cluster.leader()
    old = host_of(leader)
    asks: dict[str, Ask] = {
        system: partial(ask_leader, host) for system, host in house.resolvers.items()
    }
    other = host_of(house.cluster.followers()[0])
    asks["a node"] = partial(ask_leader, other, 8600)
    asks |= {proxy: partial(post, PROXIES[proxy]) for proxy in proxies}
    right = {host_of(node) for node in house.cluster.nodes} - {old} | {"200"}
    strike = partial(leader.signal, LOSSES[loss])
    took, seen = trio.run(lose, asks, right.__contains__, strike)
    if loss == "SIGKILL":
        leader.wait_end()
        leader.start()
    else:
        leader.signal(signal.SIGCONT)
    return {(name, loss): (took[name], seen[name]) for name in asks}


def gets_through(proxy: str) -> bool:
    return trio.run(post, PROXIES[proxy]) == "200"


@pytest.fixture(scope="module")
def refusals() -> dict[str, list[str]]:
    """What each proxy said to requests that only the own machine may make."""
    return {}


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, refusals: dict[str, list[str]]
) -> Iterator[Measured]:
    """Lose the leader in each way, with all that is installed asked at once."""
    systems = installed(PROGRAMS)
    proxies = [one for one in installed({one: one for one in PROXIES}) if "dnsmasq" in systems]
    with house(tmp_path_factory.mktemp("outages"), systems, proxies) as built:
        for proxy in proxies:
            eventually(partial(gets_through, proxy), f"{proxy} works")
            paths = (*ADMIN, *OTHERWISE)
            refusals[proxy] = [trio.run(post, PROXIES[proxy], path) for path in paths]
        found: Measured = {}
        for loss in LOSSES:
            found |= one_loss(built, loss, proxies)
        yield found


def check(measured: Measured, name: str, loss: str) -> None:
    took, looks = measured[name, loss]
    shown = [(look.said, round(look.ended - look.begun, 2)) for look in looks]
    assert took < BOUND_S + OWN_WAITS_S.get((name, loss), 0), shown


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("system", PROGRAMS)
def test_a_lost_leader_is_soon_found_through_a_resolver(
    measured: Measured, require_tool: Callable[[str], str], system: str, loss: str
) -> None:
    require_tool(PROGRAMS[system])
    check(measured, system, loss)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("proxy", PROXIES)
def test_writes_soon_get_through_a_proxy_again(
    measured: Measured, require_tool: Callable[[str], str], proxy: str, loss: str
) -> None:
    require_tool(proxy)
    require_tool("dnsmasq")
    check(measured, proxy, loss)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_does_not_pass_on_the_rights_of_its_machine(
    measured: Measured,
    refusals: dict[str, list[str]],
    require_tool: Callable[[str], str],
    proxy: str,
) -> None:
    require_tool(proxy)
    require_tool("dnsmasq")
    assert measured
    assert refusals[proxy][: len(ADMIN)] == ["403"] * len(ADMIN)
    assert set(refusals[proxy]) <= {"403", "404"}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_leader_is_soon_found_at_a_node(measured: Measured, loss: str) -> None:
    check(measured, "a node", loss)
