"""The system's resolver as a source, and that it can hold nobody up."""

from __future__ import annotations

import socket
import threading

import pytest
import trio

from hstore.dns import finder
from hstore.dns.client import ASK_S, NoAnswer
from hstore.dns.finder import PEER, look
from hstore.dns.resolver import Hosts, SystemNames, SystemServers, read_nameservers, resolve

ZONE = "hstore.local"


def knowing(monkeypatch, **hosts):
    """A `getaddrinfo` that knows these hosts: lists of addresses, or an error."""

    def getaddrinfo(host, _port, type):  # noqa: A002  # the real one calls it so
        found = hosts.get(host.replace(".", "_"), socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(found, Exception):
            raise found
        return [(socket.AF_INET, type, 6, "", (one, 0)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_first_three_nameservers_of_the_file_are_used(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.0.0.1 # ours\n"
        "nameserver not-an-address\nnameserver\nnameserver ::1\nnameserver 10.0.0.2\n"
        "nameserver 10.0.0.3\n"
    )
    assert read_nameservers(file) == [("10.0.0.1", 53), ("::1", 53), ("10.0.0.2", 53)]


@pytest.mark.parametrize("text", [None, "", "search example.org\n"])
def test_without_a_nameserver_in_the_file_this_machine_is_asked_as_the_system_would(tmp_path, text):
    file = tmp_path / "resolv.conf"
    if text is not None:
        file.write_text(text)
    assert read_nameservers(file) == [("127.0.0.1", 53)]


async def test_the_systems_servers_are_asked_for_services(tmp_path, monkeypatch):
    asked = []

    async def nobody(host, port, name, _rtype, _within_s):
        asked.append((host, port, name[0]))
        raise NoAnswer("REFUSED", 5)

    monkeypatch.setattr(finder, "ask", nobody)
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    findings = await look(ZONE, [SystemServers(path=tmp_path / "resolv.conf")])
    assert asked == [("10.0.0.1", 53, b"_hstore")]
    assert [one.outcome for one in findings.attempts] == ["REFUSED"]


async def test_the_names_of_the_zone_have_the_default_port_and_the_leader_comes_first(monkeypatch):
    knowing(
        monkeypatch,
        leader_hstore_local=["10.0.0.2", "10.0.0.2"],
        nodes_hstore_local=["10.0.0.1", "10.0.0.2", "fe80::1%eth0"],
    )
    findings = await look(ZONE, [SystemNames()])
    assert findings.addresses() == [("10.0.0.2", 8500), ("10.0.0.1", 8500)]
    findings = await look(ZONE, [SystemNames(service=PEER)])
    assert findings.addresses() == [("10.0.0.2", 8300), ("10.0.0.1", 8300)]


async def test_names_that_the_system_does_not_know_are_told_in_words(monkeypatch):
    knowing(monkeypatch, nodes_hstore_local=socket.gaierror(socket.EAI_AGAIN, "Temporary failure"))
    findings = await look(ZONE, [SystemNames()])
    assert {(one.question, one.outcome) for one in findings.attempts} == {
        ("leader.hstore.local", "no such name"),
        ("nodes.hstore.local", "Temporary failure"),
    }
    assert not findings.found


async def test_a_getaddrinfo_that_hangs_is_left_behind_and_so_many_threads_at_most(monkeypatch):
    end, started = threading.Event(), []

    def hang(*arguments, **_options):
        started.append(arguments)
        end.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    source = SystemNames()
    try:
        for _ in range(4):
            with trio.fail_after(10 * ASK_S):
                findings = await look(ZONE, [source])
            assert [one.outcome for one in findings.attempts] == ["no answer within 0.5 s"] * 2
        assert len(started) == 4
    finally:
        end.set()


async def test_an_ip_literal_needs_nobody(monkeypatch):
    knowing(monkeypatch)
    limiter = trio.CapacityLimiter(1)
    assert await resolve("10.0.0.1", limiter) == ["10.0.0.1"]
    with pytest.raises(NoAnswer, match="no such name"):
        await resolve("nobody", limiter)


async def test_named_hosts_become_addresses_and_an_unknown_one_an_attempt(monkeypatch):
    knowing(monkeypatch, db1=["10.0.0.1", "10.0.0.2"])
    hosts = Hosts("discovery.hosts", [("db1", 8500), ("db2", 8500), ("::1", 8501)])
    findings = await look(ZONE, [hosts])
    assert set(findings.addresses()) == {
        ("10.0.0.1", 8500),
        ("10.0.0.2", 8500),
        ("::1", 8501),
    }
    (attempt,) = findings.attempts
    assert (attempt.server, attempt.outcome) == (("db2", 8500), "no such name")
