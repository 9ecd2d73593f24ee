"""Where everybody looks for a cluster: the same places for its APIs and for its peers."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import trio

from hstore.dns.finder import API, LOOK_S, PEER, Findings, Rank
from hstore.dns.records import name_of
from hstore.node.config.settings import Discovery
from hstore.node.discovery import run_record, saved_members
from hstore.node.discovery.run_record import RunRecord
from hstore.node.discovery.saved_members import SavedMember, SavedMembers
from hstore.node.discovery.sources import Saved, ThisMachine, sources
from hstore.node.model.values import Address

ZONE = name_of("hstore.local")
HOST = Address("10.0.0.9", 9000)
SERVER = Address("10.0.0.53", 53)


@pytest.fixture
def env(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def record(env, number=1, pid=None, **changes):
    """Record a node as running here, at ports where nothing listens."""
    process = run_record.process_of(pid or os.getpid())
    assert process is not None
    fields: dict[str, Any] = {
        "name": f"n{number}",
        "node_id": f"{number:016x}",
        "cluster_id": "00000000000000c1",
        "zone": "hstore.local",
        "learner": False,
        "listen": f"127.0.0.1:{21000 + number}",
        "address": f"127.0.0.1:{21000 + number}",
        "peer_address": f"127.0.0.1:{22000 + number}",
        "dns_address": f"127.0.0.1:{23000 + number}",
        "data_dir": f"/nowhere/{number}",
        "arguments": ("start",),
        "variables": {},
        "directory": "/",
    }
    run_record.write(RunRecord(process=process, **(fields | changes)), env)


def save(directory):
    one = SavedMember("00000000000000a1", "n1", "10.0.0.1:8500", "10.0.0.1:8301", "10.0.0.1:8600")
    saved_members.write(directory, SavedMembers("00000000000000c1", "hstore.local", (one,)))


async def nodes_of(source):
    """The addresses that a source names by itself, without a DNS server."""
    findings = Findings()
    await source.look(ZONE, findings)
    return [node for one in findings.sightings for node in one.nodes]


def kinds(discovery, directory, env, service):
    return [
        (type(one), int(one.rank)) for one in sources(discovery, directory, env, service=service)
    ]


def test_a_search_for_peers_has_the_same_sources_as_one_for_apis(tmp_path, env):
    # A member that had lost its cluster did not read the run records, which `list` did.
    for discovery in (Discovery(), Discovery((HOST,), (SERVER,)), Discovery(mdns=False)):
        for directory in (None, tmp_path):
            api = kinds(discovery, directory, env, API)
            peer = kinds(discovery, directory, env, PEER)
            # The one difference: the DNS server of a named node, which knows its peer port.
            assert [peer[0], *peer[2:]] == api
            assert peer[1][1] == Rank.NAMED


def test_all_five_sources_are_asked_best_first(tmp_path, env):
    assert [rank for _, rank in kinds(Discovery(), tmp_path, env, API)] == [
        Rank.NAMED,
        Rank.NAMED,
        Rank.SERVERS,
        Rank.HERE,
        Rank.SYSTEM,
        Rank.SYSTEM,
        Rank.LINK,
    ]
    off = kinds(Discovery(mdns=False), tmp_path, env, API)
    assert all(rank != Rank.LINK for _, rank in off)


def test_what_the_settings_name_is_asked(env):
    discovery = Discovery(hosts=(HOST,), dns=(SERVER,))
    found = list[Any](sources(discovery, None, env))
    assert found[0].addresses == (HOST,)
    assert found[1].servers == (SERVER,)
    found = list[Any](sources(discovery, None, env, service=PEER))
    assert found[0].addresses == [("10.0.0.9", 8800)]
    assert found[1].servers == [("10.0.0.9", 9100)]
    assert found[2].servers == (SERVER,)


async def test_saved_members_are_named_at_the_port_of_the_service(tmp_path):
    assert await nodes_of(Saved(tmp_path)) == []
    source = Saved(tmp_path)
    save(tmp_path)
    assert await nodes_of(source) == [("10.0.0.1", 8500)]
    assert await nodes_of(Saved(tmp_path, PEER)) == [("10.0.0.1", 8301)]
    (tmp_path / saved_members.FILE).write_text("{")
    assert await nodes_of(source) == []


async def test_nodes_recorded_as_running_here_are_named_as_they_come_and_go(env):
    source = ThisMachine(env)
    assert await nodes_of(source) == []
    record(env, 1)
    record(env, 2, pid=1, zone="other.example")
    assert await nodes_of(source) == [("127.0.0.1", 21001)]
    peers = ThisMachine(env, PEER, cluster_id="00000000000000c1")
    assert set(await nodes_of(peers)) == {("127.0.0.1", 22001), ("127.0.0.1", 22002)}
    record(env, 2, cluster_id="00000000000000c2")
    assert await nodes_of(peers) == [("127.0.0.1", 22001)]


async def test_recorded_dns_servers_are_asked_wherever_they_listen(env):
    record(env, 1)
    findings = Findings()
    await ThisMachine(env).look(ZONE, findings)
    assert ("127.0.0.1", 23001) in {one.server for one in findings.attempts}


async def test_a_node_in_another_network_is_not_at_our_addresses(env, monkeypatch):
    record(env, 1)
    monkeypatch.setattr(run_record, "shares_network", lambda _record: False)
    assert await nodes_of(ThisMachine(env)) == []


async def test_a_disk_that_hangs_holds_up_no_search(tmp_path, monkeypatch, autojump_clock):
    hangs = threading.Event()
    monkeypatch.setattr(saved_members, "read", lambda _directory: hangs.wait(30))
    source = Saved(tmp_path)
    try:
        for _ in range(3):  # and takes one thread, however often it is asked
            began = trio.current_time()
            assert await nodes_of(source) == []
            assert trio.current_time() - began <= LOOK_S
        assert source.limiter.borrowed_tokens == 1
    finally:
        hangs.set()
