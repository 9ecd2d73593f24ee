"""What is arranged in the peace of some runs, since chance brings it about too seldom.

A session is renewed while its end is on its way, another one at a leader that was replaced and does not
know it, the link breaks on which an event was passed on, and a member dies that has a session. What must
be true then is judged where it always is: E1, D15, E3.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

from hstore.node.model.checks import SERF_HEALTH

from .lockers import Keeper

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_HELD_BACK_S = 0.02
"""So long the end of a session does not get to the others, and the renewal gets to the leader."""

_ELECTED_TIMEOUTS = 2.5
"""Election timeouts, in which the others have mostly elected another leader."""
_AHEAD_S = 0.5
"""So much longer its clocks run, at least, than that of the renewal."""
_RENEWED_S = 0.1
"""For a renewal to get to a node that is near."""

_CRITICAL_S = 8.0
"""For a member that died to be called critical: 3 s, and for another leader, if it led."""

_LOOKED_AT_S = 0.5
"""So long the grace of a session is watched, or as long as it is; then for as long as an end may take."""
_ENDS_S = 2.5

_PASSED_ON_S = 0.06
"""For an event to be in the log of the leader, on links and disks in peace."""
_REFUSED_S = 0.02
"""Short, so that the link is made again before the client gives up; a refusal comes sooner, mostly."""


async def arrange(sim: WholeSimulation, members: list[SimMember]) -> None:
    """Bring it about, once each."""
    await _renew_as_it_ends(sim)
    await _renew_at_who_was_replaced(sim)
    await _fire_over_a_broken_link(sim, members)
    await _die_with_a_session(sim, members)


async def _renew_as_it_ends(sim: WholeSimulation) -> None:
    leader, keeper = sim.leader(), Keeper(sim.clients, 2003, Random(3))
    session = await keeper.make(leader) if leader is not None else b""
    if leader is None or not session:
        return
    with trio.move_on_after(3 * sim.options.settings.session_ttl_min_ms / 1000):
        await sim.checker.lifetimes.end_of(session).wait()
        sim.counts["sessions renewed as they end"] += 1
        sim.nursery.start_soon(sim.faults.hold_back, leader, _HELD_BACK_S)
        await keeper.renew_late(leader)
    keeper.close()


async def _renew_at_who_was_replaced(sim: WholeSimulation) -> None:
    """Its read index is proven by the next leader, which has started the clock of the session before."""
    leader, keeper = sim.leader(), Keeper(sim.clients, 2006, Random(6))
    if leader is None or len(leader.core.config.voters) < 3 or not await keeper.make(leader):
        return
    seconds = _ELECTED_TIMEOUTS * sim.options.settings.election_timeout_ms / 1000 + _AHEAD_S
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sim.faults.cut_off, leader, seconds)
        await trio.sleep(seconds - _RENEWED_S)
        if leader.is_leader and leader.core.term < sim.checker.newest_term:
            sim.counts["sessions renewed in peace at who was replaced"] += 1
            await keeper.renew_late(leader)
    keeper.close()  # Nobody renews it again: its end is looked at with all others.


async def _die_with_a_session(sim: WholeSimulation, members: list[SimMember]) -> None:
    leader, grace_ms = sim.leader(), sim.options.settings.session_node_grace_ms
    others = [m for m in members if leader is not None and m.id in leader.core.config.voters]
    others = [m for m in others if m is not leader]
    if leader is None or len(others) < 2 or not grace_ms:
        return
    dead, keeper = others[0], Keeper(sim.clients, 2004, Random(4))
    number = leader.node.replica.state.members[dead.id].catalog_number
    session = await keeper.make_on_node(dead)
    dead.is_held = True
    dead.crash("of one that has a session, in peace")
    with trio.move_on_after(_CRITICAL_S):
        while session:
            await trio.sleep(0.05)
            check = leader.node.keys.check(number, SERF_HEALTH)
            if check is not None and check.status == "critical":
                sim.counts["members die that have a session"] += 1
                await trio.sleep(min(grace_ms / 1000, _LOOKED_AT_S))
                break
    dead.is_held = False
    dead.start()
    await keeper.destroy(leader)
    keeper.close()


async def _fire_over_a_broken_link(sim: WholeSimulation, members: list[SimMember]) -> None:
    leader = sim.leader()
    others = [m for m in members if m is not leader]
    if leader is None or not others:
        return
    wires, through = sim.wires, others[0]
    there, back = wires.ways[through.id, leader.id], wires.ways[leader.id, through.id]
    keeper = Keeper(sim.clients, 2005, Random(5))
    async with trio.open_nursery() as nursery:
        back.hold()
        nursery.start_soon(keeper.fire, through)
        await trio.sleep(_PASSED_ON_S)
        there.is_refusing = True
        for end in list(wires.ends):
            if set(end.out.ends) == {through.id, leader.id}:
                end.out.cut(0.0)  # with the reply on it
        back.release()
        await trio.sleep(_REFUSED_S)
        there.is_refusing = False
        sim.counts["events over a link that breaks"] += 1
    keeper.close()
