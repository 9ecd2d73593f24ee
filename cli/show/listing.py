"""`hstore list`: print a cluster once, or follow it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from hstore.node.errors import HstoreError

from ..client.plain import plain, plain_json
from ..messages import tell
from ..streams import ending_with_reader
from . import tables
from .watch import follow, show, write_line

if TYPE_CHECKING:
    from ..search.find import Connect, Finder, Found

_ANSWER_S = 2.0


def terminal() -> Console:
    """Return standard output as a console, which is a terminal only if the file is one.

    By itself rich obeys FORCE_COLOR, and would send escape codes and a live picture into a pipe.
    """
    return Console(force_terminal=sys.stdout.isatty())


def show_once(
    found: Found,
    connect: Connect | None = None,
    *,
    as_json: bool = False,
    console: Console | None = None,
) -> int:
    """Print a cluster; return 1 when it has no leader, else 0.

    Args:
        found: The cluster, and the node that showed it.
        connect: Makes a client, to ask that node why it has no leader; None: it is not asked.
        as_json: Print the `/v1/cluster` object.
        console: Where to.
    """
    console = console or terminal()
    info = found.info
    if as_json:
        write_line(console, plain_json(msgspec.json.encode(info).decode()))
    elif console.is_terminal:
        console.print(tables.cluster_view(info, console.width))
    else:
        # Programs read this: one line for a node, never folded, no spaces at the end.
        width = max(console.width, tables.natural_width(info))
        wide = Console(width=width + tables.reason_width(info), color_system=None)
        with wide.capture() as captured:
            wide.print(tables.node_table(info, width, with_reasons=True))
        for line in captured.get().splitlines():
            write_line(console, line.rstrip())
    if info.waiting_for:
        voters = sum(node.voter for node in info.nodes)
        tell(
            f"hstore: the cluster waits for {info.waiting_for} nodes, of which {voters} "
            f"{'has' if voters == 1 else 'have'} joined, and names no leader until then: "
            "`hstore join` adds a node",
            is_error=True,
        )
        return 1
    if info.leader is None:
        tell(f"hstore: {_why(found, connect)}", is_error=True)
        return 1
    return 0


def _why(found: Found, connect: Connect | None) -> str:
    """Return why a node has no leader, as it says itself if it answers."""
    why = None
    if connect is not None:
        with contextlib.suppress(HstoreError), connect(found.address, _ANSWER_S) as client:
            why = client.unhealthy()
    quorum = found.info.quorum
    if why:
        return plain(f"the node at {found.address} says: {why}")
    voters = f"{quorum} live voter{'s' * (quorum != 1)}"
    return (
        f"the cluster has no leader, says the node at {found.address}: electing one takes {voters}"
    )


def watch(
    finder: Finder, addresses: list[str], *, as_json: bool = False, console: Console | None = None
) -> int:
    """Show a cluster and its changes until it is interrupted, or the user presses q; return 0.

    Args:
        finder: Makes clients, and finds the cluster when no known node answers.
        addresses: API addresses of its nodes, the best first.
        as_json: Print each `/v1/cluster` object as a line instead.
        console: Where to.

    Raises:
        Unreachable: No node answers, at the beginning or for long.
    """
    sightings = follow(addresses, finder.connect, finder.clock, finder.find)
    with ending_with_reader():
        show(sightings, console or terminal(), as_json=as_json)
    return 0
