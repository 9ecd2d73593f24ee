"""DNS answers a second of one core: a node of hstore and dnsmasq, both asked by dnsperf.

The server's threads stay on one core and dnsperf on another. A node answers from a cluster of three
that lives; dnsmasq has the same names. How busy the server's core was says whether it was the
server that was measured.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from hstore.dns.client import NoAnswer, ask
from hstore.dns.records import RRType, name_of
from tests.system.cluster import eventually
from tests.system.place import DNS_OFFSET, free_base

from .machine import program
from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, output, pin, running
from .rows import Row, paired
from .systems import Hstore

A, SRV = "DNS A, one core: answers per second", "DNS SRV, one core: answers per second"
LABELS = ("hstore", "dnsmasq")

_SERVER_CORE, _CLIENT_CORE = 0, 1
_ZONE = "hstore.local"
_QUESTIONS = {A: f"leader.{_ZONE} A", SRV: f"_hstore._tcp.{_ZONE} SRV"}
# More under way overflow the receive buffer of a socket while its reader waits for a turn.
_LOAD = ("-e", "-c", "8", "-q", "100", "-T", "1")


def by_processor_time(name: str) -> str:
    """Name the row beside one of those: targets refer to it by this."""
    return f"{name} of the server's processor time"


@dataclass(frozen=True, slots=True)
class _Server:
    """A DNS server: its port and its process."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class _Found:
    """One run: answers a second, how much of its core the server used, and why it is void."""

    per_second: float
    busy: float
    void: str

    @property
    def per_busy_second(self) -> float:
        """Answers per second of the server's processor time."""
        return self.per_second / self.busy


def dns(plan: Plan) -> Rows:
    """Questions for an address and for services, of names that both know."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Failed("server and client need a core each, and there is only one")
    place = plan.folder / "dns"
    with Hstore(place) as cluster, _dnsmasq(cluster.addresses, place) as theirs:
        leader = cluster.leader()
        ours = _Server("hstore", _dns_port(leader), cluster.pid(leader))
        for address in cluster.addresses:
            pin(cluster.pid(address), _SERVER_CORE if address == leader else _CLIENT_CORE)
        for name, question in _QUESTIONS.items():
            data = place / "question"
            data.write_text(question + "\n")
            pairs = []
            for number in range(plan.pairs + 1):
                both = _ask_many(ours, data, plan.seconds), _ask_many(theirs, data, plan.seconds)
                if number:
                    pairs.append(both)
            yield from _rows(name, pairs)
    shutil.rmtree(place, ignore_errors=True)


def _rows(name: str, pairs: list[tuple[_Found, _Found]]) -> Iterator[Row]:
    busy = [statistics.median(found.busy for found in one) for one in zip(*pairs, strict=True)]
    void = next((found.void for pair in pairs for found in pair if found.void), "")
    note = (
        f"{name}: hstore used {busy[0]:.0%} of its core, dnsmasq {busy[1]:.0%}; where a server is "
    )
    note += "not busy, it was dnsperf that was measured, and its processor time says more."
    row = paired(name, "", [(a.per_second, b.per_second) for a, b in pairs], void=void, note=note)
    yield replace(row, labels=LABELS)
    by_time = [(a.per_busy_second, b.per_busy_second) for a, b in pairs]
    yield replace(paired(by_processor_time(name), "", by_time, void=void), labels=LABELS)


def _dns_port(address: str) -> int:
    return int(address.rpartition(":")[2]) + DNS_OFFSET


@contextmanager
def _dnsmasq(addresses: Sequence[str], folder: Path) -> Iterator[_Server]:
    """Run dnsmasq with the names of a cluster, on one core and without anybody to ask."""
    port = free_base(1)
    command = [
        *(program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file"),
        *(f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
        *("--no-resolv", "--no-hosts", f"--user={getpass.getuser()}"),
        f"--host-record=leader.{_ZONE},127.0.0.1",
    ]
    for number, address in enumerate(addresses, start=1):
        node = f"n{number}.node.{_ZONE}"
        api_port = address.rpartition(":")[2]
        command += [f"--host-record={node},127.0.0.1"]
        command += [f"--srv-host=_hstore._tcp.{_ZONE},{node},{api_port}"]
    log = folder / "dnsmasq.log"
    with running(command, log) as process:

        def is_up() -> bool:
            if process.poll() is not None:
                raise Failed(f"dnsmasq ended: {log.read_text()[-200:].strip()}")
            return _answers(port)

        eventually(is_up, "dnsmasq answers")
        pin(process.pid, _SERVER_CORE)
        yield _Server("dnsmasq", port, process.pid)


def _answers(port: int) -> bool:
    try:
        reply = trio.run(ask, "127.0.0.1", port, name_of(f"leader.{_ZONE}"), RRType.A)
    except NoAnswer:
        return False
    return bool(reply.answers)


def _ask_many(server: _Server, data: Path, seconds: float) -> _Found:
    command = [
        *("taskset", "--cpu-list", str(_CLIENT_CORE), program("dnsperf"), "-s", "127.0.0.1"),
        *("-p", str(server.port), "-d", str(data), "-l", str(round(seconds)), *_LOAD),
    ]
    before = cpu_seconds(server.pid)
    said = parse(output(command, seconds + 30))
    busy = (cpu_seconds(server.pid) - before) / said.seconds
    return _Found(said.per_second, busy, f"{server.name}: {said.void}" if said.void else "")


@dataclass(frozen=True, slots=True)
class Said:
    """What dnsperf counted in one run."""

    per_second: float
    seconds: float
    void: str


def parse(text: str) -> Said:
    """Read what dnsperf wrote; a lost question or an answer that is an error makes it void.

    Raises:
        Failed: it is not what dnsperf writes.
    """
    figures = {
        name.strip(): value
        for name, value in re.findall(r"^ +([\w ]+?)(?: \(s\))?: +(.*)$", text, re.MULTILINE)
    }
    try:
        per_second = float(figures["Queries per second"])
        seconds = float(figures["Run time"])
        lost = int(figures["Queries lost"].split()[0])
        codes = figures["Response codes"]
    except (KeyError, ValueError) as error:
        raise Failed(f"dnsperf gave no figures: {text.strip()[-200:]}") from error
    errors = [code for code in codes.split(", ") if not code.startswith("NOERROR ")]
    why = ([f"{lost} questions lost"] if lost else []) + errors
    return Said(per_second, seconds, ", ".join(why))
