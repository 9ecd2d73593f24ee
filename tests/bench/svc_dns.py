"""DNS answers about 1,000 services of five instances, one core: hstore beside BIND and dnsmasq.

    python -m tests.bench.svc_dns [SECONDS [PAIRS]]

Each server has the same names and records: `svc-N.service.hstore.local` with five SRV records and five
addresses, and beside the SRV records the addresses of their hosts. dnsperf asks for names at random,
with EDNS, SRV and A apart, and each server stays on one core while dnsperf has another. Answers a
second of the server's processor time say what one core can do where dnsperf is the slower of both.

Our server is the one of a node, in a process that has nothing else to do, with the services in a
dictionary: what is measured is the answering of DNS, as it is of the others.
"""

from __future__ import annotations

import gc
import getpass
import random
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hstore.dns.client import NoAnswer, ask
from hstore.dns.records import RRType, name_of
from hstore.dns.server import DnsServer
from hstore.dns.view import ClusterView, Member
from tests.fakes.lookup import FakeLookup, instance
from tests.system.cluster import eventually
from tests.system.place import free_base

from .machine import program
from .names import parse
from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, output, pin, running
from .rows import Row, Target, paired

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SERVICES = 1_000
INSTANCES = 5
ZONE = "hstore.local"
TYPES = ("SRV", "A")

_SERVER_CORE, _CLIENT_CORE = 0, 1
_LOAD = ("-e", "-c", "8", "-q", "100", "-T", "1")


def row_name(rtype: str, peer: str) -> str:
    """Name a row: targets refer to it by this."""
    return f"DNS {rtype} of {SERVICES:,} services beside {peer}: answers per second"


def by_processor_time(name: str) -> str:
    """Name the row beside one of those."""
    return f"{name} of the server's processor time"


TARGETS = tuple(
    Target(
        f"{row_name(rtype, peer)} of its processor time",
        f"{peer}: at least {least}",
        (by_processor_time(row_name(rtype, peer)),),
        least=least,
    )
    for peer, rtype, least in (
        ("BIND", "SRV", 1.3),
        ("BIND", "A", 0.8),
        ("dnsmasq", "SRV", 8.0),
        ("dnsmasq", "A", 4.0),
    )
)


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class _Found:
    """One run: answers a second, and a second of the server's processor time; why it is void."""

    per_second: float
    per_busy_second: float
    void: str


def svc_dns(plan: Plan) -> Rows:
    """Measure all three in turns."""
    folder = plan.folder / "svc-dns"
    folder.mkdir()
    with ExitStack() as stack:
        ours = stack.enter_context(_ours())
        peers = [stack.enter_context(_bind(folder)), stack.enter_context(_dnsmasq(folder))]
        for rtype in TYPES:
            data = folder / f"questions-{rtype}"
            names = random.Random(1).choices(range(SERVICES), k=20_000)
            data.write_text("".join(f"svc-{number}.service.{ZONE} {rtype}\n" for number in names))
            runs = []
            for number in range(plan.pairs + 1):
                run = [_ask_many(server, data, plan.seconds) for server in (ours, *peers)]
                if number:
                    runs.append(run)
            for at, peer in enumerate(peers, start=1):
                pairs = [(run[0], run[at]) for run in runs]
                yield from _rows(row_name(rtype, peer.name), peer.name, pairs)


def _rows(name: str, peer: str, pairs: list[tuple[_Found, _Found]]) -> Iterator[Row]:
    void = next((found.void for pair in pairs for found in pair if found.void), "")
    by_time = [(a.per_second, b.per_second) for a, b in pairs]
    by_cpu = [(a.per_busy_second, b.per_busy_second) for a, b in pairs]
    for title, figures in ((name, by_time), (by_processor_time(name), by_cpu)):
        row = paired(title, "", figures, void=void)
        yield Row(row.name, row.unit, row.ours, row.theirs, ("hstore", peer), row.void, row.note)


def _ask_many(server: _Server, data: Path, seconds: float) -> _Found:
    command = [
        *("taskset", "--cpu-list", str(_CLIENT_CORE), program("dnsperf"), "-s", "127.0.0.1"),
        *("-p", str(server.port), "-d", str(data), "-l", str(round(seconds)), *_LOAD),
    ]
    before = cpu_seconds(server.pid)
    said = parse(output(command, seconds + 30))
    busy = (cpu_seconds(server.pid) - before) / said.seconds
    void = f"{server.name}: {said.void}" if said.void else ""
    return _Found(said.per_second, said.per_second / busy, void)


def _hosts(number: int) -> list[tuple[str, str, int]]:
    """Return host name, address and port of each instance of a service."""
    found = []
    for one in range(1, INSTANCES + 1):
        packed = bytes((10, one, number >> 8, number & 255))
        address = ".".join(map(str, packed))
        found.append((f"{packed.hex()}.addr.{ZONE}", address, 8000 + one))
    return found


@contextmanager
def _ours() -> Iterator[_Server]:
    """Run our server in a process of its own."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()  # Else nothing would say here that the process has ended.
    try:
        port = int(here.recv())
        assert process.pid is not None, "it was started"
        pin(process.pid, _SERVER_CORE)
        yield _Server("hstore", port, process.pid)
    finally:
        process.kill()
        process.join()


def _serve(parent: Connection) -> None:
    """Serve until the process is ended; tell the port."""
    lookup = FakeLookup()
    for number in range(SERVICES):
        instances = [
            instance(one, address=address, port=port)
            for one, (_host, address, port) in enumerate(_hosts(number), start=1)
        ]
        lookup.put(f"svc-{number}".encode(), instances, ttl_s=1)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    udp.bind(tcp.getsockname())
    server = DnsServer(udp, tcp, lookup=lookup)
    member = Member("n1", f"{1:016x}", "127.0.0.1", 8500, 8300, live=True, voter=True)
    server.view = ClusterView(ZONE, 1, 1, 1, "n1", "n1", (member,))
    # As a node does (`node/process/main.py`).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    parent.send(udp.getsockname()[1])
    trio.run(server.run)


@contextmanager
def _bind(folder: Path) -> Iterator[_Server]:
    """Run BIND with a zone file of the same records, with one thread.

    As it comes, it leaves out the hosts' addresses beside SRV records where recursion is asked for, as
    dnsperf does.
    """
    port = free_base(1)
    home = folder / "bind"
    home.mkdir()
    lines = [
        "$TTL 1",
        f"@ IN SOA n1.node.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 1",
        f"@ IN NS n1.node.{ZONE}.",
        f"n1.node.{ZONE}. IN A 127.0.0.1",
        f"leader.{ZONE}. IN A 127.0.0.1",
    ]
    for number in range(SERVICES):
        for host, address, port_of in _hosts(number):
            lines.append(f"svc-{number}.service.{ZONE}. IN SRV 1 1 {port_of} {host}.")
            lines.append(f"svc-{number}.service.{ZONE}. IN A {address}")
            lines.append(f"{host}. IN A {address}")
    (home / "zone").write_text("\n".join(lines) + "\n")
    (home / "named.conf").write_text(
        f"""options {{
    directory "{home}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    allow-query {{ any; }}; querylog no;
}};
controls {{ }};
zone "{ZONE}" {{ type primary; file "zone"; }};
"""
    )
    command = [program("named"), "-g", "-n", "1", "-c", str(home / "named.conf")]
    with running(command, folder / "bind.log") as process:
        yield _up("BIND", process.pid, port, folder / "bind.log")


@contextmanager
def _dnsmasq(folder: Path) -> Iterator[_Server]:
    """Run dnsmasq with the same records."""
    port = free_base(1)
    lines = [
        *(f"port={port}", "listen-address=127.0.0.1", "bind-interfaces", "no-resolv", "no-hosts"),
        *(f"user={getpass.getuser()}", "local-ttl=1", "edns-packet-max=1232"),
        f"host-record=leader.{ZONE},127.0.0.1",
    ]
    for number in range(SERVICES):
        name = f"svc-{number}.service.{ZONE}"
        for host, address, port_of in _hosts(number):
            lines.append(f"srv-host={name},{host},{port_of},1,1")
            lines += [f"host-record={name},{address}", f"host-record={host},{address}"]
    config = folder / "dnsmasq.conf"
    config.write_text("\n".join(lines) + "\n")
    command = [program("dnsmasq"), "--keep-in-foreground", f"--conf-file={config}", "--pid-file"]
    with running(command, folder / "dnsmasq.log") as process:
        yield _up("dnsmasq", process.pid, port, folder / "dnsmasq.log")


def _up(name: str, pid: int, port: int, log: Path) -> _Server:
    """Wait until a server answers with all records, and keep it on its core."""

    def is_up() -> bool:
        try:
            reply = trio.run(ask, "127.0.0.1", port, name_of(f"svc-7.service.{ZONE}"), RRType.SRV)
        except NoAnswer:
            return False
        return len(reply.answers) == INSTANCES

    try:
        eventually(is_up, f"{name} answers")
    except AssertionError as error:
        raise Failed(f"{name} does not answer: {log.read_text()[-300:].strip()}") from error
    pin(pid, _SERVER_CORE)
    return _Server(name, port, pid)


def main() -> None:
    """Measure and print."""
    given = [float(one) for one in sys.argv[1:]]
    seconds, pairs = (*given, *(3.0, 3.0)[len(given) :])
    with tempfile.TemporaryDirectory(prefix="hstore-bench-") as name:
        plan = Plan(Path(name), pairs=int(pairs), seconds=seconds)
        for row in svc_dns(plan):
            ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
            print(f"{row.name:80} {ours:9,.0f} {theirs:9,.0f}  x {ours / theirs:.2f} {row.void}")


if __name__ == "__main__":
    main()
