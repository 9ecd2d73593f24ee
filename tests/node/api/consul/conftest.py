"""A server whose backend is a real state machine: one node that is a whole cluster, without a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from hstore.dns.zone import host_names
from hstore.node.api.backend import Tell, Waiter
from hstore.node.config.cluster_settings import SETTINGS
from hstore.node.errors import Refused
from hstore.node.model import commands
from hstore.node.model.checks import (
    SERF_HEALTH,
    SERF_HEALTH_NAME,
    Check,
    CheckStatus,
    SetCheck,
)
from hstore.node.model.cluster_info import ClusterInfo, ConfigValue, NodeInfo
from hstore.node.model.commands import (
    ChangeMember,
    ClusterSettings,
    Command,
    InitCluster,
    Member,
    Outcome,
    PutMember,
)
from hstore.node.model.locks import Session
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state.machine import State
from hstore.node.state.watching.watches import Watches
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk
from tests.node.api.conftest import Client, FakeBackend, Response, _Waiter, node_info

from .catalogs import Catalog

OWN = 0x1F00_0000_0000_0001


class StateBackend(FakeBackend):
    """One node, its state as the log made it. `n1` is this node."""

    def __init__(self) -> None:
        super().__init__()
        storage = MemoryDisk(Identity("00" * 8, OWN)).open()
        storage.load()
        self.state = State(storage.state)
        self.history = self.state.history
        self.watches = Watches(self.history)
        self.id = OWN
        self.time_ms = 1000
        self.health: dict[str, str] = {}
        self.renewed: list[bytes] = []
        self.is_as_founded = True
        self.refusal = ""
        self.apply(InitCluster("c1", ClusterSettings()))
        self.add("n1", OWN, 8500)

    def apply(self, command: Command) -> Outcome:
        """Have a command take effect, at this backend's `time_ms`."""
        data = commands.encode(command)
        if commands.needs_time(data):
            data = commands.stamped(data, self.time_ms)
        entry = Entry(self.state.applied + 1, 1, int(EntryKind.COMMAND), data)
        [outcome] = self.state.apply([entry])
        assert outcome is not None
        return outcome

    def add(self, name: str, node: int, port: int) -> None:
        """Make a member, whose `serfHealth` passes."""
        api, peers, dns = (f"10.0.0.1:{each}" for each in (port, port - 200, port + 100))
        assert self.apply(PutMember(Member(node, name, api, peers, dns))).ok
        self.check(node, SERF_HEALTH, "passing", SERF_HEALTH_NAME)
        self.is_as_founded = len(self.members) == 1

    def check(self, node: int, check: str, status: CheckStatus, name: str = "") -> None:
        assert self.apply(SetCheck(Check(node, check, name, status))).ok

    def renamed(self, node: int, name: str) -> None:
        assert self.apply(ChangeMember(node, name=name)).ok

    @property  # type: ignore[override]
    def members(self) -> Mapping[int, Member]:
        return self.state.members

    @members.setter
    def members(self, _: Any) -> None:
        pass

    @property
    def zone_hosts(self) -> frozenset[str]:
        return host_names(self.zone, [member.name for member in self.members.values()])

    async def renew(self, session_id: bytes, deadline: float) -> Session | None:
        self.calls.append(("renew", deadline - trio.current_time()))
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.renewed.append(session_id)
        return self.state.session(session_id)

    def begin_renew(self, session_id: bytes, deadline: float, tell: Tell) -> Waiter | None:
        return _Waiter(self.renew(session_id, deadline), tell)

    def show(self) -> dict[str, ConfigValue]:
        settings = self.state.settings
        return {
            one.key: ConfigValue(one.show(getattr(settings, one.field)), "default")
            for one in SETTINGS
        }

    def cluster(self) -> ClusterInfo:
        nodes = [self._info(member) for member in self.members.values()]
        return ClusterInfo("c1", self.leader, self.term, 1, 0, self.zone, nodes)

    def _info(self, member: Member) -> NodeInfo:
        port = int(member.address.rpartition(":")[2])
        kind = "leader" if member.name == self.leader else "follower"
        info = node_info(member.name, port, kind)
        health = self.health.get(member.name, "alive")
        return msgspec.structs.replace(info, id=f"{member.id:016x}", health=health)

    async def remove(self, node: str, deadline: float) -> None:
        await super().remove(node, deadline)
        if self.refusal:
            raise Refused(self.refusal)

    async def transfer(self, to: str, deadline: float) -> str:
        await super().transfer(to, deadline)
        if self.refusal:
            raise Refused(self.refusal)
        return to


def is_refused(answer: Response, status: int, text: str) -> None:
    """The form of errors, section 2.5."""
    assert (answer.status, answer.body.decode()) == (status, text)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def is_read(answer: Response, index: int | None = None) -> None:
    """The headers of section 2.4."""
    headers = answer.headers
    assert int(headers["x-consul-index"]) >= 1
    assert headers["x-consul-knownleader"] == "true"
    assert headers["x-consul-lastcontact"] == "0"
    assert headers["x-consul-effective-consistency"] == "leader"
    if index is not None:
        assert int(headers["x-consul-index"]) == index


async def waits(client: Client, target: str) -> None:
    """Send a read that waits."""
    await client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def backend() -> StateBackend:
    return StateBackend()


@pytest.fixture
def catalog(backend: StateBackend) -> Catalog:
    return Catalog(backend)
