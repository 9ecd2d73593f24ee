"""How many DNS queries a second one core answers: `python tests/bench/dns_answers.py [SECONDS]`.

Prints medians of several runs: of `Answers.reply` alone, and of the whole UDP server as dnsperf
(which has to be installed) sees it. The server has a process of its own, whose processor time is
counted as well: answers per second of it say what one core can do, also where others use the cores.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from hstore.dns.answers import Answers
from hstore.dns.records import RRType, name_of
from hstore.dns.server import DnsServer
from hstore.dns.view import ClusterView, Member
from hstore.dns.wire import pack_question

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

RUNS = 5
QUERIES_ALONE = 100_000

QUESTIONS = {
    "leader A": [("leader.hstore.local", "A")],
    "_hstore._tcp SRV": [("_hstore._tcp.hstore.local", "SRV")],
    "a mix": [
        ("leader.hstore.local", "A"),
        ("leader.hstore.local", "AAAA"),
        ("leader.hstore.local", "TXT"),
        ("nodes.hstore.local", "A"),
        ("_hstore._tcp.hstore.local", "SRV"),
        ("n2.node.hstore.local", "A"),
    ],
    "absent names": [("absent.hstore.local", "A")],
    "other zones": [("example.com", "A")],
}


def three_nodes() -> ClusterView:
    """A cluster as it stands most of the time."""
    members = tuple(
        Member(f"n{i}", f"{i:016x}", f"10.0.0.{i}", 8499 + i, 8299 + i, live=True, voter=True)
        for i in (1, 2, 3)
    )
    return ClusterView("hstore.local", 1, 1, 7, "n1", "n1", members)


def alone(questions: list[tuple[str, str]]) -> float:
    """Answers per second without any sockets."""
    answers = Answers()
    answers.view = three_nodes()
    packets = [pack_question(name_of(name), RRType[rtype], 1) for name, rtype in questions]
    start = time.perf_counter()
    for _ in range(QUERIES_ALONE // len(packets)):
        for packet in packets:
            answers.reply(packet)
    return QUERIES_ALONE / (time.perf_counter() - start)


def serve(parent: Connection) -> None:
    """Serve until the process is ended; tell the port."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    udp.bind(tcp.getsockname())
    server = DnsServer(udp, tcp)
    server.view = three_nodes()
    parent.send(udp.getsockname()[1])
    trio.run(server.run)


def by_dnsperf(port: int, questions: list[tuple[str, str]], seconds: int) -> float:
    """Answers per second that dnsperf counts; it keeps up to 200 queries in flight."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "queries")
        data.write_text("".join(f"{name} {rtype}\n" for name, rtype in questions))
        command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(data)]
        command += ["-l", str(seconds), "-c", "8", "-q", "200", "-e"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Queries per second:\s+([\d.]+)", said)
    assert found is not None, said
    assert "(0.00%)" in said, said
    return float(found[1])


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and kernel mode (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def served(pid: int, port: int, questions: list[tuple[str, str]], seconds: int) -> list[float]:
    """Answers per second of time, and of the server's processor time."""
    before = cpu_seconds(pid)
    rate = by_dnsperf(port, questions, seconds)
    return [rate, rate * seconds / (cpu_seconds(pid) - before)]


def main() -> None:
    """Measure and print."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        port = ours.recv()
        print(f"answers per second, median of {RUNS} (EDNS, 3 nodes)")
        for what, questions in QUESTIONS.items():
            pure = statistics.median(alone(questions) for _ in range(RUNS))
            runs = [served(process.pid or 0, port, questions, seconds) for _ in range(RUNS)]
            by_udp, by_cpu = (statistics.median(one) for one in zip(*runs, strict=True))
            print(
                f"{what:18} alone {pure:9,.0f}   by UDP {by_udp:8,.0f}"
                f" (per second of the server's processor time {by_cpu:8,.0f})"
            )
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    main()
