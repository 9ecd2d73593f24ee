"""Services in peace: what has been left over from the faults is mended, and all times are kept.

- V2: a TTL that nobody renews is over on every member 0.2 s after its time, however often the service is
  registered again as it is.
- V3: each check comes to what its target is within its interval, its timeout and 1 s.
- V5: a service whose check is critical for as long as it allows is gone within 1 s, whoever leads.
- V10: a session ends soon after its check has become critical, or has gone.
- V6: another live member runs the checks of an external node 1 s after their owner has died.
- V4: the instances of a member that dies are in no answer 4 s later, and back 1 s after it is well.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ..options import stream
from .clients import Client
from .listers import Lister
from .registrars import Held, Registrar
from .retriers import Retrier
from .strangers import Stranger
from .watchers import SOON_S, Watcher

if TYPE_CHECKING:
    from hstore.node.model.checks import Check, CheckStatus

    from .member import SimMember
    from .simulation import WholeSimulation
    from .targets import Target

_BUSY_S = 3.0
_COMMIT_S = 0.3
_LATE_S = 0.2
"""From the end of a TTL to what is committed (contract of services, 9.2)."""
_RESULT_S = 1.0
_DEAD_S, _BACK_S = 4.0, 1.0
_TTL_S, _INTERVAL_S, _TIMEOUT_S = 0.5, 1.0, 0.3
_LONGEST_TTL_S = 1.5
_AFTER_S, _GONE_S = 2.5, 1.0
_ENDED_S = 1.0
"""For a session to end whose check is critical, or has gone."""
_OWNER_S, _ELECTED_S = 1.0, 2.0
"""For another owner to be named, and for another leader before that."""
_GRID_S = 0.05
_RUNS_MAX = 3
"""So many runs a threshold asks for at most."""
_SLOWEST_S = 2.0
"""From one run to the next, where each lasts longer than the interval."""
_WALK = (
    ("up", "passing"), ("slow", "warning"), ("up", "passing"), ("down", "critical"), ("up", "passing"),
)  # fmt: skip
"""What a target is, and what its check comes to: the first failure is a warning, the second critical."""
_LONG_TIMEOUT_S = 1.3
"""Longer than the interval: the next run is due while one is under way."""
_OF_STATE: dict[str, CheckStatus] = {"up": "passing", "busy": "warning"}


class Calm:
    """The services of one run, when its faults are over."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self._registrar = Registrar(sim.clients, 3000, stream(sim.seed, "calm"))
        options = sim.options
        self._slack_s = (
            _COMMIT_S + 60 * options.delay_mean + 6 * options.tail_mean * bool(options.tail)
        )

    async def run(self) -> None:
        """See what must hold."""
        await self._go_on()
        self.sim.targets.are_still = True
        await self._mended()
        members, leader = self.sim._present(), self.sim.leader()
        # Who is to die later leads only where nobody else is there.
        home = next((one for one in reversed(members) if one is not leader), members[-1])
        ttl, http = await self._register(members[0], home)
        if self.sim.violation is None:
            await self._over(ttl)
            await self._follows(http)
            await self._cut_short(http)
            await self._maintained(http, members[0])
            await self._goes(members[0])
            await self._removed(http)
            await self._register_well(http)
            seconds = _TIMEOUT_S + _RESULT_S
            await self._until(seconds, "V3: again", lambda: self._everywhere(http, "passing"))
        is_short = stream(self.sim.seed, "who dies").random() < 0.5
        if self.sim.violation is None and is_short:
            await self._dies(http)
        elif self.sim.violation is None and self.sim.options.externals:
            await self._owned()
        self._registrar.close()

    async def _until(self, seconds: float, what: str, is_so: Callable[[], str]) -> None:
        """Wait until something is so: until `is_so` says that nothing is wrong any more."""
        wrong = ""
        with trio.move_on_after(seconds + self._slack_s):
            while wrong := is_so():  # noqa: ASYNC110 - looked at from outside
                await trio.sleep(0.02)
            return
        self.sim.fail(f"{what}: after {seconds} s and {self._slack_s:.2f} s: {wrong}")

    def _status(self, member: SimMember, check_id: str) -> str:
        """Return the status of a check in a member's copy of the catalog."""
        found = [check.status for check in self._checks(member) if check.id == check_id]
        return found[0] if found else "gone"

    def _checks(self, member: SimMember) -> list[Check]:
        reader = member.node.keys.view()
        try:
            return list(reader.every_check())
        finally:
            reader.close()

    def _everywhere(self, held: Held, status: str) -> str:
        shown = {m.id: self._status(m, held.check) for m in self.sim._present()}
        wrong = any(one != status for one in shown.values())
        return f"{held.check} is {shown}, not {status}" if wrong else ""

    async def _go_on(self) -> None:
        """Have clients do for a while what they did among the faults."""
        clients, seed = self.sim.clients, self.sim.seed
        busy = [
            Registrar(clients, 3001 + n, stream(seed, f"registrar in peace {n}")) for n in range(2)
        ]
        watching = [
            Watcher(clients, 3101 + n, stream(seed, f"watcher in peace {n}")) for n in range(2)
        ]
        more = (Retrier, Stranger, Lister) if self.sim.options.retriers else ()
        keeping = [
            kind(clients, 3201 + n, stream(seed, f"keeper in peace {n}"))
            for n, kind in enumerate(more)
        ]
        with trio.move_on_after(_BUSY_S):
            async with trio.open_nursery() as nursery:
                for client in (*busy, *watching, *keeping):
                    nursery.start_soon(self._ask_on, client)
        for client in (*busy, *watching, *keeping):
            client.close()

    async def _ask_on(self, client: Client) -> None:
        while True:
            await trio.sleep(client.rng.expovariate(1 / 0.02))
            await client.ask_something()

    # -- what was left over -----------------------------------------------------------------

    async def _mended(self) -> None:
        """V2, V3: nobody says a word any more, and no target changes."""
        longest = max(_LONGEST_TTL_S + _LATE_S, _RUNS_MAX * _SLOWEST_S + _RESULT_S)
        await self._until(longest, "V3: left over", self._unlike_targets)

    def _unlike_targets(self) -> str:
        sim = self.sim
        members = sim._present()
        numbers = {member.node.keys.own_number for member in members}
        for member in members:
            numbers |= set(member.node.keys.external_numbers())
            for check in self._checks(member):
                definition = check.definition
                if definition is None or check.node not in numbers:
                    continue
                target = sim.targets.by_url.get(definition.http or definition.tcp)
                if target is None and definition.kind != "ttl":
                    continue
                state = "" if target is None else target.state
                expected = _OF_STATE.get(state, "critical")
                if check.status != expected:
                    return f"node {member.id} shows {check}, it should be {expected}: {target}"
        sim.counts["catalogs that were mended"] += 1
        return ""

    # -- times ------------------------------------------------------------------------------

    async def _register(self, first: SimMember, last: SimMember) -> tuple[Held, Held]:
        registrar = self._registrar
        ttl, http = registrar.new("calm", first), registrar.new("web", last)
        check = {"TTL": f"{_TTL_S * 1000:.0f}ms", "Status": "passing"}
        registrar.draw_body(ttl, "ttl", check, "calm", [])
        self._ask_well(http)
        for held in (http, ttl):
            await self._register_well(held)
        return ttl, http

    def _ask_well(self, http: Held) -> None:
        """Give an instance a check with thresholds, and a target of it that is up."""
        asks: dict[str, Any] = {"Interval": f"{_INTERVAL_S}s", "Timeout": f"{_LONG_TIMEOUT_S}s"}
        asks |= {"FailuresBeforeWarning": 1, "FailuresBeforeCritical": 2, "SuccessBeforePassing": 2}
        self._registrar.draw_body(http, "http", asks, "web", ["a"])
        assert http.target is not None
        self.sim.targets.turn(http.target, "up")

    async def _register_well(self, held: Held) -> None:
        with trio.move_on_after(30):
            while not await self._registrar.register(held):  # noqa: ASYNC110
                await trio.sleep(0.2)
        if not held.is_sure:
            self.sim.fail(f"V1: in peace {held.id} cannot be registered")

    async def _over(self, ttl: Held) -> None:
        """V2: the same registration is no word."""
        registrar = self._registrar
        if not await self._renewed(ttl):
            return
        said_at = trio.current_time()
        session = await self._session(ttl)
        assert ttl.body is not None
        del ttl.body["Check"]["Status"]  # With one, it would be a word.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._register_again, ttl)
            left = said_at + _TTL_S + _LATE_S - trio.current_time()
            await self._until(left, "V2", lambda: self._everywhere(ttl, "critical"))
            nursery.cancel_scope.cancel()
        self.sim.counts["TTLs over in peace"] += 1
        await self._until(_ENDED_S, "V10: critical", lambda: self._left(session))
        if await registrar.say(ttl, "warn"):
            await self._until(0.1, "V2: a word", lambda: self._everywhere(ttl, "warning"))
            left = _TTL_S + _LATE_S
            await self._until(left, "V2: again", lambda: self._everywhere(ttl, "critical"))

    async def _session(self, held: Held) -> bytes:
        """Make a session that depends on the check of an instance; return its id, or none."""
        wish = {"NodeChecks": [], "ServiceChecks": [{"ID": held.check}], "LockDelay": "0s"}
        body = json.dumps(wish).encode()
        answer = await self._registrar._send("PUT", "/v1/session/create", body, member=held.home)
        is_made = answer is not None and answer.status == 200
        return uuid.UUID(answer.json()["ID"]).bytes if answer is not None and is_made else b""

    def _left(self, session: bytes) -> str:
        """Return who still has a session."""
        there = []
        for member in self.sim._present():
            reader = member.node.keys.view()
            try:
                if any(one.id == session for one in reader.sessions()):
                    there.append(member.id)
            finally:
                reader.close()
        return f"{there} have session {session.hex()}" if there else ""

    async def _removed(self, held: Held) -> None:
        """V10: a check that goes ends the sessions that depend on it."""
        session = await self._session(held)
        if session and await self._registrar.deregister(held):
            self.sim.counts["sessions whose check goes"] += 1
            await self._until(_ENDED_S, "V10: gone", lambda: self._left(session))

    async def _renewed(self, ttl: Held) -> bool:
        """Say that it is well, again and again: it is all the time. Return whether that was heard."""
        said_at, is_heard = trio.current_time(), True
        for _ in range(5):
            is_heard &= await self._registrar.say(ttl, "pass")
            is_heard &= trio.current_time() < said_at + _TTL_S - 0.1
            said_at = trio.current_time()
            await trio.sleep(0.1)
        wrong = self._status(self.sim.members[ttl.home.id], ttl.check) if ttl.home else ""
        if is_heard and wrong != "passing":
            self.sim.fail(f"V2: {ttl.check} is {wrong}, and was said to be well all the time")
        return await self._registrar.say(ttl, "pass")

    async def _register_again(self, ttl: Held) -> None:
        assert ttl.body is not None
        again = Registrar(
            self.sim.clients, 3005, self._registrar.rng
        )  # What it asked last, it may not hear.
        for number in range(1000):
            await trio.sleep(0.1)
            # Now and then another definition with the same TTL.
            ttl.body["Check"]["OutputMaxSize"] = 100 + number // 2
            await again.register(ttl)

    async def _follows(self, http: Held) -> None:
        """V3: by thresholds, whose exact effect `targets.py` knows."""
        assert http.target is not None
        seconds = 2 * _SLOWEST_S + _LONG_TIMEOUT_S + _RESULT_S
        for state, status in _WALK:
            self.sim.targets.turn(http.target, state)
            await self._until(seconds, f"V3: {state}", lambda s=status: self._everywhere(http, s))  # type: ignore[misc]

    async def _cut_short(self, http: Held) -> None:
        """V3: a run of a definition that has been replaced says nothing of the next one."""
        assert http.target is not None
        target = http.target
        self.sim.targets.turn(target, "slow")
        with trio.move_on_after(_SLOWEST_S):
            while not target.running:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await trio.sleep(0.1)
        self._ask_well(http)
        await self._register_well(http)
        await self._until(_RESULT_S, "V3: another", lambda: self._everywhere(http, "passing"))

    async def _maintained(self, http: Held, at: SimMember) -> None:
        """V8, V9: what changes for a node changes for its instances, for who waits and in DNS."""
        if http.home is None or not await self._registrar.maintain(http.home, "false"):
            return
        everybody, flags = self.sim._present(), ("true", "false")
        await self._shows(everybody, http, is_wanted=True)
        waiting = Registrar(self.sim.clients, 3006, self._registrar.rng)
        for flag in flags:
            for member in [*everybody, *everybody, *everybody]:
                self.sim.resolvers.ask(member, http.name)  # From the second time on it is kept.
            seen = await waiting.look("health", http.name, at)
            if seen is None:
                break
            path = f"/v1/health/service/{http.name}?index={seen.result_index}&wait=30s"
            async with trio.open_nursery() as nursery:
                answered = trio.Event()
                nursery.start_soon(self._wait, waiting, at, path, answered)
                await trio.sleep(SOON_S)
                if not await self._registrar.maintain(http.home, flag):
                    nursery.cancel_scope.cancel()
                    return
                await self._until(SOON_S, f"V8: {path}", partial(_waits, answered))
                await self._shows(everybody, http, is_wanted=flag == "false")
                nursery.cancel_scope.cancel()
        waiting.close()

    async def _shows(self, members: list[SimMember], held: Held, *, is_wanted: bool) -> None:
        await self._until(0.1, "V9", lambda: self._shown_by(members, held, is_wanted=is_wanted))

    async def _wait(self, client: Client, at: SimMember, path: str, answered: trio.Event) -> None:
        if await client._send("GET", path, wait_s=32, member=at) is not None:
            answered.set()

    async def _goes(self, member: SimMember) -> None:
        """V5: the time of a critical check goes on under another leader."""
        sim, registrar, rng = self.sim, self._registrar, stream(self.sim.seed, "who goes")
        goes = registrar.new("cache", member)
        after = f"{_AFTER_S * 1000:.0f}ms"
        check = {"TTL": "60000ms", "Status": "critical", "DeregisterCriticalServiceAfter": after}
        registrar.draw_body(goes, "ttl", check, "cache", [])
        if not await registrar.register(goes):
            return
        begun = trio.current_time()
        leader = sim.leader()
        if leader is not None and rng.random() < 0.5:
            await trio.sleep(_AFTER_S - 0.3)
            await sim.operator.transfer(leader)
        left = begun + _AFTER_S + _GONE_S - trio.current_time()
        await self._until(left, "V5", lambda: self._everywhere(goes, "gone"))
        sim.counts["deregistered in peace"] += 1

    # -- a member that dies -----------------------------------------------------------------

    async def _dies(self, http: Held) -> None:
        """V4: by the member that has an instance of a service that is well."""
        sim, victim = self.sim, http.home
        leader = sim.leader()
        if leader is not None and leader is victim:
            # Whoever leads may have handed over to it meanwhile (V5).
            await sim.operator.transfer(leader)
            leader = sim.leader()
        others = [member for member in sim._present() if member is not victim]
        if leader is None or victim is None or leader is victim or not victim.is_up:
            return
        if not self._may_lose(victim.id):
            return
        if self._shown_by(others, http, is_wanted=True):
            return  # Its home may be under maintenance.
        sim.counts["members that die in peace"] += 1
        victim.is_held = True
        victim.crash("in peace")
        await self._until(
            _DEAD_S, "V4: dead", lambda: self._shown_by(others, http, is_wanted=False)
        )
        for member in others:
            await self._registrar.look("passing", http.name, member)
        victim.is_held = False
        await victim.ended.wait()
        victim.start()
        with trio.move_on_after(20):
            while not _is_well(victim):  # noqa: ASYNC110
                await trio.sleep(0.02)
        await self._until(_BACK_S, "V4: back", lambda: self._shown_by(others, http, is_wanted=True))

    # -- nodes that are no members ----------------------------------------------------------

    async def _owned(self) -> None:
        """V6: one live member runs the checks of such a node; the leader keeps its TTLs."""
        sim, registrar = self.sim, self._registrar
        http, ttl = registrar.new("db", None), registrar.new("db", None)
        http.node, ttl.node = "calm-http", "calm-ttl"
        check = {"Interval": f"{_INTERVAL_S}s", "Timeout": f"{_TIMEOUT_S}s"}
        registrar.draw_body(http, "http", check, "db", [])
        registrar.draw_body(ttl, "ttl", {"TTL": f"{_TTL_S * 1000:.0f}ms"}, "db", [])
        assert http.target is not None
        sim.targets.turn(http.target, "up")
        if not await registrar.register(http) or not await registrar.register(ttl):
            return
        seconds = _OWNER_S + _INTERVAL_S + _TIMEOUT_S + _RESULT_S
        await self._until(seconds, "V6: owned", lambda: self._everywhere(http, "passing"))
        if await registrar.say(ttl, "pass"):
            await self._until(0.1, "V6: a word", lambda: self._everywhere(ttl, "passing"))
            left = _TTL_S + _LATE_S
            await self._until(left, "V6: TTL", lambda: self._everywhere(ttl, "critical"))
        await trio.sleep(_INTERVAL_S)
        owners = self._owners(http.target)
        if len(owners) != 1:
            sim.fail(f"V6: {http.check} is run by {owners}")
            return
        sim.counts["checks of other nodes in peace"] += 1
        if self._may_lose(owners[0]):
            await self._owner_dies(http, owners[0])

    def _owners(self, target: Target) -> list[int]:
        """Return who has run a check within its last interval."""
        since = trio.current_time() - _INTERVAL_S - _GRID_S
        return sorted({member for (member, _), at in target.begun_at.items() if at > since})

    def _may_lose(self, victim: int) -> bool:
        leader = self.sim.leader()
        voters = () if leader is None else leader.core.config.voters
        are_up = all(self.sim.members[i].is_up for i in voters)
        return victim in voters and len(voters) >= 3 and are_up

    async def _owner_dies(self, http: Held, owner: int) -> None:
        sim, victim = self.sim, self.sim.members[owner]
        assert http.target is not None
        target, seconds = http.target, _OWNER_S + (_ELECTED_S if victim.is_leader else 0.0)
        sim.counts["owners that die in peace"] += 1
        victim.is_held = True
        victim.crash("in peace")
        died_at = trio.current_time()

        def by_another() -> str:
            later = [who for (who, _), at in target.begun_at.items() if at > died_at]
            return "" if any(who != owner for who in later) else f"nobody runs {http.check}"

        await self._until(seconds, "V6: another owner", by_another)
        wrong = self._everywhere(http, "passing")
        if wrong:
            sim.fail(f"V6: its owner has died: {wrong}")
        sim.targets.turn(target, "down")
        seconds = _INTERVAL_S + _TIMEOUT_S + _RESULT_S
        await self._until(seconds, "V6: moved", lambda: self._everywhere(http, "critical"))
        victim.is_held = False
        await victim.ended.wait()
        victim.start()

    def _shown_by(self, members: list[SimMember], held: Held, *, is_wanted: bool) -> str:
        """Return whose DNS shows an instance, or does not, and should not, or should."""
        name, ask = held.name, self.sim.resolvers.ask
        shown = {m.id: ports for m in members if (ports := ask(m, name)) is not None}
        wrong = [i for i, ports in shown.items() if (held.port in ports) is not is_wanted]
        return (
            f"nodes {wrong} answer {name} by {shown}, port {held.port} is {is_wanted}"
            if wrong
            else ""
        )


def _is_well(member: SimMember) -> bool:
    return member.is_up and member.node.status.in_contact()


def _waits(answered: trio.Event) -> str:
    return "" if answered.is_set() else "nobody is answered"
