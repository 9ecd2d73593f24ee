"""Reads that wait for the same many keys, and share one wait for these.

A service may be on ten thousand nodes, and a thousand reads may wait for each of them: a wait of each
read for each node would take gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backend import Waiter
    from ..http.exchange import Exchange

CROWD_MIN = 16
"""From so many keys on, reads that wait for the same ones share their wait."""


class Crowd:
    """Reads that wait for the same keys, until the first of these changes. It has one member at least.

    Args:
        exchange: Of the connection of any of them.
        name: That of the crowd: who waits for the same finds it by that in `Rendered.crowds`.
        begin: Begins to wait for the keys; what it is given is called once, at the next change.
    """

    __slots__ = ("_crowds", "_members", "_name", "_turn", "_waiter")

    def __init__(
        self, exchange: Exchange, name: bytes, begin: Callable[[Callable[[], None]], Waiter]
    ) -> None:
        self._crowds: dict[bytes, Crowd] = exchange.rendered.crowds
        self._name = name
        self._turn = exchange.turn
        self._members: dict[Member, None] = {}
        self._waiter = begin(self._come)
        self._crowds[name] = self

    def join(self, call: Callable[[], None]) -> Member:
        """Have `call` called once, in a turn that has room for it, after the next change."""
        member = Member(self, call)
        self._members[member] = None
        return member

    def leave(self, member: Member) -> None:
        """Forget a member; also one that is forgotten already."""
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self._waiter.give_up()
            del self._crowds[self._name]

    def _come(self) -> None:
        del self._crowds[self._name]
        members, self._members = self._members, {}
        for member in members:
            self._turn.soon(member.end)


class Member:
    """One read of a crowd."""

    __slots__ = ("_crowd", "call")

    def __init__(self, crowd: Crowd, call: Callable[[], None]) -> None:
        self._crowd = crowd
        self.call: Callable[[], None] | None = call

    def end(self) -> None:
        """Call, unless it was given up meanwhile."""
        call, self.call = self.call, None
        if call is not None:
            call()

    def give_up(self) -> None:
        """Wait no more. Idempotent."""
        self.call = None
        self._crowd.leave(self)
