"""The catalog against a slow model: what each answer says, its index, and who is woken by what.

The model remembers of each question what was shown and at which entry that changed last. Kept bodies are
compared with those of a server that keeps none.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.model.checks import SERF_HEALTH, CheckDefinition
from hstore.node.model.commands import ChangeMember, Put
from hstore.node.model.services import (
    CatalogRegister,
    CheckResult,
    Deregister,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)
from hstore.node.net.stream import TcpStream
from tests.fakes.polling import poll_in
from tests.node.api.conftest import Client
from tests.node.api.consul.conftest import OWN, StateBackend

OTHER = 2
SERVICES = ["web", "Web", "db"]
NODES = ["n1", "n2", "ext", "Ext2"]
STATUSES = ["passing", "warning", "critical"]

_ids = st.sampled_from(["a", "b", "a/b"])
_checks = st.sampled_from(["c1", "c2"])
_statuses: Any = st.sampled_from(STATUSES)
_places = st.one_of(
    st.sampled_from([Place(OWN), Place(OTHER)]),
    st.sampled_from([Place(0, "ext", "192.0.2.1"), Place(0, "EXT2", "192.0.2.2")]),
)
_given = st.builds(
    GivenCheck,
    _checks,
    st.just("check"),
    st.sampled_from(["", *STATUSES]),
    definition=st.just(CheckDefinition(kind="ttl", ttl_ns=10**10)),
)
_services = st.builds(
    Service,
    st.just(0),
    _ids,
    st.sampled_from(SERVICES),
    tags=st.sampled_from([(), ("x",), ("y", "x")]),
    port=st.integers(0, 1),
)


@st.composite
def _catalog_checks(draw: Any) -> GivenCheck:
    status = draw(_statuses)
    return GivenCheck(draw(_checks), "check", status, output=status, service="")


_commands: st.SearchStrategy[Any] = st.one_of(
    st.builds(RegisterService, _places, _services, st.lists(_given, max_size=2).map(tuple)),
    st.builds(RegisterService, _places, _services),
    st.builds(RegisterCheck, _places, _given),
    st.builds(Deregister, _places, service=_ids),
    st.builds(Deregister, _places, check=_checks),
    st.builds(Deregister, st.sampled_from([Place(0, "ext"), Place(0, "ext2")]), is_catalog=st.just(True)),
    st.builds(
        CatalogRegister,
        st.builds(
            ExternalNode,
            st.just(0),
            st.sampled_from(["ext", "Ext2"]),
            address=st.sampled_from(["192.0.2.1", "192.0.2.9"]),
            meta=st.sampled_from([(), (("os", "linux"),)]),
        ),
        checks=st.lists(_catalog_checks(), max_size=1).map(tuple),
    ),
    st.tuples(st.sampled_from([OWN, OTHER]), _checks, _statuses),
    st.tuples(st.sampled_from([OWN, OTHER]), st.just(SERF_HEALTH), st.sampled_from(["passing", "critical"])),
    st.just(Put(b"k", b"v")),
    st.sampled_from([ChangeMember(OTHER, name="n2"), ChangeMember(OTHER, name="n3")]),
)  # fmt: skip

EXACT = [
    *(f"{kind}/{name}" for kind in ("health/service", "catalog/service", "health/checks")
      for name in ("web", "db", "nope", "consul")),
    "catalog/services",
    "catalog/nodes",
    *(f"catalog/node/{name}" for name in ("n1", "n2", "ext", "ext2")),
    *(f"health/node/{name}" for name in ("n1", "n2", "ext", "ext2")),
    *(f"health/state/{state}" for state in ("any", *STATUSES)),
]  # fmt: skip
"""Questions whose readers are woken when what is shown changes."""

NARROWED = [
    "health/service/web?passing",
    "health/service/WEB?tag=X",
    "health/service/db?passing&tag=y",
    "catalog/service/web?tag=x&node-meta=os:linux",
    "health/service/web?node-meta=os:linux",
    "health/checks/web?node-meta=os:linux",
]


def take(backend: StateBackend, command: Any) -> None:
    """Have a command take effect, which may be refused; a tuple: the status of a check."""
    if not isinstance(command, tuple):
        backend.apply(command)
        return
    number, name, status = command
    if name == SERF_HEALTH:
        backend.check(number, SERF_HEALTH, status, "Serf Health Status")
        return
    check = backend.state.check(number, name)
    if check is not None:
        result = CheckResult(number, name, check.defined, status, status)
        backend.apply(UpdateChecks(number, (result,)))


def made() -> StateBackend:
    backend = StateBackend()
    backend.add("n2", OTHER, 8501)
    return backend


class Model:
    """What each question's answer was, and at which entry it changed last."""

    def __init__(self) -> None:
        self.shown: dict[str, bytes] = {}
        self.indexes: dict[str, int] = {}
        self.changed_at: dict[str, int] = {}

    def see(self, path: str, index: int, body: bytes, applied: int) -> None:
        before = self.indexes.get(path, 0)
        assert index >= before, (path, before, index)
        assert 1 <= index <= applied, (path, index)
        if path in self.shown and self.shown[path] != body:
            # Another answer never has the index of the one before, and a reader has waited with it.
            assert index > before, (path, before, body)
            assert index == applied, (path, index, applied)
            self.changed_at[path] = applied
        self.shown[path], self.indexes[path] = body, index


@settings(max_examples=25, deadline=None)
@given(st.lists(_commands, max_size=25))
async def test_an_index_moves_with_each_change_of_the_result_and_never_back(commands):
    backend = made()
    near, far = trio.testing.memory_stream_pair()
    client, model = Client(near), Model()
    async with trio.open_nursery() as nursery:
        server = ApiServer(backend.whole, ROUTES)
        nursery.start_soon(server.serve_stream, far)
        for command in [None, *commands]:
            if command is not None:
                take(backend, command)
            found = {}
            for path in EXACT:
                answer = await client.request("GET", f"/v1/{path}")
                assert answer.status == 200, answer
                model.see(path, answer.index, answer.body, backend.applied_index)
                found[path] = answer
            for path in NARROWED:
                answer = await client.request("GET", f"/v1/{path}")
                whole = path.partition("?")[0].lower()
                assert answer.index == found[whole].index, path
            _check_that_lists_agree(found)
        nursery.cancel_scope.cancel()


def _check_that_lists_agree(found: dict[str, Any]) -> None:
    """Reads of section 5 at one index are of one catalog: every list has the same instances and checks."""
    for name in ("web", "db", "consul"):
        flat = found[f"catalog/service/{name}"].json()
        health = found[f"health/service/{name}"].json()
        pairs = [(one["Node"], one["ServiceID"]) for one in flat]
        assert pairs == [(one["Node"]["Node"], one["Service"]["ID"]) for one in health]
        assert pairs == sorted(pairs, key=lambda pair: (pair[0].encode(), pair[1].encode()))
        own = [check for one in health for check in one["Checks"] if check["ServiceID"]]
        assert own == found[f"health/checks/{name}"].json()
    every = found["health/state/any"].json()
    by_status = [one for state in STATUSES for one in found[f"health/state/{state}"].json()]
    assert sorted(map(json.dumps, every)) == sorted(map(json.dumps, by_status))
    names = [node["Node"] for node in found["catalog/nodes"].json()]
    assert {check["Node"] for check in every} <= set(names)
    tags: dict[str, set[str]] = {"consul": set()}
    for name in ("web", "db"):
        for one in found[f"catalog/service/{name}"].json():
            tags.setdefault(one["ServiceName"], set()).update(one["ServiceTags"])
    assert found["catalog/services"].json() == {name: sorted(tags[name]) for name in tags}


# --- who is woken -------------------------------------------------------------------------------


async def _run(nursery: trio.Nursery, commands: list[Any]) -> None:
    backend = made()
    poller = poll_in(nursery)
    backend.watches.wake = poller.turn.soon
    server = ApiServer(backend.whole, ROUTES, poller=poller)
    sockets: list[socket.socket] = []

    def connect() -> Client:
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        sockets.extend((near, far))
        server.serve_parked(TcpStream(far), nursery, is_local=True)
        return Client(TcpStream(near))

    asking = connect()
    readers = {path: connect() for path in EXACT}
    last: dict[str, tuple[int, bytes]] = {}
    try:
        for path, reader in readers.items():
            answer = await asking.request("GET", f"/v1/{path}")
            last[path] = answer.index, answer.body
            await _wait(reader, path, answer.index)
        for command in commands:
            take(backend, command)
            await trio.testing.wait_all_tasks_blocked()
            for path, reader in readers.items():
                answer = await asking.request("GET", f"/v1/{path}")
                index, body = last[path]
                is_answered = reader.stream.has_input()  # type: ignore[attr-defined]
                assert is_answered is (answer.index != index), (command, path)
                if is_answered:
                    found = await reader.response()
                    assert (found.index, found.body) == (answer.index, answer.body), path
                    last[path] = answer.index, answer.body
                    await _wait(reader, path, answer.index)
                else:
                    assert answer.body == body, (command, path)
    finally:
        for connection in list(server._connections):
            connection.leave()
        for sock in sockets:
            sock.close()


async def _wait(reader: Client, path: str, index: int) -> None:
    target = f"/v1/{path}?index={index}&wait=10m"
    await reader.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()


@settings(max_examples=12, deadline=None)
@given(st.lists(_commands, max_size=10))
async def test_a_change_wakes_those_whose_index_it_moves_and_nobody_else(commands):
    async with trio.open_nursery() as nursery:
        await _run(nursery, commands)
        nursery.cancel_scope.cancel()


# --- kept bodies --------------------------------------------------------------------------------


class _KeepsNone:
    """In place of `Rendered`."""

    def __init__(self) -> None:
        self.names = None
        self.crowds: dict[bytes, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, None if name == "names" else value)

    def __contains__(self, key: Any) -> bool:
        return False

    def get(self, key: Any) -> None:
        return None

    def put(self, *_: Any) -> None:
        pass


_READS = [
    *NARROWED, "health/service/web", "health/service/Web", "catalog/service/web", "health/checks/db",
    "catalog/services", "health/service/consul?passing", "health/service/web?stale",
    "health/service/web?passing&dc=dc1", "health/service/web?passing=false",
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(_commands, st.lists(st.sampled_from(_READS), max_size=3)), max_size=12))
async def test_kept_bodies_are_those_that_would_be_made(steps):
    backend = made()
    clients = []
    async with trio.open_nursery() as nursery:
        for keeps in (True, False):
            near, far = trio.testing.memory_stream_pair()
            server = ApiServer(backend.whole, ROUTES)
            if not keeps:
                none: Any = _KeepsNone()
                server._shared = server._shared._replace(
                    kept=server._shared.kept._replace(rendered=none)
                )
            nursery.start_soon(server.serve_stream, far)
            clients.append(Client(near))
        for command, paths in [(None, _READS), *steps, (None, _READS)]:
            if command is not None:
                take(backend, command)
            for path in paths:
                # A body is kept when it is made for the second time.
                for _ in range(2 if command else 3):
                    first, second = [await one.request("GET", f"/v1/{path}") for one in clients]
                    assert first.status == 200
                    assert first.body == second.body, path
                    first.headers.pop("date"), second.headers.pop("date")
                    assert first.headers == second.headers, path
        nursery.cancel_scope.cancel()
