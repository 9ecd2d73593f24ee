"""Which process runs each peer, and the proof that an earlier one still runs.

A node's id is in its data directory. If that directory is copied, two processes have one id: each
would replace the other's connections, and both would vote. So each process draws a random number
when it starts, its *incarnation*, and gives it in every hello and welcome.

Theory of operation. A node remembers for each peer the incarnation that it knew last, and where that
process listens. When a process with another incarnation gives the peer's id, the node dials the earlier
process anew and asks for its welcome. Only an answer to that counts: a connection that still stands
proves nothing, since the process at its other end may have been killed.

- The earlier process answers: the newcomer is refused (`Refusal.DUPLICATE`), and ends.
- Nothing answers, another node, or the newcomer itself (a restart at the same address): the
  newcomer is the peer from now on, and connections of the earlier process are closed.

A node that has just started knows no incarnation of a peer; then it asks at the address that the
cluster has for that peer. A process that hangs, or was stopped by SIGSTOP, does not answer, so the
newcomer takes its place; when it goes on, it is refused in turn, and ends. Not found out: two processes
that are linked to disjoint sets of members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import trio

from ..errors import PeerError
from . import wire
from .greeting import LOST, Dial, LocalNode, ask

PROBE_SECONDS = 1.0
"""Time for the earlier process to answer, from the dial on."""

_MAX_PROBES = 16
"""At once. A newcomer that would need one more is disconnected, and dials again."""

_MAX_ROUNDS = 3
"""Probes for one newcomer: during each, another process of the peer may have been admitted."""

_MAX_KNOWN = 128
"""Peers remembered, members or not; the oldest is forgotten."""


class Known(NamedTuple):
    """The process of a peer: its incarnation, and `HOST:PORT` where it can be dialled, or empty."""

    incarnation: int
    address: str


class Incarnations:
    """The processes of its peers that one node knows."""

    def __init__(
        self,
        me: LocalNode,
        dial: Dial,
        *,
        stated: Callable[[int], str],
        on_change: Callable[[int, int], None],
    ) -> None:
        """Begin without any known process.

        Args:
            me: This node.
            dial: How the earlier process is dialled.
            stated: Returns where the cluster says that a peer is, or an empty string.
            on_change: Called with a peer's id and its new incarnation, when that took the place of
                another one.
        """
        self._me = me
        self._dial = dial
        self._stated = stated
        self._on_change = on_change
        self._known: dict[int, Known] = {}
        self._probes = 0

    def of(self, peer: int) -> int:
        """Return the incarnation of a peer that is known here; 0: none is."""
        known = self._known.get(peer)
        return known.incarnation if known else 0

    async def admit(self, peer: int, incarnation: int, address: str, *, is_dialled: bool) -> str:
        """Decide whether a process is the peer, and remember it if so.

        Args:
            peer: The id that the process gives as its own.
            incarnation: Its incarnation; one of 0 is admitted and not remembered.
            address: Where it can be dialled; empty: unknown.
            is_dialled: Whether this node has just dialled `address`, and the process answered.

        Returns:
            The address at which another process of the peer answers; empty: it is admitted.

        Raises:
            PeerError: It cannot be decided now; the process is to dial again.

        Cancellation: Nothing is remembered.
        """
        if not incarnation:
            return ""
        for _ in range(_MAX_ROUNDS):
            known = self._known.get(peer)
            where = known.address if known else self._stated(peer)
            is_proved = not where or (is_dialled and where == address)
            if is_proved or (known and known.incarnation == incarnation):
                break
            found = await self._probe(peer, where)
            if self._known.get(peer) is not known:
                continue
            earlier = known.incarnation if known else found
            if found and found == earlier != incarnation:
                return where
            break
        else:
            raise PeerError("the peer's processes changed during each probe")
        self._remember(peer, Known(incarnation, address))
        return ""

    def _remember(self, peer: int, now: Known) -> None:
        before = self._known.pop(peer, None)
        self._known[peer] = now
        if len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        if before is None or before.incarnation != now.incarnation:
            self._on_change(peer, now.incarnation)

    async def _probe(self, peer: int, address: str) -> int:
        """Return the incarnation of `peer` that answers at an address; 0: none does in time."""
        if self._probes >= _MAX_PROBES:
            raise PeerError("too many probes are under way")
        self._probes += 1
        try:
            with trio.move_on_after(PROBE_SECONDS):
                welcome = await ask(self._dial, address, self._me, peer)
                # A node of another cluster may have the id, too: that of a cluster which began
                # with a copy of this one's data.
                is_stranger = welcome.refusal in {wire.Refusal.CLUSTER, wire.Refusal.PROTOCOL}
                if welcome.node_id == peer and not is_stranger:
                    return welcome.incarnation
        except LOST:
            pass
        finally:
            self._probes -= 1
        return 0
