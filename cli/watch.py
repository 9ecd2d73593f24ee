"""Following a cluster as it changes, from one node to the next when the watched one ends.

`follow` yields what was seen; `show` puts it on a terminal that is redrawn, or as lines where there
is none. What a cluster looks like is in `tables.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hstore.node.cluster import ClusterInfo
from hstore.node.errors import HstoreError, Unavailable

from . import tables
from .client import STALL_TIMEOUT_S, Unreachable
from .find import live_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .clock import Clock
    from .find import Connect

GIVE_UP_S = 30.0
"""How long no node at all may answer, in seconds, before a watch ends: all may be restarting."""

# After all of them were silent, and from one to the next: a node that goes away takes its followers
# with it at the same moment, and they must not run in circles.
_PAUSE_S = 0.2
_PAUSE_BETWEEN_S = 0.02


class Lost(NamedTuple):
    """The watched node does not answer any more; another one is looked for."""

    address: str
    reason: str


Sighting = ClusterInfo | Lost


def follow(addresses: Iterable[str], connect: Connect, clock: Clock) -> Iterator[Sighting]:
    """Yield the cluster now and at each change, from the first of the nodes that answers.

    Args:
        addresses: API addresses to begin with.
        connect: Makes clients.
        clock: The time.

    Raises:
        Unreachable: No node has answered for `GIVE_UP_S`, or none did at the beginning.
    """
    known = list(dict.fromkeys(addresses))
    failure: HstoreError = Unreachable("there is no node to watch")
    heard_at: float | None = None
    silent = 0
    while known:
        address = known[0]
        try:
            with connect(address, STALL_TIMEOUT_S) as client:
                for info in client.events():
                    heard_at, silent = clock.now(), -1
                    known = _next(known, info, address)
                    yield info
        except (Unreachable, Unavailable) as error:
            failure = error
        silent += 1
        if silent:
            known = [*known[1:], address]
        if heard_at is None:
            if silent == len(known):
                raise failure
            continue
        yield Lost(address, str(failure))
        if clock.now() - heard_at > GIVE_UP_S:
            raise failure
        clock.sleep(_PAUSE_S if silent >= len(known) else _PAUSE_BETWEEN_S)
    raise failure


def show(
    sightings: Iterable[Sighting],
    console: Console,
    *,
    as_json: bool = False,
    footer: Callable[[ClusterInfo], RenderableType] | None = None,
) -> None:
    """Show what `follow` yields until it ends or is interrupted.

    Args:
        sightings: From `follow`.
        console: Where to; what it says about terminal, width and colour is obeyed.
        as_json: Print each `/v1/cluster` object in a line instead.
        footer: What to show below the live table.
    """
    if as_json:
        for sighting in sightings:
            if isinstance(sighting, ClusterInfo):
                write_line(console, msgspec.json.encode(sighting).decode())
    elif console.is_terminal:
        _show_live(sightings, console, footer)
    else:
        for line in lines(sightings):
            write_line(console, line)


def lines(sightings: Iterable[Sighting]) -> Iterator[str]:
    """Yield a line for each change."""
    before: ClusterInfo | None = None
    for sighting in sightings:
        if isinstance(sighting, ClusterInfo):
            yield from tables.changes(before, sighting)
            before = sighting


def write_line(console: Console, line: str) -> None:
    """Write a line as it is, at once: no wrapping, no markup, whoever reads it may be a program."""
    console.file.write(line + "\n")
    console.file.flush()


def _show_live(
    sightings: Iterable[Sighting],
    console: Console,
    footer: Callable[[ClusterInfo], RenderableType] | None,
) -> None:
    info: ClusterInfo | None = None
    note = Text("waiting for the first answer", style="dim")
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for sighting in sightings:
            if isinstance(sighting, ClusterInfo):
                info, note = sighting, Text("")
            else:
                note = Text(sighting.reason, style="yellow")
            parts: list[RenderableType] = []
            if info:
                parts.append(tables.cluster_view(info, console.width))
                if footer is not None:
                    parts.append(footer(info))
            if note.plain:
                parts.append(note)
            live.update(Group(*parts), refresh=True)


def _next(known: list[str], info: ClusterInfo, current: str) -> list[str]:
    """Return whom to ask when `current` ends: the others that live, the rest, itself last."""
    order = [*live_addresses(info), *(node.address for node in info.nodes), *known]
    return [*(one for one in dict.fromkeys(order) if one != current), current]
