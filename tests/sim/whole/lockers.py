"""Clients that hold sessions, take and free locks with them, and write several keys in one step.

What they are told goes into a history of its own (`tests/histories/locks.py`), and the lives of
their sessions are judged by `lifetimes.py`. Some fall silent, so that their sessions end by themselves;
some renew only at the last moment, when the end may have been proposed. When a leader was replaced
and does not know it yet, they like to renew there, and to fall silent then: nothing that they do later
must make up for what that leader has promised.
"""

from __future__ import annotations

import base64
import json
import uuid
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from tests.histories.locks import LockKind, Step, Steps

from .clients import Answer, Client, Clients

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_KEYS = ("l0", "l1", "l1/a")
KEYS = tuple(map(str.encode, _KEYS))
"""Those that sessions may take with them."""
_KINDS = {
    "acquire": 6, "release": 3, "renew": 5, "read": 4, "put": 1, "delete": 1, "transaction": 5,
    "destroy": 0.5, "silence": 0.7, "fire": 1, "events": 0.7,
}  # fmt: skip

_LAST_MOMENT_S = 1.0
"""So long before the end of its session a client does nothing else than wait for the moment to renew."""


class Locker(Client):
    """One client with one session at a time."""

    _endless = 0.3
    """Share of sessions without a TTL."""

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        super().__init__(clients, number, rng)
        self._session = ""
        self._history = clients.lock_history
        self._is_late = rng.random() < 0.4
        self._ttl_ms = 0
        self._due = 0.0  # When the session may end; 0: not soon.

    def knows(self, answer: Answer) -> bool:
        """See `Client`: also transactions that failed, and sessions that are not there any more."""
        if answer.status == 500:
            refusals = (
                b"invalid session",
                b"Missing ",
                b"Check 'serfHealth' is in critical state",
                b"Invalid Session TTL",  # of a node that does not know the settings yet
            )
            return answer.body.startswith(refusals)
        return answer.status in (200, 404, 409)

    async def ask_something(self) -> None:
        """See `Client`."""
        if not self._session:
            await self._create()
            return
        old = self._replaced_leader()
        if old is not None and self.rng.random() < 0.5:
            await self._renew_at(old)
            return
        if self._is_late and 0 < self._due - trio.current_time() < _LAST_MOMENT_S:
            await trio.sleep_until(self._due + self.rng.uniform(-0.05, 0.15))
            await self._use_session("renew")
            return
        (kind,) = self.rng.choices(tuple(_KINDS), tuple(_KINDS.values()))
        if kind == "silence":
            self._fall_silent()
        elif kind in ("renew", "destroy"):
            if kind == "destroy" or not (self._is_late and self._due):
                await self._use_session(kind)
        elif kind == "fire":
            await self._fire()
        elif kind == "events":
            await self._see_events()
        elif kind == "transaction":
            await self._transact()
        else:
            await self._use_key(kind, self.rng.choice(_KEYS))

    # -- sessions ---------------------------------------------------------------------------

    def _fall_silent(self) -> None:
        self.sim.counts["clients that fall silent"] += 1
        self._session = ""

    def _replaced_leader(self) -> SimMember | None:
        """Return a node that believes to lead, while another was elected."""
        newest = self.sim.checker.newest_term
        for member in self.sim.members.values():
            if member.is_leader and member.core.term < newest:
                return member
        return None

    async def _renew_at(self, member: SimMember) -> None:
        # For the next leader's clocks to be clearly ahead.
        await trio.sleep(self.rng.uniform(0.1, 0.4))
        if member is not self._replaced_leader():
            return
        self.sim.counts["renewals at a leader that was replaced"] += 1
        if await self._use_session("renew", member) and self.rng.random() < 0.7:
            self.sim.counts["renewals answered by a leader that was replaced"] += 1
            self._fall_silent()

    def _confirmed(self, session: str, sent_at: float, ttl_ms: int) -> None:
        self._due = sent_at + 2 * ttl_ms / 1000 if ttl_ms else 0.0
        self._ttl_ms = ttl_ms
        self.sim.checker.lifetimes.confirmed(bytes.fromhex(session), sent_at)

    async def _create(self) -> None:
        rng = self.rng
        ttl = self.options.settings.session_ttl_min_ms * rng.choice((2, 2, 3)) // 2
        if rng.random() < self._endless:
            ttl = 0  # It ends with its node, if it depends on that.
        wish: dict[str, Any] = {
            "TTL": f"{ttl}ms" if ttl else "",
            "LockDelay": rng.choice(("0s", "1ms", "500ms", "3s")),
            "Behavior": rng.choice(("release", "release", "delete")),
        }
        if rng.random() < 0.75:
            wish["NodeChecks"] = []
        await self._make(wish, ttl)

    async def _make(self, wish: dict[str, Any], ttl: int, member: SimMember | None = None) -> None:
        sent_at, body = trio.current_time(), json.dumps(wish).encode()
        answer = await self._send("PUT", "/v1/session/create", body, member=member)
        if answer is None or answer.status != 200:
            return
        self._session = uuid.UUID(answer.json()["ID"]).hex
        self.sim.counts["sessions made"] += 1
        self._confirmed(self._session, sent_at, ttl)

    async def _use_session(self, kind: str, member: SimMember | None = None) -> bool:
        """Renew or destroy the session; return whether it was renewed."""
        session = self._session
        if kind == "destroy":
            self.sim.checker.lifetimes.cut_short.add(bytes.fromhex(session))
            self._session = ""
        sent_at = trio.current_time()
        path = f"/v1/session/{kind}/{uuid.UUID(session)}"
        answer = await self._send("PUT", path, member=member)
        if kind == "destroy" or answer is None or answer.is_unavailable:
            return False
        if answer.status == 404:
            self._session = ""
            return False
        (told,) = answer.json()
        if uuid.UUID(told["ID"]).hex != session:
            self.sim.fail(f"I7: a renewal of {session} is answered with {told}")
        self.sim.counts["sessions renewed"] += 1
        self._confirmed(session, sent_at, self._ttl_ms)
        return True

    # -- single keys ------------------------------------------------------------------------

    async def _use_key(self, kind: str, key: str) -> None:
        clients, session = self.clients, str(uuid.UUID(self._session))
        if kind == "read":
            await self._see(key)
            return
        value = "" if kind == "delete" else clients.new_value(self.number, self.rng)
        query = f"?{kind}={session}" if kind in ("acquire", "release") else ""
        name = {"put": LockKind.WRITE}.get(kind) or LockKind(kind)
        step = Step(name, key, self._session if query else "", value or None)
        asked = self._history.call("", Steps((step,)), f"client {self.number}")
        method = "DELETE" if kind == "delete" else "PUT"
        answer = await self._send(method, f"/v1/kv/{key}{query}", value.encode())
        if not self._is_told(asked, answer, [value] if value else []):
            return
        assert answer is not None
        is_done = answer.status == 200 and answer.body == b"true"
        if answer.status == 500:
            self._session = ""
        self.sim.counts[f"locks: {kind} {'done' if is_done else 'refused'}"] += 1
        self._told(asked, Steps((step,), is_done))
        if is_done and value:
            self._check_written(value)

    def _is_told(self, asked: int, answer: Answer | None, values: list[str]) -> bool:
        """Whether an answer says what came of a write."""
        if answer is not None and not answer.is_unavailable:
            return True
        if answer is not None and answer.is_certainly_nothing:
            self._history.never_was(asked)
            self.clients.refused.update(value.encode() for value in values)
        else:
            self._history.unknown(asked)
        return False

    def _told(self, asked: int, steps: Steps) -> None:
        self._history.answered(asked, steps)

    def _check_written(self, value: str) -> None:
        if value.encode() not in self.sim.checker.at:
            self.sim.fail(f"I7: {value!r:.40} is acknowledged, and nowhere committed")

    async def _see(self, key: str) -> None:
        step = Step(LockKind.READ, key)
        asked = self._history.call("", Steps((step,)), f"client {self.number}")
        answer = await self._send("GET", f"/v1/kv/{key}")
        if answer is None or answer.is_unavailable:
            self._history.unknown(asked, is_harmless=True)
            return
        if answer.status == 200:
            step = _seen(answer.json()[0])
        self._told(asked, Steps((step,), is_done=True))

    # -- several keys -----------------------------------------------------------------------

    async def _transact(self) -> None:
        rng, session = self.rng, self._session
        keys, is_read = rng.sample(_KEYS, rng.choice((1, 2, 3))), rng.random() < 0.25
        steps, values, body = [], [], []
        for key in keys:
            kind = "get" if is_read else rng.choice(_VERBS_DRAWN)
            value = self.clients.new_value(self.number, rng)
            wish = {"Verb": kind, "Key": key, "Value": base64.b64encode(value.encode()).decode()}
            wish["Session"] = str(uuid.UUID(session))
            if kind in ("get", "delete"):
                del wish["Value"]
            else:
                values.append(value)
            if kind == "get":
                wish["Verb"] = "get-or-empty"
            name = _VERBS[kind]
            owner = session if kind in ("lock", "unlock") else ""
            steps.append(Step(name, key, owner, None if kind in ("get", "delete") else value))
            body.append({"KV": wish})
        if is_read:
            await self._look_at_all(tuple(steps), body)
            return
        if not values:
            return
        writes = tuple(step for step in steps if step.kind is not LockKind.READ)
        asked = self._history.call("", Steps(writes), f"client {self.number}")
        answer = await self._send("PUT", "/v1/txn", json.dumps(body).encode())
        if not self._is_told(asked, answer, values):
            return
        assert answer is not None
        told = answer.json()
        if answer.status == 409:
            self.sim.counts["transactions refused"] += 1
            self._told(asked, Steps(writes, is_done=False))
            return
        self.sim.counts["transactions done"] += 1
        rows = [row["KV"] for row in told["Results"]]
        written = {
            row["ModifyIndex"] for row in rows if row["Value"] is None and row["ModifyIndex"]
        }
        places = {
            index for value in values for index in self.sim.checker.at.get(value.encode(), ())
        }
        if len(places) != 1 or not written <= places | {0}:
            self.sim.fail(f"I7: {writes} are acknowledged at {written}, committed at {places}")
        self._told(asked, Steps(tuple(_with_rows(steps, rows)), is_done=True))

    async def _look_at_all(self, steps: tuple[Step, ...], body: list[dict[str, Any]]) -> None:
        """Read several keys as they were at one moment."""
        asked = self._history.call("", Steps(steps), f"client {self.number}")
        answer = await self._send("PUT", "/v1/txn", json.dumps(body).encode())
        if answer is None or answer.is_unavailable:
            self._history.unknown(asked, is_harmless=True)
            return
        self.sim.counts["transactions that read"] += 1
        rows = [row["KV"] for row in answer.json()["Results"]]
        self._told(asked, Steps(tuple(_with_rows(list(steps), rows)), is_done=True))

    # -- events -----------------------------------------------------------------------------

    async def _fire(self, member: SimMember | None = None) -> None:
        answer = await self._send("PUT", "/v1/event/fire/deploy", b"note", member=member)
        if answer is None or answer.status != 200:
            return
        told = answer.json()
        self.sim.counts["events fired"] += 1
        self._check_event(told)

    def _check_event(self, told: dict[str, Any]) -> None:
        pages, index = self.sim.checker.judge.book.pages, told["LTime"]
        if not pages[-1].is_open:
            return
        fired = uuid.UUID(told["ID"]).bytes, index
        if index >= len(pages) or pages[index].events[-1:] != (fired,):
            self.sim.fail(f"I7: {told} is told, and was not fired then")

    async def _see_events(self) -> None:
        answer = await self._send("GET", "/v1/event/list")
        if answer is None or answer.status != 200:
            return
        events = answer.json()
        for event in events:
            self._check_event(event)
        found = [(uuid.UUID(event["ID"]).bytes, event["LTime"]) for event in events]
        is_open = self.sim.checker.judge.book.last.is_open
        if (
            found
            and is_open
            and tuple(found) != self.sim.checker.judge.book.pages[found[-1][1]].events
        ):
            self.sim.fail(f"K1: events are told as {found}")
        self.sim.counts["lists of events seen"] += 1


class Renewer(Locker):
    """A client that only keeps a session, and watches for the moments at which that is hard.

    Such are: a leader was replaced and does not know it, and the session is about to end. In that
    last moment it renews, or has the lead handed over.
    """

    async def ask_something(self) -> None:
        """See `Client`."""
        old, now, rng = self._replaced_leader(), trio.current_time(), self.rng
        if not self._session:
            await self._create()
        elif not self._due:
            self._session = ""  # It ends with its node.
        elif old is not None:
            await self._renew_at(old)
        elif now < self._due - 0.1:
            await trio.sleep(0.02)
        elif rng.random() < 0.5:
            await trio.sleep_until(self._due + rng.uniform(-0.05, 0.15))
            await self._use_session("renew")
        else:
            await trio.sleep_until(self._due + rng.uniform(-0.05, 0.05))
            self._fall_silent()
            await self.sim.operator.hand_over(rng)


class Keeper(Locker):
    """A client that makes a session of its own, and keeps it as long as it is told to."""

    async def make(self, member: SimMember) -> bytes:
        """Make a session at a node; return its id, or none: it was not answered, or refused."""
        ttl = self.options.settings.session_ttl_min_ms
        await self._make({"TTL": f"{ttl}ms", "NodeChecks": []}, ttl, member)
        return bytes.fromhex(self._session)

    async def renew(self, member: SimMember) -> None:
        """Renew it."""
        if self._session and not await self._use_session("renew", member) and not self._session:
            self.sim.fail("E1: a session that is renewed in peace is not there")

    async def make_on_node(self, member: SimMember, *, has_check: bool = True) -> bytes:
        """Make one that ends with its node, the one that is asked, and not by its time.

        Without `has_check` it ends only when that is no node of the cluster any more.
        """
        wish: dict[str, Any] = {"TTL": ""} if has_check else {"TTL": "", "NodeChecks": []}
        await self._make(wish, 0, member)
        return bytes.fromhex(self._session)

    async def renew_late(self, member: SimMember) -> None:
        """Renew it, whatever comes of that."""
        await self._use_session("renew", member)

    async def fire(self, member: SimMember) -> None:
        """Fire an event through a node."""
        await self._fire(member)

    async def destroy(self, member: SimMember) -> None:
        """End it."""
        if self._session:
            await self._use_session("destroy", member)


async def renew_one_of_two(sim: WholeSimulation, member: SimMember) -> None:
    """In peace a session that is renewed lives on, and one beside it that is not ends in time (E2)."""
    kept, left = (Keeper(sim.clients, 2000 + n, Random(n)) for n in (1, 2))
    await kept.make(member)
    session = await left.make(member)
    while session and (time := sim.checker.lifetimes.left(session)) and sim.violation is None:
        await kept.renew(member)
        await trio.sleep(min(time + 0.001, sim.options.settings.session_ttl_min_ms / 4000))
        sim.counts["sessions watched in peace"] += 1
    await kept.destroy(member)
    kept.close()
    left.close()


_VERBS_DRAWN = ("lock", "lock", "unlock", "set", "delete", "get")
_VERBS = {
    "lock": LockKind.ACQUIRE,
    "unlock": LockKind.RELEASE,
    "set": LockKind.WRITE,
    "delete": LockKind.DELETE,
    "get": LockKind.READ,
}


def _seen(item: dict[str, Any]) -> Step:
    value = base64.b64decode(item["Value"] or "").decode()
    session = uuid.UUID(item["Session"]).hex if item.get("Session") else ""
    return Step(LockKind.READ, item["Key"], session, value, item["LockIndex"])


def _with_rows(steps: list[Step], rows: list[dict[str, Any]]) -> list[Step]:
    """Return steps with what was read; deletions answer with no row."""
    found = []
    left = list(rows)
    for step in steps:
        if step.kind is LockKind.DELETE:
            found.append(step)
            continue
        row = left.pop(0)
        is_there = step.kind is LockKind.READ and row["ModifyIndex"]
        found.append(_seen(row) if is_there else step)
    return found
