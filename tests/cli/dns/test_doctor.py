"""The observations: who is asked what, in bounded time, and what is shown of it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import trio
from rich.console import Console

from hstore.cli.dns import doctor
from hstore.cli.dns.name_service import NameService
from hstore.cli.dns.observations import Check, Lookup, Result
from hstore.dns.probe import Told
from hstore.dns.records import Rcode, name_of
from hstore.node.errors import Refused

A = "127.0.0.1:8500"
HOSTS = frozenset({"127.0.0.1"})
WELL = Told(Rcode.NOERROR, HOSTS)


class Network:
    """What servers say, by server and first label of the name, and what getaddrinfo gives."""

    def __init__(self):
        self.asked = []
        self.told = {}
        self.lookup = Lookup(HOSTS)

    async def addresses(self, server, name, *, over_tcp=False):
        self.asked.append((server, name, over_tcp))
        label = name[0].decode()
        default = Told(Rcode.REFUSED) if name == name_of("example.com") else WELL
        told = self.told.get((server, label), default)
        return told.pop(0) if isinstance(told, list) else told

    def getaddrinfo(self, name):
        self.asked.append(name)
        return self.lookup


@pytest.fixture
def network(monkeypatch):
    fake = Network()
    monkeypatch.setattr("hstore.cli.dns.doctor.probe.addresses", fake.addresses)
    monkeypatch.setattr(doctor, "_getaddrinfo", fake.getaddrinfo)
    return fake


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "resolv.conf").write_text("nameserver 10.0.0.53\n")
    return tmp_path


def test_as_json_it_prints_the_checks(network, cluster, make, make_finder, root, capfd):
    cluster.set(A, "/v1/cluster", make.info())
    assert doctor.examine(None, make_finder([A]), root=root, as_json=True) == 0
    checks = json.loads(capfd.readouterr().out)
    assert {"check": "cluster 00000000000000c1", "result": "ok"}.items() <= checks[0].items()
    assert all(check.keys() == {"check", "result", "seen", "advice"} for check in checks)


@pytest.fixture
def examine(make_finder, root):
    def run(addresses=(A,), host=None):
        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            status = doctor.examine(host, make_finder(list(addresses)), root=root, console=console)
        return status, captured.get()

    return run


def test_each_node_each_resolver_and_getaddrinfo_are_asked(network, cluster, make, examine):
    cluster.set(A, "/v1/cluster", make.info())
    status, text = examine()
    assert status == 0
    assert "wrong" not in text
    leader, nodes = name_of("leader.hstore.local"), name_of("nodes.hstore.local")
    wanted: set[object] = {"leader.hstore.local", "nodes.hstore.local"}
    for port in (8600, 8601, 8602):
        server = ("127.0.0.1", port)
        wanted |= {(server, leader, False), (server, nodes, False), (server, leader, True)}
        wanted |= {(server, name_of("example.com"), False)}
    wanted |= {(("10.0.0.53", 53), leader, False), (("10.0.0.53", 53), nodes, False)}
    assert set(network.asked) == wanted
    assert len(network.asked) == len(wanted)


def test_without_a_leader_nobody_waits_for_its_name(network, cluster, make, examine):
    cluster.set(A, "/v1/cluster", make.info(leader=None))
    status, text = examine()
    assert status == 1
    assert "no leader" in text
    assert "wait until there is one, and get SERVFAIL after 2 s" in " ".join(text.split())
    names = {one if isinstance(one, str) else one[1] for one in network.asked}
    assert names == {"nodes.hstore.local", name_of("nodes.hstore.local"), name_of("example.com")}


def test_the_zone_of_the_cluster_is_the_one_that_is_asked_for(network, cluster, make, examine):
    cluster.set(A, "/v1/cluster", make.info(zone="kv.example"))
    assert examine()[0] == 0
    assert "leader.kv.example" in network.asked


def test_what_is_wrong_is_listed_with_what_to_do_and_the_status_is_1(
    network, cluster, make, examine
):
    cluster.set(A, "/v1/cluster", make.info())
    for label in ("leader", "nodes"):
        network.told[("10.0.0.53", 53), label] = Told(Rcode.NXDOMAIN)
    status, text = examine()
    assert status == 1
    words = " ".join(text.split())
    assert " resolver 10.0.0.53 wrong NXDOMAIN for leader.hstore.local " in words
    assert " resolver 10.0.0.53: NXDOMAIN for leader.hstore.local It has to forward " in words


def test_what_is_over_at_a_second_look_is_not_reported(network, cluster, make, examine, clock):
    cluster.set(A, "/v1/cluster", make.info())
    old = Told(Rcode.NOERROR, frozenset({"10.9.9.9"}))
    network.told[("10.0.0.53", 53), "leader"] = [old, WELL]
    status, text = examine()
    assert (status, "wrong" in text) == (0, False)
    assert clock.now() >= 1

    network.told[("10.0.0.53", 53), "leader"] = old
    assert examine()[0] == 1


def test_where_no_node_answers_the_status_is_3_and_the_resolvers_are_asked_all_the_same(
    network, examine
):
    status, text = examine([])
    assert status == 3
    assert "no node was reached" in text
    assert "no cluster of zone hstore.local was found" in text
    assert (("10.0.0.53", 53), name_of("leader.hstore.local"), False) in network.asked


def test_a_node_that_is_named_and_does_not_answer_is_status_3(network, examine):
    assert examine([], host=A)[0] == 3


def test_a_zone_that_is_none_is_refused(network, cluster, make, examine):
    cluster.set(A, "/v1/cluster", make.info(zone="\x1b[2J"))
    with pytest.raises(Refused):
        examine()


def test_a_truncated_answer_is_asked_for_by_tcp(network, cluster, make, examine):
    cluster.set(A, "/v1/cluster", make.info())
    network.told[("10.0.0.53", 53), "nodes"] = replace(WELL, truncated=True)
    assert examine()[0] == 0
    assert (("10.0.0.53", 53), name_of("nodes.hstore.local"), True) in network.asked


async def test_a_getaddrinfo_that_hangs_holds_up_nobody(network, monkeypatch, autojump_clock):
    asked, end = threading.Event(), threading.Event()

    def hang(_name):
        asked.set()
        end.wait(30)
        return Lookup(HOSTS)

    monkeypatch.setattr(doctor, "_getaddrinfo", hang)
    began = trio.current_time()
    seen = await doctor.observe("hstore.local", None, "none", NameService(("10.0.0.53",)))
    assert asked.wait(5)
    end.set()
    assert seen.lookups["leader"].problem == "no answer within 3 s"
    assert trio.current_time() - began == doctor.LOOKUP_S


async def test_systemd_is_asked_only_where_it_resolves_names(network, monkeypatch):
    commands = []

    async def output(*command):
        commands.append(command[0])
        return {"systemctl": "systemd 245\n", "resolvectl": "Global: ~hstore.local\n"}[command[0]]

    monkeypatch.setattr(doctor, "_output", output)
    seen = await doctor.observe("hstore.local", None, "", NameService(("10.0.0.53",)))
    assert (commands, seen.systemd_version, seen.routes) == ([], None, "")
    seen = await doctor.observe("hstore.local", None, "", NameService(("127.0.0.53",)))
    assert (seen.systemd_version, seen.routes) == (245, "Global: ~hstore.local\n")


async def test_a_program_that_is_not_there_or_hangs_says_nothing(autojump_clock):
    assert await doctor._output("hstore-no-such-program") == ""
    assert await doctor._output("sleep", "1000") == ""


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("systemd 252 (252.39-1~deb12u2)\n+PAM", 252),
        ("systemd 245\n", 245),
        ("", None),
        ("x", None),
    ],
)
def test_the_version_of_systemd_is_read(output, version):
    assert doctor.systemd_version(output) == version


@pytest.mark.parametrize("width", [40, 100])
def test_a_table_has_a_line_for_each_check_and_below_it_what_to_do(width):
    checks = [
        Check("resolver 10.0.0.53", Result.OK, "10.0.0.1"),
        Check("getaddrinfo leader.kv.example", Result.WRONG, "no [red]x[/red]", "Do this."),
    ]
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(doctor.drawn(checks))
    text = captured.get()
    assert text.endswith("[red]x[/red]\n  Do this." + " " * (width - 10) + "\n")
    assert max(map(len, text.splitlines())) <= width
