"""How long nobody finds the leader through a resolver, once it is lost: killed, or halted.

Every resolver that is installed runs beside the others, set up by what `hstore dns setup` prints,
and all are asked at once while the same leader is lost; so is a node that goes on. What a client
does, and when the outage is over for it, is in `tests/system/outages.py`. There is nothing of
another system to compare with: the row of the node is what the resolvers are measured by.
"""

from __future__ import annotations

import shutil
import signal
from functools import partial

import trio

from tests.system.cluster import Node
from tests.system.machine import is_permitted
from tests.system.outages import LONGEST_S, Ask, ask_leader, lose
from tests.system.resolvers import PROGRAMS, House, house, installed

from .outage import Loss
from .plan import Plan, Rows
from .processes import Failed
from .rows import Row, Target

DIRECT = "a node, asked directly"

_LOSSES = {Loss.KILL: signal.SIGKILL, Loss.HALT: signal.SIGSTOP}
_LABELS = ("s without a right `leader`", "")
_MEDIAN_S = {Loss.KILL: 1.0, Loss.HALT: 2.2}
_WORST_S = 3.1
"""An election, and the two seconds for which a node holds a question."""

NOTE = f"{LONGEST_S:g} s stands for never: it was not over by then."


def row_name(loss: Loss, system: str) -> str:
    """Name the row; targets refer to it by this."""
    return f"{loss.value} of the leader: {system}"


def _target(loss: Loss, *without: str) -> Target:
    return Target(
        f"a right `leader` through a resolver after {loss.value}",
        f"median at most {_MEDIAN_S[loss]} s, none above {_WORST_S} s",
        tuple(row_name(loss, system) for system in PROGRAMS if system not in without),
        median=_MEDIAN_S[loss],
        worst=_WORST_S,
    )


TARGETS = (_target(Loss.KILL, "knot"), _target(Loss.HALT, "knot", "systemd-resolved"))
"""Without what no configuration can mend: systemd-resolved waits 5 s for a silent server, and Knot
Resolver 2 s for one that is down in any way."""


def resolvers(plan: Plan) -> Rows:
    """The leader is lost in each of two ways, and looked for through all resolvers at once."""
    if not is_permitted():
        raise Failed("the resolvers need port 53, so it takes root, and network namespaces")
    systems = installed(PROGRAMS)
    place = plan.folder / "resolvers"
    found: dict[str, list[float]] = {}
    with house(place, systems) as built:
        for _ in range(plan.outages):
            for loss in _LOSSES:
                for system, seconds in _round(built, loss).items():
                    found.setdefault(row_name(loss, system), []).append(min(seconds, LONGEST_S))
    shutil.rmtree(place, ignore_errors=True)
    for loss in _LOSSES:
        for system in (DIRECT, *PROGRAMS):
            name = row_name(loss, system)
            void = "" if name in found else f"{PROGRAMS[system]} is not installed"
            yield Row(name, "", tuple(found.get(name, ())), labels=_LABELS, void=void, note=NOTE)


def _round(house: House, loss: Loss) -> dict[str, float]:
    """Lose the leader once, and have the cluster healthy again."""
    leader = house.cluster.leader()
    others = [node for node in house.cluster.nodes if node is not leader]
    asks: dict[str, Ask] = {
        system: partial(ask_leader, host) for system, host in house.resolvers.items()
    }
    asks[DIRECT] = partial(ask_leader, _host(others[0]), others[0].dns_port)
    right = {_host(node) for node in others}
    took, _ = trio.run(lose, asks, right.__contains__, partial(leader.signal, _LOSSES[loss]))
    if loss is Loss.KILL:
        leader.wait_end()
        leader.start()
    else:
        leader.signal(signal.SIGCONT)
    house.cluster.wait_healthy()
    return took


def _host(node: Node) -> str:
    return node.address.partition(":")[0]
