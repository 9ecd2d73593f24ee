"""Clients that wait for a change of a service, at one member as long as that lives.

- V8: who waits is answered within 0.5 s of a change that the member has applied, and by no change that
  leaves the answer as it was.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

from ..tables import catalog
from .catalogs import NAMES
from .clients import Answer, Client, Clients

if TYPE_CHECKING:
    from .member import SimMember

_WAITS_S = (1.0, 3.0)
SOON_S = 0.5
"""From the turn in which a change is applied to the answer on its way; beside that of the network."""


class Watcher(Client):
    """One client; it asks the same question again and again."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._name = self._path = ""
        self._index = 0
        self._body = b""

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        return answer.status == 200 and answer.result_index > 0

    async def ask_something(self) -> None:
        """See `Client`."""
        rng = self.rng
        if not self._index or rng.random() < 0.1:
            self._name, self._index = rng.choice(NAMES), 0
            kind = rng.choice(("health", "health", "catalog"))
            self._path = f"/v1/{kind}/service/{self._name}"
        wait_s, begun = rng.choice(_WAITS_S), trio.current_time()
        query = f"?index={self._index}&wait={wait_s}s" if self._index else ""
        longest = wait_s * 17 / 16 if self._index else 0.0
        answer = await self._send("GET", self._path + query, wait_s=longest, member=self._whom())
        if answer is None or answer.status != 200:
            self._index = 0
            return
        if self._index:
            self._judge(answer, begun, wait_s)
        self._index, self._body = answer.result_index, answer.body

    def _whom(self) -> SimMember | None:
        is_known = bool(self._connections)  # Closed where a request had no answer.
        return self.member if is_known and self.member.is_up else None

    def _judge(self, answer: Answer, begun: float, wait_s: float) -> None:
        sim, member, before, index = self.sim, self.member, self._index, answer.result_index
        now = trio.current_time()
        about = f"V8: node {member.id} answers {self._path} by {index}, after {before}"
        if index == before and now - begun < wait_s:
            sim.fail(f"{about}, in {now - begun:.3f} s, not {wait_s} s")
        if index < before:
            sim.fail(about)
        if index > before:
            sim.counts["catalog waits answered"] += 1
            # Checks count for all questions about a service, and only health/service shows them.
            is_whole = "/health/" in self._path and not self._has_changed(before, index)
            if is_whole and answer.body == self._body != b"[]":
                sim.fail(f"{about}, and nothing has changed: {answer.body!r:.300}")
        else:
            sim.counts["catalog waits over"] += 1
        connection = self._connections.get(member.id)
        life = connection.life if connection is not None else member.lives
        changed = sim.catalogs.changed_after(member, life, self._name, before)
        if changed is None or not self.was_undisturbed:
            return
        ago = now - max(changed.at, begun)
        if ago > SOON_S + 40 * self.options.delay_mean:
            sim.fail(f"{about}, {ago:.3f} s after {changed.at_index} at {changed.applied}")

    def _has_changed(self, before: int, index: int) -> bool:
        """Whether the answer was another one in between, as where an instance has come and gone."""
        book = self.sim.checker.judge.book
        if not book.last.is_open or index > book.last.index:
            return True
        question = "service", self._name.encode()
        return catalog.between(question, book.pages[index])[0] > before
