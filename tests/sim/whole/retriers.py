"""Clients that register services as `registrars.py` does, and send each write under a key until it is answered.

- V11: see `onces.py`.
- V13: maintenance that is turned on is a critical check with the reason that was given, on the node or
  the service that was asked for, and turned off it is there no more, by the entry that did it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from hstore.node.model.services import Deregister, Place, RegisterCheck, RegisterService

from ..tables.services_looking import external_named
from .clients import Answer, Clients
from .onces import Copies
from .registrars import Held, Registrar

if TYPE_CHECKING:
    from ..tables.page import Page
    from .member import SimMember

_AGAIN = 0.25
"""Share of requests that are old ones."""


class Retrier(Registrar):
    """One client with some instances."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._copies = Copies(self.sim, number, rng, super()._send)
        self._reasons = 0

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        if answer.status == 422:
            self.sim.fail(f"V11: what is sent again is taken for another request: {answer.body!r}")
        return answer.status == 422 or super().knows(answer)

    async def ask_something(self) -> None:
        """See `Client`."""
        if self._copies.are_there and self.rng.random() < _AGAIN:
            await self._copies.send_again()
        else:
            await super().ask_something()

    def new(self, name: str, home: SimMember | None) -> Held:
        """See `Registrar`."""
        held = super().new(name, home)
        self.sim.onces.names |= {held.id, f"_service_maintenance:{held.id}"}
        return held

    async def _send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: tuple[str, ...] = (),
        *,
        wait_s: float = 0.0,
        member: SimMember | None = None,
    ) -> Answer | None:
        """See `Client`: all writes but words carry a key."""
        if method != "PUT" or "/check/" in target:
            return await super()._send(method, target, body, headers, wait_s=wait_s, member=member)
        return await self._copies.send(target, body, member)

    def _path(self, held: Held, path: str, *, makes: bool = False) -> str:
        """See `Registrar`: the name of a node has no case."""
        found = super()._path(held, path, makes=makes)
        is_upper = held.node and self.rng.random() < 0.2
        return (
            found.replace(f"node={held.node}", f"node={held.node.upper()}") if is_upper else found
        )

    async def register(self, held: Held) -> bool:
        """See `Registrar`. Sent again to another member, it is registered where the first copy arrived."""
        is_done = await super().register(held)
        first = self.sim.onces.firsts.get(self._copies.key)
        if first is not None and isinstance(first.command, RegisterService):
            members = self.sim.checker.judge.book.last.members
            number = first.command.place.number
            where = next((one for one, face in members.items() if face.number == number), None)
            if number and where in self.sim.members:
                held.home = self.sim.members[where]
        return is_done

    def _check_ttl(self, held: Held, found: dict[str, Any], asked_at: float) -> None:
        """Others see to V2: which copy of a registration has arrived, and when, is not known here."""

    # -- maintenance ------------------------------------------------------------------------

    async def _maintain(self, held: Held) -> None:
        """Turn maintenance of an instance, or of its home, on or off; see that this is so (V13)."""
        rng = self.rng
        is_own, is_on = rng.random() < 0.6, rng.random() < 0.5
        self._reasons += 1
        reason = f"reason-{self.number}-{self._reasons}"
        self.sim.onces.names.add(reason)
        path = f"service/maintenance/{held.id}" if is_own else "maintenance"
        path = f"{path}?enable={str(is_on).lower()}&reason={reason}"
        answer = await self._send("PUT", self._path(held, path), member=held.home)
        first = self.sim.onces.firsts.get(self._copies.key)
        book = self.sim.checker.judge.book
        if answer is None or answer.status != 200 or first is None or not book.last.is_open:
            return
        check = f"_service_maintenance:{held.id}" if is_own else "_node_maintenance"
        command, page = first.command, book.pages[first.at]
        wrong = f"V13: {path} is {first}"
        if not isinstance(command, RegisterCheck if is_on else Deregister):
            self.sim.fail(wrong)
            return
        number = _number_of(page, command.place)
        found = None if number is None else page.checks.get((number, check))
        if not is_on:
            if found is not None or (number is None and first.outcome.ok):
                self.sim.fail(f"{wrong}: there is {found}")
        elif found is None or (found.status, found.notes) != ("critical", reason):
            self.sim.fail(f"{wrong}: there is {found}")
        elif found.service != (held.id if is_own else ""):
            self.sim.fail(f"{wrong}: it is a check of {found.service!r}")
        self.sim.counts[f"maintenance seen {'on' if is_on else 'off'}"] += 1


def _number_of(page: Page, place: Place) -> int | None:
    return place.number or external_named(page, place.name)
