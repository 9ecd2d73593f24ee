"""Registrations that are sent until they are answered, and later once more, under one key.

- V11: a keyed registration, deregistration or turn of maintenance takes effect once, however often it is
  sent and to whom; it is committed under its key, and answered the same each time.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from hstore.node.model.commands import Command, Denial, Keyed, Outcome
from hstore.node.model.services import CatalogRegister, Deregister, RegisterCheck, RegisterService

if TYPE_CHECKING:
    from random import Random

    from .clients import Answer
    from .member import SimMember
    from .simulation import WholeSimulation

_ATTEMPTS = 4
_PAUSE_S = 0.1
_KEPT = 12
"""So many of the last requests of a client may be sent once more."""

_ELSEWHERE = 0.3
"""Share of repetitions that another member gets."""


class First(NamedTuple):
    """The entry in which a keyed write has taken effect.

    Attributes:
        at: Its index.
        outcome: Of it.
        command: Without its key.
    """

    at: int
    outcome: Outcome
    command: Command


class Onces:
    """The keyed registrations of one run, by the log and by what was answered.

    Attributes:
        firsts: By key.
        names: The IDs of what is only asked for under keys.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.firsts: dict[bytes, First] = {}
        self.names: set[str] = set()
        self._told: dict[bytes, tuple[int, bytes]] = {}

    def committed(self, command: Command, outcome: Outcome, index: int) -> None:
        """A command of the log has been applied for the first time, on some node."""
        if isinstance(command, Keyed):
            if outcome.denial in (Denial.KEY_REUSED, Denial.KEYS_EXHAUSTED):
                return
            if command.key in self.firsts:
                self.sim.counts["keyed registrations that are twice in the log"] += 1
            self.firsts.setdefault(command.key, First(index, outcome, command.command))
        elif names := self.names.intersection(_names(command)):
            self.sim.fail(f"V11: {names} at {index} is committed without its key: {command}")

    def answered(self, key: bytes, target: str, answer: Answer) -> None:
        """A keyed write is answered for certain."""
        sim, status = self.sim, answer.status
        about = f"V11: {target} under {key!r}: {status} {answer.body!r:.100}"
        known = self._told.setdefault(key, (status, answer.body))
        if known != (status, answer.body):
            sim.fail(f"{about}, and was {known}")
        if not sim.checker.judge.book.last.is_open:
            return
        first = self.firsts.get(key)
        if first is None:
            if status == 200:
                sim.fail(f"{about}, and it is committed nowhere")
            return
        sim.counts["keyed registrations answered"] += 1
        denial = first.outcome.denial
        was_so = denial == Denial.NO_CHECK and "maintenance" in target
        was_so |= denial == Denial.NO_NODE and "catalog/deregister" in target
        is_done = first.outcome.ok or was_so
        if is_done is not (status == 200):
            sim.fail(f"{about}, and {first}")


def _names(command: Command) -> tuple[str, ...]:
    """Return the IDs that a command names."""
    if isinstance(command, RegisterService):
        return (command.service.id,)
    if isinstance(command, RegisterCheck):
        return command.check.id, command.check.notes
    if isinstance(command, CatalogRegister):
        return (command.node.name,)
    if isinstance(command, Deregister):
        return command.service or "", command.check or "", command.place.name
    return ()


class Send(Protocol):
    """Asks a node, as `Client._send` does."""

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: tuple[str, ...],
        *,
        member: SimMember | None,
    ) -> Awaitable[Answer | None]:
        """Return the answer; None: there is none."""
        ...


class Copies:
    """What one client sends under keys.

    Args:
        sim: Of the run.
        number: Of the client.
        rng: Of the client.
        send: Asks a node.
    """

    def __init__(self, sim: WholeSimulation, number: int, rng: Random, send: Send) -> None:
        self._sim = sim
        self._number = number
        self._rng = rng
        self._send = send
        self._count = 0
        self._sent: list[tuple[bytes, str, bytes]] = []

    @property
    def key(self) -> bytes:
        """Of the last request."""
        return f"{self._number}/s{self._count}".encode()

    @property
    def are_there(self) -> bool:
        """Whether anything was sent that may be sent once more."""
        return bool(self._sent)

    async def send(self, target: str, body: bytes, member: SimMember | None) -> Answer | None:
        """Send a write until it is answered for certain; None or a 5xx: it never was."""
        self._count += 1
        key = self.key
        self._sent = [*self._sent[1 - _KEPT :], (key, target, body)]
        answer = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sim.counts["keyed registrations sent again"] += 1
                await trio.sleep(_PAUSE_S)
                if self._rng.random() < _ELSEWHERE:
                    member = None
            answer = await self._once(key, target, body, member)
            if answer is not None and not answer.is_unavailable:
                break
        return answer

    async def send_again(self) -> None:
        """Send one of the last writes again, also one that was answered long ago."""
        key, target, body = self._rng.choice(self._sent)
        answer = await self._once(key, target, body, None)
        if answer is not None and not answer.is_unavailable:
            self._sim.counts["old registrations sent again and answered"] += 1

    async def _once(
        self, key: bytes, target: str, body: bytes, member: SimMember | None
    ) -> Answer | None:
        headers = (f"Idempotency-Key: {key.decode()}",)
        if member is not None and member.is_gone:
            member = None
        answer = await self._send("PUT", target, body, headers, member=member)
        if answer is not None and not answer.is_unavailable:
            self._sim.onces.answered(key, target, answer)
        return answer
