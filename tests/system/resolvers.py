"""A cluster, and every resolver and proxy that `hstore dns setup` knows and that is installed here.

All are on one machine of their own (`machine.py`), each set up by what the command prints and by
nothing else. The nodes have addresses beyond loopback, without which systemd-resolved answers
nothing. `outages.py` measures through them; tests and the benchmark say what is enough.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .cluster import Cluster, Node
from .machine import Machine

HOSTS = ("10.214.7.1", "10.214.7.2", "10.214.7.3")
"""The nodes' addresses; each has the default ports."""

FORWARD_ZONE = "unbound, forward-zone"
"""What is printed for unbound, with a forward-zone in the place of the stub-zone."""

PROGRAMS = {
    "unbound": "unbound",
    FORWARD_ZONE: "unbound",
    "dnsmasq": "dnsmasq",
    "bind": "named",
    "systemd-resolved": "/lib/systemd/systemd-resolved",
    "knot": "kresd",
}
"""The program of each resolver."""

PROXIES = {"haproxy": 8080, "nginx": 8081}
"""Where the proxies listen; the second has moved out of the way of the first."""

_PLACES = {
    "unbound": "127.0.0.11",
    FORWARD_ZONE: "127.0.0.12",
    # Also the resolver of the machine, which nginx asks.
    "dnsmasq": "127.0.0.1",
    "bind": "127.0.0.14",
    "systemd-resolved": "127.0.0.53",
    "knot": "127.0.0.15",
}


@dataclass(frozen=True, slots=True)
class House:
    """The cluster, its machine, and where the resolvers answer on port 53."""

    cluster: Cluster
    machine: Machine
    resolvers: Mapping[str, str]


def installed(programs: Mapping[str, str]) -> list[str]:
    """Return those of the systems whose program is here."""
    return [system for system, program in programs.items() if shutil.which(program)]


@contextmanager
def house(folder: Path, systems: Sequence[str], proxies: Sequence[str] = ()) -> Iterator[House]:
    """Give a healthy cluster with resolvers and proxies before it, from inside their network.

    Args:
        folder: Where all files go.
        systems: Keys of `PROGRAMS`.
        proxies: Keys of `PROXIES`; nginx needs dnsmasq among the systems.
    """
    with Machine(folder / "machine", HOSTS) as machine:
        with Cluster(folder, base=8500, prefix=machine.prefix) as cluster, machine.inside():
            cluster.nodes = [Node(cluster, 8500, host) for host in HOSTS]
            cluster.up()
            printed = _printed(cluster, {*systems, *proxies})
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda one: _serve(machine, one, printed[one]), systems))
            for proxy in proxies:
                text = printed[proxy].replace(":8080", f":{PROXIES[proxy]}")
                machine.haproxy(text) if proxy == "haproxy" else machine.nginx(text)
            yield House(cluster, machine, {system: _PLACES[system] for system in systems})
        cluster.assert_no_traceback()


def _printed(cluster: Cluster, systems: set[str]) -> dict[str, str]:
    """Have `hstore dns setup` print for each system, several at a time."""

    def run(system: str) -> str:
        said = cluster.hstore("dns", "setup", system, "-h", cluster.nodes[0].address)
        assert (said.status, said.err) == (0, ""), said
        return said.out

    names = systems - {FORWARD_ZONE}
    with ThreadPoolExecutor(4) as pool:
        printed = dict(zip(names, pool.map(run, names), strict=True))
    if FORWARD_ZONE in systems:
        printed[FORWARD_ZONE] = printed.get("unbound") or run("unbound")
    return printed


def _serve(machine: Machine, system: str, text: str) -> None:
    host = _PLACES[system]
    if system == FORWARD_ZONE:
        machine.unbound(host, re.sub(r"\bstub-(?=zone|addr|no-cache)", "forward-", text))
    elif system == "unbound":
        machine.unbound(host, text)
    elif system == "dnsmasq":
        machine.dnsmasq(host, text)
    elif system == "bind":
        # What the comment has for the options of BIND.
        options = re.findall(r"validate-except \{.*?\}(?=;)|servfail-ttl \d+(?=;)", text)
        machine.bind(host, text, *options)
    elif system == "knot":
        machine.knot(host, text)
    else:
        machine.resolved(text)
