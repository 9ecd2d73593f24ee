"""Clients that speak HTTP to any node, and remember what they were told.

Each does one request after the other on connections that it keeps. What it learns goes into a
history (`tests/histories`), and is held against the committed log at once, as the revision of a
write is the index of its entry:

- I7: an acknowledged write stands in the committed log at its revision, and what was refused for
  certain never gets there. A keyed write takes effect once, however often it is sent.
- Stale reads show what is committed, if not all of it.
- L1: whoever is not cut off has an answer by the deadline it asked for, and a little.
- L4: `X-Hstore-Index` does not go back on one connection.
"""

from __future__ import annotations

import base64
import json
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from hstore.node.model.commands import Delete, Put
from tests.histories.checker import Result as Found
from tests.histories.checker import Verdict, check
from tests.histories.locks import LockedKeys, Steps
from tests.histories.models import Action, Key, Kind, Result
from tests.histories.recorder import History

from ..options import stream
from .wires import CLIENTS, End

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, EOFError)
"""What a connection of a client can die of."""

_UNAVAILABLE = (b"No cluster leader", b"leadership lost while committing log")
"""Bodies of a 500 in the dialect of Consul; its clients try again when they see these."""

_MOST_STEPS = 200_000
_RETRIES = 3
_PATIENCE_S = 60.0


class Answer:
    """What a node said.

    Attributes:
        status: The HTTP status.
        index: `X-Hstore-Index`.
        result_index: `X-Consul-Index`; 0: there is none.
        body: The body.
    """

    def __init__(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.status = status
        self.index = int(fields["x-hstore-index"])
        self.result_index = int(fields.get("x-consul-index", 0))
        self.body = body
        self._outcome = fields.get("x-hstore-outcome")

    @property
    def is_unavailable(self) -> bool:
        """Whether the node could not do it now."""
        return self.status == 503 or (self.status == 500 and self.body in _UNAVAILABLE)

    @property
    def is_certainly_nothing(self) -> bool:
        """Whether an unavailable node says that nothing was done, nor will be."""
        if self._outcome is not None:
            return self._outcome == "not applied"
        return self.body[:1] == b"{" and self.json().get("outcome") == "not applied"

    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)


class Connection:
    """One connection to one life of one node."""

    def __init__(self, member: SimMember, stream: End) -> None:
        self.member = member
        self.life = member.lives
        self.stream = stream
        self.index = 0
        self._buffer = b""

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: tuple[str, ...] = ()
    ) -> Answer:
        """Send a request and return its answer; raises one of `LOST`."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
        if method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        await self.stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        while b"\r\n\r\n" not in self._buffer:
            await self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, fields = _parse(head)
        if fields.get("transfer-encoding") == "chunked":
            return Answer(status, fields, await self._chunks())
        return Answer(status, fields, await self._take(int(fields["content-length"])))

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                await self._fill()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            length = int(size, 16)
            body += (await self._take(length + 2))[:-2]
            if not length:
                return body

    async def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            await self._fill()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found

    async def _fill(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError
        self._buffer += data

    @property
    def is_undisturbed(self) -> bool:
        """Whether nothing has happened to it, and its node lives on."""
        pipes = self.stream.out, self.stream.into
        is_same = self.member.is_up and self.member.lives == self.life
        stops = not is_same or self.member.node.process.stop_requested.is_set()
        return not stops and not any(p.is_broken or p.is_finished or p.way.is_held for p in pipes)


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split(" ")[1]), fields


class Clients:
    """All clients of a run.

    Attributes:
        asked, answered: How many requests there were, and how many were answered by a 200 or 404.
        refused: Values whose writes were refused for certain.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.options = sim.options
        self.history: History[Action] = History()
        self.lock_history: History[Steps] = History()
        self.asked = self.answered = 0
        self.refused: set[bytes] = set()
        self.told: dict[bytes, int] = {}
        self._written = self._running = 0

    async def ended(self) -> None:
        """Wait until no request is under way, neither here nor anywhere in the cluster."""
        with trio.move_on_after(_PATIENCE_S):
            while self._running:  # noqa: ASYNC110 - they end by themselves
                await trio.sleep(0.05)
            # Passed on to the leader, a request may outlive who waits for it.
            await trio.sleep(self.options.timeout_ms / 1000 + 1)
            return
        self.fail("L1: requests do not end")

    async def run(self, number: int) -> None:
        """Be one client, until the run is over."""
        client = self._client(number)
        self._running += 1
        while not self.sim.is_healed:
            await trio.sleep(client.rng.expovariate(1 / self.options.think_mean))
            await client.ask_something()
        client.close()
        self._running -= 1

    def _client(self, number: int) -> Client:
        """Return a client: the kinds have numbers in the order in which they came."""
        rng = stream(self.sim.seed, f"client {number}")
        from .listers import Lister  # noqa: PLC0415 - they are clients themselves
        from .lockers import Locker, Renewer  # noqa: PLC0415
        from .registrars import Registrar  # noqa: PLC0415
        from .retriers import Retrier  # noqa: PLC0415
        from .strangers import Stranger  # noqa: PLC0415
        from .waiters import Follower, Waiter  # noqa: PLC0415
        from .watchers import Watcher  # noqa: PLC0415

        kinds: tuple[type[Client], ...] = (
            Client, Locker, Waiter, Renewer, Follower, Registrar, Watcher, Retrier, Stranger, Lister,
        )  # fmt: skip
        last = 0
        for kind, count in zip(kinds, self.options.of_each_kind(), strict=True):
            last += count
            if number <= last:
                return kind(self, number, rng)
        raise ValueError(number)

    def new_value(self, number: int, rng: Random) -> str:
        """Return a value that nobody has written."""
        self._written += 1
        return f"{number}-{self._written}" + "." * rng.randint(0, self.options.payload)

    def fail(self, text: str) -> None:
        """What a client was told is not true."""
        self.sim.fail(text)

    # -- what was told ----------------------------------------------------------------------

    def told_done(self, key: str, value: str | None, revision: int) -> None:
        """A write was acknowledged (I7)."""
        command = self.sim.checker.commands.get(revision)
        if value is None:
            is_there = isinstance(command, Delete) and command.key == key.encode()
        else:
            is_there = (
                isinstance(command, Put)
                and command.key == key.encode()
                and command.value == value.encode()
            )
        if not is_there:
            self.fail(f"I7: {key}={value!r:.40} is acknowledged at {revision}, there is {command}")

    def told_value(self, key: str, value: bytes, revision: int) -> None:
        """A read, fresh or stale, has shown something."""
        command = self.sim.checker.commands.get(revision)
        if not isinstance(command, Put) or (command.key, command.value) != (key.encode(), value):
            self.fail(f"I12: {key} is read as {value!r:.40} at {revision}, there is {command}")

    def finished(self) -> None:
        """Judge the whole."""
        at = self.sim.checker.at
        for value in self.refused:
            if value in at:
                self.fail(f"I7: {value!r:.40} was refused for certain, and is at {at[value]}")
        self._judge(check(self.history.operations(), Key(), _MOST_STEPS))
        locks = self.lock_history.operations()
        if locks:
            self._judge(check(locks, LockedKeys(), _MOST_STEPS))
            self.sim.counts["histories of locks checked"] += 1

    def _judge(self, result: Found[Any]) -> None:
        self.sim.counts["histories checked"] += 1
        if result.verdict is Verdict.NOT_LINEARIZABLE:
            self.fail(f"L3: {result}")
        if result.verdict is Verdict.UNDECIDED:
            self.sim.counts["histories undecided"] += 1


class Client:
    """One client.

    Attributes:
        member: Whom it asked last.
        was_undisturbed: Whether nothing was in the way of the last answer.
    """

    member: SimMember
    was_undisturbed = False

    def __init__(self, clients: Clients, number: int, rng: Random) -> None:
        self.clients = clients
        self.sim = clients.sim
        self.options = clients.options
        self.number = number
        self.rng = rng
        self._connections: dict[int, Connection] = {}
        self._keys = 0

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections.values():
            connection.stream.close()

    def knows(self, answer: Answer) -> bool:
        """Whether it can make something of an answer."""
        return answer.status in (200, 404)

    async def ask_something(self) -> None:
        """Do one request, of a kind that is drawn."""
        rng = self.rng
        key = f"k{rng.randrange(self.options.keys)}"
        kind = rng.choice(("write", "write", "update", "delete", "cas", "read", "read", "stale"))
        if kind == "read":
            await self._read(key)
        elif kind == "stale":
            await self._read_stale(key)
        else:
            await self._write(kind, key)

    # -- one request ------------------------------------------------------------------------

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
        """Ask a node; None: there is no answer, and it cannot have come to anything but unknown.

        `wait_s` is how long the request itself lets the node wait, at most; without a `member` any
        is asked.
        """
        sim, rng = self.sim, self.rng
        self.clients.asked += 1
        members = [m for m in sim.members.values() if not m.is_gone]
        member = self.member = rng.choice(members) if member is None else member
        begun = trio.current_time()
        timeout = self.options.timeout_ms
        sign = "&" if "?" in target else "?"
        target = f"{target}{sign}timeout={timeout}ms"
        # A tick, which may be slow, and the ways to and fro.
        slack = 1.0 + self.options.settings.heartbeat_ms / 1000 * member.skew * 2
        connection: Connection | None = None
        answer: Answer | None = None
        with trio.move_on_after(timeout / 1000 + slack + wait_s) as scope:
            try:
                connection = await self._connection(member)
                answer = await connection.ask(method, target, body, headers)
            except LOST:
                sim.counts["clients lost their node"] += 1
        if answer is None:
            if connection is not None:
                if scope.cancelled_caught and self._is_owed(connection, begun):
                    took = trio.current_time() - begun
                    sim.fail(f"L1: node {member.id} does not answer {method} {target} in {took} s")
                connection.stream.close()
            self._connections.pop(member.id, None)
            return None
        assert connection is not None
        self.was_undisturbed = self._is_owed(connection, begun)
        self._check(connection, answer)
        return answer

    def _is_owed(self, connection: Connection, begun: float) -> bool:
        """Whether an answer should have come: nothing was in the way, all the time."""
        quiet_since = self.sim.faults.clients_quiet_since
        late = self.options.tail or self.options.delay_mean > 0.02
        return connection.is_undisturbed and not late and quiet_since <= begun

    async def _connection(self, member: SimMember) -> Connection:
        known = self._connections.get(member.id)
        if known is not None and known.life == member.lives:
            return known
        if known is not None:
            known.stream.close()
        end = await self.sim.wires.dial(CLIENTS, member.settings.api_address)
        connection = self._connections[member.id] = Connection(member, end)
        return connection

    def _check(self, connection: Connection, answer: Answer) -> None:
        counts = self.sim.counts
        counts[f"HTTP {answer.status}"] += 1
        if answer.index < connection.index:
            self.sim.fail(f"L4: the index of {connection.member.id} fell to {answer.index}")
        connection.index = answer.index
        if not answer.is_unavailable and not self.knows(answer):
            self.sim.fail(f"I14: HTTP {answer.status}: {answer.body!r:.300}")
        if not answer.is_unavailable:
            self.clients.answered += 1

    # -- kinds ------------------------------------------------------------------------------

    async def _read(self, key: str) -> None:
        history = self.clients.history
        asked = history.call(key, Action(Kind.READ), f"client {self.number}")
        answer = await self._send("GET", f"/v1/kv/{key}")
        self.note_read(key, asked, answer)

    def note_read(self, key: str, asked: int, answer: Answer | None) -> None:
        """Note in the history what a linearizable read has brought."""
        history = self.clients.history
        if answer is None or answer.is_unavailable:
            history.unknown(asked, is_harmless=True)
        elif answer.status == 404:
            history.answered(asked, Action(Kind.READ, result=Result.ABSENT))
        else:
            value, revision = _entry(answer)
            self.clients.told_value(key, value, revision)
            action = Action(Kind.READ, value.decode(), revision, result=Result.DONE)
            history.answered(asked, action)

    async def _read_stale(self, key: str) -> None:
        answer = await self._send("GET", f"/v1/kv/{key}?stale")
        if answer is not None and answer.status == 200:
            self.sim.counts["stale reads"] += 1
            self.clients.told_value(key, *_entry(answer))

    async def _write(self, kind: str, key: str) -> None:
        clients, history = self.clients, self.clients.history
        value = None if kind == "delete" else clients.new_value(self.number, self.rng)
        expected = await self._find_revision(key) if kind == "cas" else 0
        if expected is None:
            return
        action = Action(Kind(kind), value, expected=expected)
        asked = history.call(key, action, f"client {self.number}")
        headers: tuple[str, ...] = ()
        if self.rng.random() < self.options.keyed:
            self._keys += 1
            headers = (f"Idempotency-Key: {self.number}/{self._keys}",)
        is_unknown = False
        for attempt in range(_RETRIES if headers else 1):
            answer = await self._send(*_request(kind, key, value, expected), headers)
            if answer is not None and not answer.is_unavailable:
                if attempt:
                    self.sim.counts["keyed writes sent again and answered"] += 1
                history.answered(asked, self._outcome(action, key, answer, is_keyed=bool(headers)))
                return
            is_unknown |= answer is None or not answer.is_certainly_nothing
        if is_unknown:
            self.sim.counts["outcomes unknown"] += 1
            history.unknown(asked)
        else:
            self.sim.counts["outcomes not applied"] += 1
            history.never_was(asked)
            if value is not None:
                clients.refused.add(value.encode())

    async def _find_revision(self, key: str) -> int | None:
        """Return what a compare-and-set may name: mostly what there is."""
        answer = await self._send("GET", f"/v1/kv/{key}?stale")
        if answer is None or answer.is_unavailable:
            return None
        return 0 if answer.status == 404 else _entry(answer)[1]

    def _outcome(self, action: Action, key: str, answer: Answer, *, is_keyed: bool) -> Action:
        """Return what an answer says."""
        kind, value, expected = action.kind, action.value, action.expected
        if answer.status == 404:
            return Action(kind, value, result=Result.ABSENT)
        if kind is Kind.CAS:
            result = Result.DONE if answer.body == b"true" else Result.MISMATCH
            is_there = value is not None and value.encode() in self.sim.checker.at
            if result is Result.DONE and not is_there:
                self.sim.fail(f"I7: {key}={value!r:.40} is acknowledged, and nowhere committed")
            return Action(kind, value, None, expected, result)
        revision = answer.json().get("revision")
        if revision is None:
            self.sim.fail(f"I7: {kind} {key} got another request's answer: {answer.body!r:.40}")
        self.clients.told_done(key, value, revision)
        if is_keyed:
            self.sim.counts["keyed writes answered"] += 1
        return Action(kind, value, revision, result=Result.DONE)


def _entry(answer: Answer) -> tuple[bytes, int]:
    (item,) = answer.json()
    return base64.b64decode(item["Value"] or ""), item["ModifyIndex"]


def _request(kind: str, key: str, value: str | None, expected: int) -> tuple[str, str, bytes]:
    if kind == "delete":
        return "DELETE", f"/delete/{key}", b""
    if kind == "cas":
        return "PUT", f"/v1/kv/{key}?cas={expected}", (value or "").encode()
    return "POST", f"/{kind}", json.dumps({"key": key, "value": value}).encode()
