"""Clients that read the names of all services, and wait for another one.

- V12: `catalog/services` shows at each index the names with their tags that the log has left, sorted, also
  with `?node-meta=`; its index is that of the last change of them, whatever checks do; who waits is
  answered within 0.5 s of a change that the member has applied, and by nothing else.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import trio

from ..tables import catalog
from .clients import Answer, Client, Clients
from .waiters import majority_runs_since
from .watchers import SOON_S

if TYPE_CHECKING:
    from ..tables.page import Page
    from .member import SimMember

_WAITS_S = (1.0, 3.0)
_META = "external-node", "true"


class Lister(Client):
    """One client; it asks one member again and again, as long as that lives."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._index = 0
        self._is_narrowed = self._is_stale = False

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        return answer.status == 200 and answer.result_index > 0

    async def ask_something(self) -> None:
        """See `Client`."""
        rng, sim = self.rng, self.sim
        if not self._index or rng.random() < 0.15:
            self._index = 0
            self._is_narrowed, self._is_stale = rng.random() < 0.3, rng.random() < 0.2
        wait_s, begun = rng.choice(_WAITS_S), trio.current_time()
        query = ["stale"] if self._is_stale else []
        if self._is_narrowed:
            query.append("node-meta=" + ":".join(_META))
        if self._index:
            query += [f"index={self._index}", f"wait={wait_s}s"]
        path = "/v1/catalog/services" + ("?" + "&".join(query) if query else "")
        longest = wait_s * 17 / 16 if self._index else 0.0
        least = 0 if self._is_stale else sim.checker.committed
        answer = await self._send("GET", path, wait_s=longest, member=self._whom())
        if answer is None or answer.status != 200:
            self._index = 0
            return
        about = f"V12: node {self.member.id} answers {path} by {answer.result_index}"
        if answer.index < least:
            sim.fail(f"{about} at {answer.index}: {least} was committed before it was asked")
        self._compare(answer, about)
        if self._index:
            self._judge_wait(answer, begun, wait_s, about)
        self._index = answer.result_index

    def _whom(self) -> SimMember | None:
        is_known = bool(self._connections)  # Closed where a request had no answer.
        return self.member if is_known and self.member.is_up else None

    @property
    def _question(self) -> catalog.Question:
        return ("instances" if self._is_narrowed else "services", b"")

    def _compare(self, answer: Answer, about: str) -> None:
        """Compare an answer with the page of its index."""
        book, sim = self.sim.checker.judge.book, self.sim
        if not book.last.is_open or answer.index > book.last.index:
            return
        page = book.pages[answer.index]
        found = [(name, tags) for name, tags in answer.json().items()]
        expected = _narrowed(page) if self._is_narrowed else _every(page)
        sim.counts["lists of services compared"] += 1
        if found != expected:
            sim.fail(f"{about} at {answer.index}: {found}, by the log {expected}")
        least, most = catalog.between(self._question, page)
        if not max(least, 1) <= answer.result_index <= max(most, 1):
            sim.fail(f"{about} at {answer.index}: by the log {least} to {most}")

    def _judge_wait(self, answer: Answer, begun: float, wait_s: float, about: str) -> None:
        sim, before, index, now = self.sim, self._index, answer.result_index, trio.current_time()
        about = f"{about} after {before}"
        if index < before or (index == before and now - begun < wait_s):
            sim.fail(f"{about} in {now - begun:.3f} s, not {wait_s} s")
        sim.counts[f"waits for lists of services {'answered' if index > before else 'over'}"] += 1
        book = sim.checker.judge.book
        if index <= before or not book.last.is_open or index > book.last.index:
            return
        connection = self._connections.get(self.member.id)
        life = connection.life if connection is not None else self.member.lives
        # The first change after the index that it waited with.
        later = book.pages[before + 1 : index + 1]
        moved = (p.index for p in later if catalog.between(self._question, p)[0] > before)
        changed = next(moved, None)
        if changed is None or not self.was_undisturbed:
            return
        known_at = sim.checker.applied_at(self.member.id, life, changed)
        if known_at is None:
            return
        could_at = max(sim.checker.last_election, majority_runs_since(sim, self.member))
        ago = now - max(known_at, begun, could_at)
        if ago > SOON_S + 40 * self.options.delay_mean:
            sim.fail(f"{about}, {ago:.3f} s after it has applied {changed}")


def _every(page: Page) -> list[tuple[str, list[str]]]:
    answers: Any = catalog.answers(page)
    return [(name, list(tags)) for name, tags in answers["services", b""]]


def _narrowed(page: Page) -> list[tuple[str, list[str]]]:
    """Return the names on the nodes with the meta that is asked for."""
    found: dict[str, set[str]] = {}
    for (number, _), service in page.services.items():
        node = page.externals.get(number)
        if node is not None and _META in node.meta:
            found.setdefault(service.name, set()).update(service.tags)
    return [(name, sorted(found[name])) for name in sorted(found)]
