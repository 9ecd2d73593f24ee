"""Clients that register services at members, say that they are well, and look whether others see them.

Each has instances of its own, and asks one thing after the other, so that it knows what it did last.

- V1: see `catalogs.py`.
- V2: a TTL check is passing until its time is over, and critical from then on: at the member that runs
  it to the millisecond, which `agent/checks` shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from .catalogs import NAMES
from .clients import Answer, Client, Clients

if TYPE_CHECKING:
    from .member import SimMember
    from .targets import Target

_KINDS = {
    "register": 3, "again": 2, "change": 1.5, "deregister": 1, "word": 5, "silence": 0.5,
    "look": 5, "look here": 2, "own checks": 3, "maintain": 0.7,
}  # fmt: skip
_MOST = 3
"""Instances of one client at a time."""

_WORDS = {"pass": "passing", "warn": "warning", "fail": "critical"}
_REFUSALS = (
    b"Missing node registration",
    b"Missing service registration",
    b"Missing check ",
    b"Check '",
    b"Unknown service ID ",
    b"Unknown check ID ",
    b"does not have associated TTL",
    b"may not have more",
    b"there may not be more",
    b"may have ",
)
_UNTIL_LOST_S = 3.0
"""A request without an answer may still arrive so much later."""


@dataclass(slots=True)
class Held:
    """One instance, as its client knows it.

    Attributes:
        id, name, port: Of the service.
        home: The member that it is registered at; None: it is on a node that is no member.
        node: The name of that node.
        is_catalogs: It is registered by the catalog's path, and not by an agent's.
        check: The ID of its check; empty: it has none.
        kind: Of the check: `ttl`, `http` or `tcp`.
        ttl_s: Of it.
        target: What is asked.
        body: Of the last registration.
        is_sure: Whether what was sent last is known to have taken effect.
        life: Of its home, in which the last word was taken.
        said: What the check says, by the last word.
        said_from, said_until: Between these the last word was taken.
        is_silent: No more words are said.
    """

    id: str
    name: str
    home: SimMember | None
    port: int = 0
    node: str = ""
    is_catalogs: bool = False
    check: str = ""
    kind: str = ""
    ttl_s: float = 0.0
    target: Target | None = None
    body: dict[str, Any] | None = None
    is_sure: bool = False
    life: int = 0
    said: str = "critical"
    said_from: float = 0.0
    said_until: float = 0.0
    is_silent: bool = False


class Registrar(Client):
    """One client with some instances."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self.held: list[Held] = []
        self._made = 0
        self._maintained: dict[str, Held] = {}

    def knows(self, answer: Answer) -> bool:
        """See `Client`."""
        return answer.status == 200 or any(text in answer.body for text in _REFUSALS)

    async def ask_something(self) -> None:
        """See `Client`."""
        await trio.sleep(self.rng.uniform(0.0, 0.1))
        rng = self.rng
        self.held = [one for one in self.held if one.home is None or not one.home.is_gone]
        (kind,) = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))
        if kind in ("look", "look here"):
            await self._look(
                rng.choice(NAMES), self.held[0].home if self.held and kind != "look" else None
            )
        elif kind == "register" or not self.held:
            if len(self.held) < _MOST:
                await self._register_new()
        elif kind == "own checks":
            home = rng.choice(self.held).home
            if home is not None:
                await self._see_own_checks(home)
        else:
            await self._use(kind, rng.choice(self.held))

    async def _use(self, kind: str, held: Held) -> None:
        if kind == "again":
            await self.register(held)
        elif kind == "change":
            self._draw_check(held)
            await self.register(held)
        elif kind == "deregister":
            await self.deregister(held)
        elif kind == "maintain":
            await self._maintain(held)
        elif kind == "silence":
            held.is_silent = True
        elif held.ttl_s and not held.is_silent:
            await self.say(held, self.rng.choice(("pass", "pass", "pass", "warn", "fail")))

    # -- registering ------------------------------------------------------------------------

    async def _register_new(self) -> None:
        rng = self.rng
        homes = [member for member in self.sim.members.values() if not member.is_gone]
        held = self.new(rng.choice(NAMES), rng.choice(homes))
        if rng.random() < self.options.externals:
            held.is_catalogs = rng.random() < 0.3
            held.home, held.node = None, f"{'Host' if held.is_catalogs else 'vm'}-{self.number}"
        self._draw_check(held)
        self.held.append(held)
        await self.register(held)

    def new(self, name: str, home: SimMember | None) -> Held:
        """Return an instance that is not registered yet."""
        self._made += 1
        return Held(f"{name}-{self.number}-{self._made}", name, home)

    def _draw_check(self, held: Held) -> None:
        """Draw all of a registration but the ID: name, port, tags and a check."""
        rng = self.rng
        held.name = rng.choice(NAMES) if rng.random() < 0.3 else held.name
        shown = held.name.title() if rng.random() < 0.2 else held.name
        kind = rng.choice(("", "ttl", "ttl", "ttl", "http", "http", "tcp"))
        check: dict[str, Any] = {}
        if kind == "ttl":
            check["TTL"] = f"{rng.choice((500, 1000, 1500))}ms"
            check["OutputMaxSize"] = rng.choice((100, 200))
        elif kind:
            check["Interval"], check["Timeout"] = "1s", rng.choice(("300ms", "600ms", "1300ms"))
            for threshold in ("SuccessBeforePassing", "FailuresBeforeCritical"):
                check[threshold] = rng.choice((0, 0, 2, 3))
            most = max(check["FailuresBeforeCritical"], 1)
            check["FailuresBeforeWarning"] = rng.choice((0, 0, 1, most))
        if kind and rng.random() < 0.4:
            check["DeregisterCriticalServiceAfter"] = rng.choice(("1s", "2s"))
        if kind and rng.random() < 0.5:
            check["Status"] = rng.choice(("passing", "passing", "warning", "critical"))
        self.draw_body(
            held, kind, check, shown, rng.sample(("a", "b", "v1.2"), rng.choice((0, 1, 2)))
        )

    def draw_body(
        self, held: Held, kind: str, check: dict[str, Any], shown: str, tags: list[str]
    ) -> None:
        """Set all of a registration but its ID; its port is one that no other registration has."""
        held.port = self.sim.targets.new_port()
        held.kind, held.target = kind, None
        body: dict[str, Any] = {"Name": shown, "ID": held.id, "Port": held.port, "Tags": tags}
        if kind:
            held.check = f"{held.id}:check"
            check = {"CheckID": held.check, "Name": "is it well", **check}
            if kind != "ttl":
                held.target = self.sim.targets.make(held.check, is_http=kind == "http")
                check[kind.upper()] = held.target.url
            body["Check"] = check
        held.body = body

    async def register(self, held: Held) -> bool:
        """Register an instance; return whether that is answered with 200."""
        body = held.body
        assert body is not None
        # What it is registered with the second time replaces no check.
        home, begun = held.home, trio.current_time()
        if held.is_catalogs:
            target, body = "/v1/catalog/register", _for_catalog(held, body)
        else:
            target = self._path(held, "service/register?replace-existing-checks=1", makes=True)
        was_sure = held.is_sure
        answer = await self._send("PUT", target, json.dumps(body).encode(), member=home)
        if not self._is_done(held, answer):
            return False
        assert answer is not None
        life = self._connections[self.member.id].life
        # When its time is over, it is answered although this member has not applied it.
        is_in_time = trio.current_time() < begun + self.options.timeout_ms / 1000
        if is_in_time:
            self.sim.catalogs.check_done(self.member, life, held.port, answer)
        check = (held.body or {}).get("Check", {})
        ttl_s = float(check.get("TTL", "0ms").removesuffix("ms")) / 1000
        is_other = not was_sure or held.ttl_s != ttl_s or "Status" in check
        if held.kind == "ttl" and is_other:
            if "Status" in check or not was_sure or not held.ttl_s:
                held.said = check.get("Status", "?")
            elif trio.current_time() >= held.said_from + held.ttl_s:
                # The other TTL begins, and what the check says stays: that the last one is over, mostly.
                is_over = begun > held.said_until + held.ttl_s
                held.said = "critical" if is_over else "?"
            held.said_from, held.said_until = begun, trio.current_time()
            held.life = life
        held.ttl_s = ttl_s
        held.is_sure = True
        return True

    def _is_done(self, held: Held, answer: Answer | None) -> bool:
        """Whether a write was done; if that is not known, nothing is known of the instance."""
        if answer is not None and answer.status == 200:
            return True
        if answer is None or not (answer.is_unavailable and answer.is_certainly_nothing):
            held.is_sure, held.said = False, "?"
            # Until it cannot arrive any more, or be done.
            held.said_until = trio.current_time() + _UNTIL_LOST_S + self.options.timeout_ms / 1000
        return False

    async def deregister(self, held: Held) -> bool:
        """Deregister an instance; return whether it is known to have gone."""
        if held.is_catalogs:
            wish: dict[str, Any] = {"Node": held.node}
            if self.rng.random() < 0.7:
                wish["ServiceID"] = held.id
            path, body = "/v1/catalog/deregister", json.dumps(wish).encode()
        else:
            path, body = self._path(held, f"service/deregister/{held.id}"), b""
        answer = await self._send("PUT", path, body, member=held.home)
        if answer is None or answer.is_unavailable:
            self._is_done(held, answer)
            return False
        if held in self.held:
            self.held.remove(held)
        self.sim.counts["deregistered"] += 1
        return True

    def _path(self, held: Held, path: str, *, makes: bool = False) -> str:
        """Return an agent's path for the node of an instance."""
        if not held.node:
            return f"/v1/agent/{path}"
        sign = "&" if "?" in path else "?"
        address = f"&node-address=10.9.0.{self.number % 250}" if makes else ""
        return f"/v1/agent/{path}{sign}node={held.node}{address}"

    async def _maintain(self, held: Held) -> None:
        """Turn maintenance of an instance, or of its home, on or off."""
        rng = self.rng
        path = f"service/maintenance/{held.id}" if rng.random() < 0.7 else "maintenance"
        flag = rng.choice(("true", "false", "false"))
        path = self._path(held, f"{path}?enable={flag}")
        answer = await self._send("PUT", path, member=held.home)
        if answer is not None and answer.status == 200:
            self.sim.counts[f"maintenance {flag}"] += 1

    async def maintain(self, home: SimMember, flag: str) -> bool:
        """Turn maintenance of a member on or off; return whether that is done."""
        path = f"/v1/agent/maintenance?enable={flag}"
        answer = await self._send("PUT", path, member=home)
        return answer is not None and answer.status == 200

    # -- words ------------------------------------------------------------------------------

    async def say(self, held: Held, word: str) -> bool:
        """Say that an instance is well, or not; return whether that was taken."""
        begun = trio.current_time()
        path = self._path(held, f"check/{word}/{held.check}")
        answer = await self._send("PUT", path, member=held.home)
        if answer is None or answer.status != 200:
            self._is_done(held, answer)
            if answer is not None and answer.status == 404 and held.is_sure:
                self.sim.counts["words about what is not here any more"] += 1
            return False
        self.sim.counts["words taken"] += 1
        held.said, held.life = _WORDS[word], self._connections[self.member.id].life
        held.said_from, held.said_until = begun, trio.current_time()
        return True

    async def _see_own_checks(self, home: SimMember) -> None:
        life, begun = home.lives, trio.current_time()
        answer = await self._send("GET", "/v1/agent/checks", member=home)
        if answer is None or answer.status != 200 or home.lives != life or not home.is_up:
            return
        shown = answer.json()
        for held in self.held:
            found = shown.get(held.check)
            if found is not None and held.home is home and held.kind == "ttl":
                self._check_ttl(held, found, begun)

    def _check_ttl(self, held: Held, found: dict[str, Any], asked_at: float) -> None:
        """V2: it is critical when its time is over, and what was said before."""
        status, now = found["Status"], trio.current_time()
        about = f"V2: {held.home} shows {held.check} as {status} ({found['Output']!r})"
        if held.home is None or held.home.lives != held.life or not held.is_sure:
            return
        if asked_at > held.said_until + held.ttl_s + 0.001:
            self.sim.counts["TTLs that are over"] += 1
            if status != "critical":
                since = asked_at - held.said_until
                self.sim.fail(f"{about}, {since:.3f} s after a word, its TTL is {held.ttl_s} s")
        elif now < held.said_from + held.ttl_s and held.said != "?":
            self.sim.counts["TTLs that are not over"] += 1
            if status != held.said:
                since = now - held.said_from
                self.sim.fail(f"{about}, it was said to be {held.said} {since:.3f} s ago")

    # -- reading ----------------------------------------------------------------------------

    async def _look(self, name: str, member: SimMember | None) -> None:
        rng = self.rng
        kind = rng.choice(("health", "health", "passing", "catalog"))
        is_stale = rng.random() < 0.2
        await self.look(kind, name, member, is_stale=is_stale)

    async def look(
        self, kind: str, name: str, member: SimMember | None, *, is_stale: bool = False
    ) -> Answer | None:
        """Read a service at a member, or at any, and judge what it says."""
        least = 0 if is_stale else self.sim.checker.committed
        shown = name.upper() if self.rng.random() < 0.2 else name
        path = f"/v1/{'catalog' if kind == 'catalog' else 'health'}/service/{shown}"
        query = [*(["passing"] if kind == "passing" else []), *(["stale"] if is_stale else [])]
        path += "?" + "&".join(query) if query else ""
        answer = await self._send("GET", path, member=member)
        if answer is None or answer.status != 200:
            return None
        self.sim.catalogs.check_read(kind, name, least, answer)
        return answer


def _for_catalog(held: Held, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of catalog/register that registers the same, with a status that nobody renews."""
    service = {"ID": held.id, "Service": body["Name"], "Port": held.port, "Tags": body["Tags"]}
    found: dict[str, Any] = {"Node": held.node, "Address": "10.9.1.1", "Service": service}
    if "Check" in body:
        check = {key: body["Check"][key] for key in ("CheckID", "Name")}
        check["Status"] = body["Check"].get("Status", "passing")
        found["Check"] = {**check, "ServiceID": held.id}
    return found
