"""Clients that keep a node that is no member, by the catalog's own paths.

Each has one node that nobody else writes, and sends each write under a key until it is answered. So it
knows at any moment what must be there.

- V14: after each write that is answered with 200, the node is exactly what its client has made of it, by
  the log and in every default read of `catalog/node` and `health/node`, on any member.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from ..tables.services_looking import external_named
from .catalogs import NAMES
from .clients import Answer, Client, Clients
from .onces import Copies

if TYPE_CHECKING:
    from ..tables.page import Page

_KINDS = {"register": 5, "check": 2, "deregister": 3, "read": 5, "again": 3}
_METAS: tuple[dict[str, str], ...] = ({}, {"rack": "a"}, {"rack": "b", "external-node": "true"})
_STATUSES = ("passing", "warning", "critical")
_MOST = 3
"""Services of a node."""


@dataclass(slots=True)
class Kept:
    """A node, as its client knows it.

    Attributes:
        name: Of the node.
        is_there: Whether it is registered.
        address, meta: Of it.
        services: Names in lower case and ports, by ID.
        checks: Statuses, and the IDs of their services, by ID.
    """

    name: str
    is_there: bool = False
    address: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    services: dict[str, tuple[str, int]] = field(default_factory=dict)
    checks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def forget(self) -> None:
        """It is not there any more."""
        self.is_there, self.address, self.meta = False, "", {}
        self.services, self.checks = {}, {}

    def shown(self) -> tuple[Any, ...] | None:
        """Return all of it; None: it is not there."""
        if not self.is_there:
            return None
        return self.address, self.meta, self.services, self.checks


class Stranger(Client):
    """One client with a node."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._copies = Copies(self.sim, number, rng, self._send)
        self._nodes = self._ids = 0
        self._kept = self._new_node()

    def _new_node(self) -> Kept:
        self._nodes += 1
        kept = Kept(f"stranger-{self.number}-{self._nodes}")
        self.sim.onces.names.add(kept.name)
        return kept

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        if answer.status == 422:
            self.sim.fail(f"V11: what is sent again is taken for another request: {answer.body!r}")
        is_refused = b"there may not be more" in answer.body or b"may not have more" in answer.body
        return answer.status in (200, 422) or is_refused

    async def ask_something(self) -> None:
        """See `Client`."""
        (kind,) = self.rng.choices(tuple(_KINDS), tuple(_KINDS.values()))
        if kind == "read":
            await self._look()
        elif kind == "again":
            if self._copies.are_there:
                await self._copies.send_again()
        elif kind == "register" or not self._kept.is_there:
            await self._register()
        elif kind == "check":
            await self._register_check()
        else:
            await self._deregister()

    # -- writing ----------------------------------------------------------------------------

    async def _ask(self, path: str, wish: dict[str, Any]) -> Answer | None:
        """Send a write; return its answer if it is done. What is not known is left alone for good."""
        body = json.dumps(wish).encode()
        answer = await self._copies.send(f"/v1/catalog/{path}", body, None)
        if answer is None or answer.is_unavailable:
            self._kept = self._new_node()
            return None
        return answer if answer.status == 200 else None

    async def _register(self) -> None:
        rng, kept = self.rng, self._kept
        self._ids += 1
        address, meta = f"10.8.0.{self._ids % 250}", rng.choice(_METAS)
        skips = rng.random() < 0.3
        wish: dict[str, Any] = {"Node": kept.name, "Address": address, "NodeMeta": meta}
        wish["SkipNodeUpdate"] = skips
        name = rng.choice(NAMES)
        service, port = f"{name}-{self.number}-{self._ids}", self.sim.targets.new_port()
        if kept.services and (rng.random() < 0.3 or len(kept.services) >= _MOST):
            service = rng.choice(sorted(kept.services))
        has_service, has_check = rng.random() < 0.8, rng.random() < 0.5
        check, status = f"{service}:check", rng.choice(_STATUSES)
        if has_service:
            tags = rng.sample(("a", "b", "v1.2"), rng.choice((0, 1, 2)))
            wish["Service"] = {"ID": service, "Service": name, "Port": port, "Tags": tags}
            if has_check:
                wish["Check"] = {"CheckID": check, "Status": status, "ServiceID": service}
        answer = await self._ask("register", wish)
        if answer is None:
            return
        if not (kept.is_there and skips):
            kept.address, kept.meta = address, meta
        kept.is_there = True
        if has_service:
            kept.services[service] = name, port
            if has_check:
                kept.checks[check] = status, service
        self._compare(answer, "register")

    async def _register_check(self) -> None:
        rng, kept = self.rng, self._kept
        service = rng.choice(["", *sorted(kept.services)])
        check, status = f"{service}:{rng.choice('xy')}", rng.choice(_STATUSES)
        one = {"CheckID": check, "Name": check, "Status": status, "ServiceID": service}
        wish = {"Node": kept.name, "SkipNodeUpdate": True, "Checks": [one]}
        answer = await self._ask("register", wish)
        if answer is not None:
            kept.checks[check] = status, service
            self._compare(answer, "register a check")

    async def _deregister(self) -> None:
        rng, kept = self.rng, self._kept
        name = kept.name.upper() if rng.random() < 0.2 else kept.name
        wish: dict[str, Any] = {"Node": name}
        kind = rng.choice(("service", "service", "check", "node"))
        if kind == "service" and kept.services:
            gone = wish["ServiceID"] = rng.choice(sorted(kept.services))
        elif kind == "check" and kept.checks:
            gone = wish["CheckID"] = rng.choice(sorted(kept.checks))
        answer = await self._ask("deregister", wish)
        if answer is None:
            return
        if "ServiceID" in wish:
            del kept.services[gone]
            kept.checks = {one: of for one, of in kept.checks.items() if of[1] != gone}
        elif "CheckID" in wish:
            del kept.checks[gone]
        else:
            kept.forget()
        self._compare(answer, "deregister")

    # -- what is there ----------------------------------------------------------------------

    def _compare(self, answer: Answer, what: str) -> None:
        """V14, by the log."""
        book, first = self.sim.checker.judge.book, self.sim.onces.firsts.get(self._copies.key)
        # When its time is over, it is answered although the member has not applied it.
        at = answer.index if first is None else max(answer.index, first.at)
        if not book.last.is_open or at > book.last.index:
            return
        found = _in_page(book.pages[at], self._kept.name)
        self.sim.counts["nodes of strangers compared"] += 1
        if found != self._kept.shown():
            about = f"V14: {self._kept.name} at {at}, after {what}"
            self.sim.fail(f"{about}: {found}, not {self._kept.shown()}")

    async def _look(self) -> None:
        """V14, by what members show."""
        kept = self._kept
        name = kept.name.upper() if self.rng.random() < 0.2 else kept.name
        path = self.rng.choice(("catalog", "health"))
        answer = await self._send("GET", f"/v1/{path}/node/{name}")
        if answer is None or answer.status != 200:
            return
        self.sim.counts["nodes of strangers read"] += 1
        found, expected = answer.json(), kept.shown()
        if path == "health":
            shown: Any = {one["CheckID"]: (one["Status"], one["ServiceID"]) for one in found}
            wanted: Any = kept.checks
        else:
            shown = found and _in_answer(found)
            wanted = expected and expected[:3]
        if shown != wanted:
            about = f"V14: {path}/node/{kept.name} at {answer.index} of {self.member.id}"
            self.sim.fail(f"{about}: {shown}, not {wanted}")


def _in_page(page: Page, name: str) -> tuple[Any, ...] | None:
    number = external_named(page, name)
    if number is None:
        return None
    node = page.externals[number]
    services = {
        one: (service.name.lower(), service.port)
        for (at, one), service in page.services.items()
        if at == number
    }
    checks = {
        one: (check.status, check.service)
        for (at, one), check in page.checks.items()
        if at == number
    }
    return node.address, dict(node.meta), services, checks


def _in_answer(found: dict[str, Any]) -> tuple[Any, ...]:
    node = found["Node"]
    services = {
        one: (service["Service"].lower(), service["Port"])
        for one, service in found["Services"].items()
    }
    return node["Address"], node["Meta"], services
