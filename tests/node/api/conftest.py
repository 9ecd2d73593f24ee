"""An API server over memory streams, with a node behind it that does as it is told.

`connect` gives a client that speaks bytes, so that a test sees exactly what was sent.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from hstore.dns.zone import host_names, service_hosts
from hstore.node.api.backend import Backend, Tell, Waiter
from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.config import command_limits
from hstore.node.errors import HstoreError
from hstore.node.model import commands
from hstore.node.model.cluster_info import (
    ClusterInfo,
    ConfigValue,
    JoinReply,
    JoinRequest,
    NodeInfo,
)
from hstore.node.model.commands import (
    ClusterSettings,
    Command,
    InitCluster,
    Keyed,
    Member,
    Outcome,
    Put,
    PutMember,
)
from hstore.node.model.services import Registration
from hstore.node.net.poller import Poller
from hstore.node.net.stream import TcpStream
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state import idempotency
from hstore.node.state.machine import Item, State
from hstore.node.state.reader import Reader
from hstore.node.state.watching.changes import Table
from hstore.node.state.watching.watches import Watch, Watches
from hstore.node.storage.interface import Identity
from tests.fakes.polling import poll_in
from tests.fakes.storage import MemoryDisk


def node_info(name: str, port: int, kind: str = "follower") -> NodeInfo:
    return NodeInfo(
        name=name,
        id=f"{port:016x}",
        address=f"10.0.0.1:{port}",
        peer_address=f"10.0.0.1:{port - 200}",
        dns_address=f"10.0.0.1:{port + 100}",
        type=kind,
        voter=True,
        health="alive",
        term=3,
        commit_index=9,
        applied_index=9,
        last_contact_ms=0,
        version="0.1.0",
        uptime_s=5,
    )


class TrackedReader:
    """A reader of the state that says whether it was closed."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def close(self) -> None:
        self.is_closed = True
        self._reader.close()


class _Waiter:
    """Tells what comes of a coroutine, as if no task waited for it."""

    def __init__(self, work: Coroutine[Any, Any, Any], tell: Tell) -> None:
        self._tell: Tell | None = tell
        trio.lowlevel.spawn_system_task(self._run, work)

    async def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            outcome = await work
        except Exception as error:  # noqa: BLE001 (also a defect)
            outcome = error
        if self._tell is not None:
            self._tell(outcome)

    def give_up(self) -> None:
        self._tell = None


def apply(state: State, command: Command | None) -> Outcome | None:
    """Have a command take effect, or, for None, an entry that is none."""
    index = state.applied + 1
    if command is None:
        return state.apply([Entry(index, 1, EntryKind.NOOP, b"")])[0]
    return state.apply([Entry(index, 1, EntryKind.COMMAND, commands.encode(command))])[0]


def new_state() -> State:
    """A cluster of two members, whose last entry is the tenth."""
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    state = State(storage.state)
    apply(state, InitCluster("c1", ClusterSettings()))
    for number, name in [(1, "n1"), (2, "n2")]:
        api, peer, dns = (f"10.0.0.1:{port + number}" for port in (8499, 8299, 8599))
        apply(state, PutMember(Member(number, name, api, peer, dns)))
    while state.applied < 10:
        apply(state, None)
    return state


class FakeBackend:
    """One node that is a whole cluster, and all four parts of its `Backend`.

    `error` makes every request fail with it.
    """

    def __init__(self) -> None:
        self.name, self.id = "n1", 1
        self.address = "10.0.0.1:8500"
        self.zone = "hstore.local"
        self.members = ["n1", "n2"]
        self.state = new_state()
        self.error: HstoreError | None = None
        self.still_voter = ""
        self.waiting = ""
        self.reason: str | None = None
        self.stale: int | None = 12
        self.leader: str | None = "n1"
        self.term = 3
        self.calls: list[Any] = []
        self.barriers = 0
        self.fresh_at, self.wants_fresh = -math.inf, False
        self.readers: list[TrackedReader] = []
        self.knows_leader = True
        self.last_contact_ms = 0
        # What a test puts in the way of each write: called with the command.
        self.before_write: Callable[[Command], Awaitable[None]] | None = None
        self.version = 0
        self._changed = trio.Event()
        self.history = self.state.history
        self.history.restart(self.applied_index)
        self.watches = Watches(self.history)

    @property
    def zone_hosts(self) -> frozenset[str]:
        return host_names(self.zone, self.members) | service_hosts(self.zone)

    @property
    def whole(self) -> Backend:
        node: Any = self  # Not all of it is there.
        return Backend(node, node, node, node, node, node)

    def wait_once(
        self, table: Table, key: bytes, call: Callable[[], None], *, is_prefix: bool = False
    ) -> Waiter:
        return self.watches.once(table, key, call, is_prefix=is_prefix)

    def watch(self, prefix: bytes, after: int | None) -> Watch:
        return self.watches.open(prefix, after)

    @property
    def applied_index(self) -> int:
        return self.state.applied

    @property
    def items(self) -> dict[bytes, Item]:
        reader = self.state.view()
        try:
            return {item.key: item for item in reader.scan()}
        finally:
            reader.close()

    def apply(self, command: Command) -> Outcome:
        """Have a command take effect."""
        outcome = apply(self.state, command)
        assert outcome is not None
        return outcome

    def set(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.apply(Put(key, value, flags))

    def get(self, key: bytes) -> Item | None:
        return self.state.get(key)

    def view(self) -> TrackedReader:
        self.readers.append(TrackedReader(self.state.view()))
        return self.readers[-1]

    async def write(
        self, command: Command, deadline: float, *, applied_here: bool = False
    ) -> Outcome:
        self.calls.append((command, deadline - trio.current_time()))
        await trio.lowlevel.checkpoint()
        if self.before_write is not None:
            await self.before_write(command)
        if self.error is not None:
            raise self.error
        # A command that a node would refuse must never be made of a request: else the client is told
        # what it cannot understand, in place of what is wrong with the request.
        assert command_limits.fault_in(commands.encode(command)) == ""
        outcome = self.apply(command)
        return idempotency.answered(outcome) if isinstance(command, Keyed) else outcome

    async def left_ms(self, session_ids: Sequence[bytes], deadline: float) -> list[int | None]:
        if self.error is not None:
            raise self.error
        return [7250 for _ in session_ids]

    def service_index(self, folded: bytes) -> int:
        return self.state.service_index(folded)

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        return self.state.nodes_of_service(folded)

    def is_so(self, command: Registration) -> bool:
        return self.state.is_so(command)

    @property
    def own_number(self) -> int:
        return next(one.catalog_number for one in self.state.members.values())

    def begin_write(
        self, command: Command, deadline: float, tell: Tell, *, applied_here: bool = False
    ) -> Waiter | None:
        return _Waiter(self.write(command, deadline, applied_here=applied_here), tell)

    def begin_read(self, deadline: float, tell: Tell) -> Waiter | None:
        return _Waiter(self.read_barrier(deadline), tell)

    def is_fresh_since(self, moment: float) -> bool:
        return self.fresh_at > moment

    def freshen(self) -> None:
        self.wants_fresh = True

    async def read_barrier(self, deadline: float) -> None:
        self.barriers += 1
        self.calls.append(("barrier", deadline - trio.current_time()))
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error

    def stale_ms(self) -> int | None:
        return self.stale

    def unhealthy(self) -> str | None:
        return self.reason

    def lag_ms(self, seconds: int) -> float:
        return seconds / 2

    def cluster(self) -> ClusterInfo:
        return ClusterInfo(
            cluster_id="c1",
            leader=self.leader,
            term=self.term,
            quorum=2,
            failure_tolerance=0,
            zone=self.zone,
            nodes=[node_info("n1", 8500, "leader"), node_info("n2", 8501)],
        )

    def elect(self, leader: str | None, term: int) -> None:
        self.leader, self.term = leader, term
        self.version += 1
        self._changed.set()
        self._changed = trio.Event()

    async def wait_cluster_change(self, seen: int) -> int:
        while self.version == seen:
            await self._changed.wait()
        return self.version

    async def join(self, request: JoinRequest, deadline: float) -> JoinReply:
        self.calls.append((request, deadline - trio.current_time()))
        if self.error is not None:
            raise self.error
        return JoinReply(cluster_id="c1", name="n3", zone=self.zone, peers={"aa": "10.0.0.1:8300"})

    async def remove(self, node: str, deadline: float) -> None:
        self.calls.append(("remove", node))
        if self.error is not None:
            raise self.error

    @property
    def cluster_settings(self) -> ClusterSettings:
        return self.state.settings

    def show(self) -> dict[str, ConfigValue]:
        return {"zone": ConfigValue(self.zone, "default"), "heartbeat": ConfigValue("1s", "set")}

    async def cluster_barrier(self, deadline: float) -> None:
        await self.read_barrier(deadline)

    async def change(self, key: str, value: str, deadline: float) -> ConfigValue:
        self.calls.append(("configure", key, value))
        if self.error is not None:
            raise self.error
        return ConfigValue(value, "changed at revision 11")

    async def rename(self, node: str, name: str, deadline: float) -> str:
        self.calls.append(("rename", node, name))
        if self.error is not None:
            raise self.error
        return node or self.name

    async def leave(self, deadline: float) -> None:
        self.calls.append("leave")
        if self.error is not None:
            raise self.error

    async def transfer(self, to: str, deadline: float) -> str:
        self.calls.append(("transfer", to))
        if self.error is not None:
            raise self.error
        return to or "n2"

    async def stop(self) -> str:
        self.calls.append("stop")
        return self.still_voter

    def stop_all(self) -> None:
        self.calls.append("stop all")

    def restart(self) -> None:
        self.calls.append("restart")

    def kill(self) -> None:
        self.calls.append("kill")


class Response:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What an error says: in JSON, or in the dialect's plain text, which is one line."""
        if self.headers["content-type"] == "application/json":
            text = self.json()["error"]
            assert isinstance(text, str)
            return text
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        assert b"\n" not in self.body
        return self.body.decode()

    @property
    def outcome(self) -> str | None:
        """What a failed write says of itself."""
        if self.headers["content-type"] == "application/json":
            outcome: str | None = self.json().get("outcome")
            return outcome
        return self.headers.get("x-hstore-outcome")

    @property
    def index(self) -> int:
        """The index of the result."""
        return int(self.headers["x-consul-index"])

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Client:
    """The other end of a connection. Its parser takes nothing but what HTTP/1.1 says."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def _fill(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data

    async def read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._fill()
        part, _, self._buffer = self._buffer.partition(end)
        return part

    async def read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._fill()
        part, self._buffer = self._buffer[:count], self._buffer[count:]
        return part

    async def read_to_end(self) -> bytes:
        while True:
            try:
                await self._fill()
            except EOFError:
                part, self._buffer = self._buffer, b""
                return part

    async def read_chunk(self) -> bytes:
        size = int(await self.read_until(b"\r\n"), 16)
        chunk = await self.read_exactly(size)
        assert await self.read_exactly(2) == b"\r\n"
        return chunk

    async def read_head(self) -> Response:
        lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        return Response(int(status), headers, b"")

    async def response(self, method: str = "GET") -> Response:
        response = await self.read_head()
        headers = response.headers
        if response.status == 100 or method == "HEAD":
            return response
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            while chunk := await self.read_chunk():
                response.body += chunk
        elif "content-length" in headers:
            response.body = await self.read_exactly(int(headers["content-length"]))
        else:
            assert headers["connection"] == "close"
            response.body = await self.read_to_end()
        return response

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | dict[str, Any] | None = None,
        **headers: str,
    ) -> Response:
        """Send one request and wait for its answer; `_` in header names stands for `-`."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if "Host" not in headers:
            lines.append("Host: localhost:8500")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return await self.response(method)


Connect = Callable[..., Client]


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(params=["a task each", "parked"])
async def poller(request, nursery) -> AsyncIterator[Poller | None]:
    """What watches connections; None: each has a task that does. Every test runs with both.

    But for a test of what only `parked` has: it is marked `@parked`.
    """
    if request.param == "a task each":
        yield None
        return
    yield poll_in(nursery)


parked = pytest.mark.parametrize("poller", ["parked"], indirect=True)
"""For a test of connections that have no task while they wait.

They have a socket, which tells of the other end while nothing is read; a stream in memory does not.
"""


@pytest.fixture
def server(backend, poller) -> ApiServer:
    return ApiServer(backend.whole, ROUTES, http_hosts=("kv.example",), poller=poller)


@pytest.fixture
async def connect(server, nursery, poller) -> AsyncIterator[Connect]:
    """Open one more connection to the server."""
    sockets: list[socket.socket] = []
    nursery.start_soon(server.sweep)

    def connect(*, is_local: bool = True) -> Client:
        if poller is not None:
            near_sock, far_sock = socket.socketpair()
            sockets.extend((near_sock, far_sock))
            for sock in (near_sock, far_sock):
                sock.setblocking(False)
            server.serve_parked(TcpStream(far_sock), nursery, is_local=is_local)
            return Client(TcpStream(near_sock))
        near, far = trio.testing.memory_stream_pair()

        async def serve() -> None:
            await server.serve_stream(far, is_local=is_local)

        nursery.start_soon(serve)
        return Client(near)

    yield connect
    nursery.cancel_scope.cancel()
    for sock in sockets:
        sock.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()
