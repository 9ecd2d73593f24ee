"""The driver's loop on the core's page drives real cores, and handles all that an update can ask."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import deque
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from hstore.node.raft import events, membership
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.events import Event, Propose, ReadIndex, Receive, Tick
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import Message
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist, Update
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk

PAGE = Path(__file__).resolve().parents[3] / "node" / "raft" / "DESIGN.md"
VOTERS = (1, 2, 3)


@pytest.fixture(scope="module")
def source():
    (found,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return found


class Waiting:
    """Writes down what the loop says of requests."""

    def __init__(self):
        self.flushes = []
        self.said = []

    def __getattr__(self, name):
        return lambda *values: self.said.append((name, *values))


class Node:
    """One core, driven by the page's own code on a disk that forgets what was not flushed."""

    def __init__(self, source, disk, node_id, network):
        self.code = {name: getattr(events, name) for name in ("Applied", "Persisted")}
        exec(compile(source, str(PAGE), "exec"), self.code)  # the page is ours
        self.disk, self.network = disk, network
        self.storage = disk.open()
        found = self.storage.load()
        self.core = Core(
            node_id,
            Options(),
            Random(node_id),
            hard_state=found.hard_state,
            snapshot=found.snapshot,
            entries=found.entries,
            applied=found.applied,
            recover_to=found.recover_to,
        )
        self.applied: list[Entry] = []
        self.state = SimpleNamespace(apply=self.applied.extend)
        self.events: deque[Event] = deque()
        self.waiting = Waiting()

    async def step(self):
        send = self.network.append
        self.code["turn"](
            self.core, self.storage, self.state, None, self.events, self.waiting, send
        )
        await self.storage.flush()
        self.code["flushed"](self.events, self.waiting, send)


def disks():
    config = membership.encode(Configuration(voters=VOTERS))
    first = Entry(1, 1, EntryKind.CONFIG, config)
    return {
        node: MemoryDisk(
            Identity("0011223344556677", node), hard_state=HardState(1, 0, 1), entries=[first]
        )
        for node in VOTERS
    }


async def run(nodes, network, rounds=100):
    """Carry everything out until nobody has anything to do."""
    for _ in range(rounds):
        while network:
            message = network.popleft()
            nodes[message.to].events.append(Receive(message))
        busy = [node for node in nodes.values() if node.events]
        if not busy:
            return
        for node in busy:
            await node.step()
    raise AssertionError("it never comes to rest")


async def elect(nodes, network):
    for _ in range(50):
        for node in nodes.values():
            node.events.append(Tick())
        await run(nodes, network)
        for node in nodes.values():
            if node.core.role is Role.LEADER and node.core.log.applied == node.core.log.last_index:
                return node
    raise AssertionError("no leader")


def commands(node):
    return [entry.data for entry in node.applied if entry.kind == EntryKind.COMMAND]


async def test_the_loop_on_the_page_elects_writes_reads_and_comes_back_from_a_crash(source):
    network: deque[Message] = deque()
    files = disks()
    nodes = {node: Node(source, files[node], node, network) for node in VOTERS}
    leader = await elect(nodes, network)
    leader.events += [Propose([(7, b"a"), (8, b"b")]), ReadIndex(9)]
    await run(nodes, network)

    assert commands(leader) == [b"a", b"b"]
    assert [said[:2] for said in leader.waiting.said if said[0] != "send_snapshot"] == [
        ("in_log", 7),
        ("in_log", 8),
        ("readable", 9),
    ]

    for disk in files.values():
        disk.crash()
    network.clear()
    nodes = {node: Node(source, files[node], node, network) for node in VOTERS}
    leader = await elect(nodes, network)

    assert commands(leader) == [b"a", b"b"]


def test_the_loop_on_the_page_handles_every_part_of_an_update(source):
    read = {
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }

    assert {name for owner, name in read if owner == "update"} == {
        field.name for field in dataclasses.fields(Update)
    }
    assert {name for owner, name in read if owner == "persist"} == {
        field.name for field in dataclasses.fields(Persist)
    }
