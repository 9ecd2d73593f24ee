"""`hstore dns doctor`: where the names of a cluster resolve and where not, and why.

It asks each node's DNS server, the servers that /etc/resolv.conf names, and `getaddrinfo`, all at the
same time, and prints the checks of `diagnosis.py`. It changes nothing. It takes at most the time of
a search for the cluster, and twice the time of the queries.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hstore.dns import probe
from hstore.dns.probe import Told
from hstore.dns.records import Name, name_of
from hstore.node.model import values

from ..client.errors import Unreachable
from ..client.plain import plain, print_json
from . import diagnosis, name_service
from .observations import (
    FOREIGN,
    UNASKED,
    Check,
    Lookup,
    NodeSeen,
    Observations,
    ResolverSeen,
    Result,
)
from .setup import checked_zone

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

    from ..search.find import Finder

LOOKUP_S = 3.0
"""How long to wait for `getaddrinfo`, which may take minutes and cannot be interrupted."""

# For `systemctl --version` and `resolvectl domain`, which only read a socket or a file.
_PROGRAM_S = 1.0

# After this, an election and the TTL of an answer are over.
_SECOND_LOOK_S = 1.5

_DNS_PORT = 53
_DNS_NODES_MAX = 32
"""Nodes that are asked; each has four questions in flight at once."""

_WIDTH = 100
"""Of the output to a file or a pipe, which have no width."""

_STYLES = {Result.OK: "green", Result.WRONG: "red", Result.SKIPPED: "dim"}

T = TypeVar("T")


def examine(
    host: str | None,
    finder: Finder,
    *,
    root: Path = Path("/"),
    console: Console | None = None,
    as_json: bool = False,
) -> int:
    """Ask, print the checks with their advice, and return the exit status.

    Args:
        host: A node (`ADDR|NAME`); None: search for the cluster.
        finder: Finds it, and has the zone.
        root: The root folder of the machine's files.
        console: Where to print.
        as_json: Print a JSON array of the checks instead.

    Raises:
        Refused: There are two clusters.
    """
    look = partial(_look, host, finder, root)
    seen = look()
    checks = diagnosis.explain(seen)
    if seen.info is not None and any(check.may_pass for check in checks):
        # An election or an old answer in a cache is over at a second look.
        finder.clock.sleep(_SECOND_LOOK_S)
        seen = look()
        checks = diagnosis.explain(seen)
    if as_json:
        print_json([_as_object(one) for one in checks])
        return diagnosis.status(seen, checks)
    console = console or Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(drawn(checks))
    return diagnosis.status(seen, checks)


def _as_object(check: Check) -> dict[str, str]:
    return {
        "check": check.where,
        "result": check.result.value,
        "seen": check.detail,
        "advice": check.advice,
    }


def drawn(checks: Sequence[Check]) -> Group:
    """Return the table of the checks, and below it the advice for each that is wrong."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("CHECK", "RESULT", "SEEN"):
        table.add_column(title, overflow="fold")
    for check in checks:
        result = Text(check.result.value, _STYLES[check.result])
        table.add_row(Text(plain(check.where)), result, Text(plain(check.detail)))
    parts: list[Table | Text | Padding] = [table]
    for check in checks:
        if check.advice:
            heading = Text("\n" + plain(f"{check.where}: {check.detail}"))
            parts += [heading, Padding(Text(plain(check.advice, keep="\n")), (0, 2))]
    return Group(*parts)


async def observe(
    zone: str, info: ClusterInfo | None, problem: str, service: name_service.NameService
) -> Observations:
    """Ask all servers at once, and return their answers; takes a few seconds at most.

    Args:
        zone: A valid domain.
        info: The cluster; None: no node was reached.
        problem: Why not.
        service: What the files of the machine say.

    Cancellation: A `getaddrinfo` that hangs goes on in its thread, for which nothing waits.
    """
    apex = name_of(zone)
    members = [] if info is None else info.nodes[:_DNS_NODES_MAX]
    nodes, resolvers = _Several[NodeSeen](), _Several[ResolverSeen]()
    lookups, programs = _Several[Lookup](), _Several[str]()
    has_leader = info is None or info.leader is not None
    labels = ("leader", "nodes") if has_leader else ("nodes",)
    async with trio.open_nursery() as nursery:
        for node in members:
            nodes.start(nursery, partial(_ask_node, node, apex, labels))
        for address in service.nameservers:
            resolvers.start(nursery, partial(_ask_resolver, address, apex, labels))
        for label in labels:
            lookups.start(nursery, partial(_look_up, f"{label}.{zone}"))
        if service.is_resolved_asked:
            programs.start(nursery, partial(_output, "systemctl", "--version"))
            programs.start(nursery, partial(_output, "resolvectl", "--no-pager", "domain"))
    version, routes = programs.values() or ["", ""]
    return Observations(
        zone,
        info,
        problem,
        tuple(nodes.values()),
        tuple(resolvers.values()),
        dict(zip(labels, lookups.values(), strict=True)),
        service,
        systemd_version(version),
        routes,
    )


def systemd_version(output: str) -> int | None:
    """Return the version in the output of `systemctl --version`, e.g. `systemd 252 (252.39)`."""
    found = re.match(r"systemd (\d+)", output)
    return int(found[1]) if found else None


def _look(host: str | None, finder: Finder, root: Path) -> Observations:
    service = name_service.read(root)
    try:
        found = finder.find_at(host)
    except Unreachable as error:
        return trio.run(observe, finder.zone, None, str(error), service)
    return trio.run(observe, checked_zone(found), found.info, "", service)


class _Several(Generic[T]):
    """Results of tasks, in the order in which the tasks were started."""

    def __init__(self) -> None:
        self._found: dict[int, T] = {}
        self._started = 0

    def start(self, nursery: trio.Nursery, task: Callable[[], Awaitable[T]]) -> None:
        nursery.start_soon(self._run, self._started, task)
        self._started += 1

    async def _run(self, place: int, task: Callable[[], Awaitable[T]]) -> None:
        self._found[place] = await task()

    def values(self) -> list[T]:
        return [self._found[place] for place in range(self._started)]


async def _ask_node(node: NodeInfo, apex: Name, labels: Sequence[str]) -> NodeSeen:
    server = values.split_address(node.dns_address)
    told = _Several[Told]()
    names = _names(labels, apex)
    async with trio.open_nursery() as nursery:
        told.start(nursery, partial(probe.addresses, server, names[0], over_tcp=True))
        told.start(nursery, partial(probe.addresses, server, name_of(FOREIGN)))
        for name in names:
            told.start(nursery, partial(probe.addresses, server, name))
    by_tcp, foreign, *known = told.values()
    leader, nodes = known if len(known) > 1 else (UNASKED, *known)
    return NodeSeen(node, leader, nodes, by_tcp, foreign)


async def _ask_resolver(address: str, apex: Name, labels: Sequence[str]) -> ResolverSeen:
    told = _Several[Told]()
    server = (address, _DNS_PORT)
    async with trio.open_nursery() as nursery:
        for name in _names(labels, apex):
            told.start(nursery, partial(probe.addresses, server, name))
    known = told.values()
    leader, nodes = known if len(known) > 1 else (UNASKED, *known)
    if not (leader.truncated or nodes.truncated):
        return ResolverSeen(address, leader, nodes)
    by_tcp = await probe.addresses(server, (b"nodes", *apex), over_tcp=True)
    return ResolverSeen(address, leader, nodes, by_tcp)


def _names(labels: Sequence[str], apex: Name) -> list[Name]:
    return [(label.encode(), *apex) for label in labels]


async def _look_up(name: str) -> Lookup:
    began = trio.current_time()
    found = Lookup(problem=f"no answer within {LOOKUP_S:g} s")
    with trio.move_on_after(LOOKUP_S):
        # When the time is over, the thread is abandoned: getaddrinfo cannot be interrupted.
        found = await trio.to_thread.run_sync(_getaddrinfo, name, abandon_on_cancel=True)
    return Lookup(found.hosts, found.problem, trio.current_time() - began)


def _getaddrinfo(name: str) -> Lookup:
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return Lookup(problem=error.strerror or str(error))
    return Lookup(frozenset(str(row[4][0]) for row in rows))


async def _output(*command: str) -> str:
    """Return the output of a program; empty if it is not there, fails or takes too long."""
    with trio.move_on_after(_PROGRAM_S):
        try:
            done = await trio.run_process(
                command,
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                deliver_cancel=_end,
            )
        except OSError:
            return ""
        return done.stdout.decode(errors="replace")
    return ""


async def _end(process: trio.Process) -> None:
    """Kill the program: it only reads, so it has nothing to tidy up."""
    process.kill()
