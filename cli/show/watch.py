"""Following a cluster as it changes, from one node to the next when the watched one ends.

`follow` yields what the watched node says; `show` draws that on a terminal, or prints it as lines.
What a cluster looks like is in `tables.py` and `picture.py`, how a terminal is redrawn in `screen.py`.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.console import Console, Group, RenderableType
from rich.text import Text

from hstore.node.errors import HstoreError, Unavailable
from hstore.node.model.cluster_info import ClusterInfo

from ..client.api import STALL_TIMEOUT_S, NodeClient
from ..client.errors import Unreachable
from ..client.plain import plain, plain_json
from ..search.find import live_addresses
from . import tables
from .picture import Event, Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..search.clock import Clock
    from ..search.find import Connect, Found

GIVE_UP_S = 30.0
"""How long a watch goes on without any node that answers, in seconds: all may be restarting."""

# Before the next round, when no node answered, and before the next node: many watches lose a node
# at the same moment, and must not flood the others.
_PAUSE_S = 0.2
_PAUSE_BETWEEN_S = 0.02

# Addresses of former members are kept as a last resort; this many are enough.
_KNOWN_MAX = 64


_EVENTS_MAX = 200
"""Events that a live picture remembers: more than a terminal has lines."""


def local_time() -> datetime:
    """Return the time of day of this machine."""
    return datetime.now(UTC).astimezone()


class Lost(NamedTuple):
    """The watched node does not answer any more; the watch tries another one."""

    address: str
    reason: str


class Leaderless(NamedTuple):
    """The watched node's reason for having no leader; comes after the cluster without one."""

    address: str
    reason: str


Sighting = ClusterInfo | Lost | Leaderless


def follow(
    addresses: Iterable[str],
    connect: Connect,
    clock: Clock,
    find: Callable[[], Found] | None = None,
) -> Iterator[Sighting]:
    """Yield the cluster now and at each change, from the first of the nodes that answers.

    Args:
        addresses: API addresses to begin with.
        connect: Makes clients.
        clock: The time.
        find: Searches for the cluster when no known member answers.

    Raises:
        Unreachable: No node has answered for `GIVE_UP_S`, or none did at the beginning.
    """
    known = list(dict.fromkeys(addresses))
    failure: HstoreError = Unreachable("there is no node to watch")
    cluster_id: str | None = None
    heard_at, silent = 0.0, 0
    while known:
        address = known[0]
        try:
            with connect(address, STALL_TIMEOUT_S) as client:
                for sighting in _sightings(client, cluster_id):
                    if isinstance(sighting, ClusterInfo):
                        heard_at, silent = clock.now(), -1
                        known, cluster_id = _next(known, sighting, address), sighting.cluster_id
                    yield sighting
        except (Unreachable, Unavailable) as error:
            failure = error
        silent += 1
        if silent:
            known = [*known[1:], address]
        if cluster_id is None:
            if silent == len(known):
                raise failure
            continue
        yield Lost(address, str(failure))
        if clock.now() - heard_at > GIVE_UP_S:
            raise failure
        clock.sleep(_PAUSE_S if silent >= len(known) else _PAUSE_BETWEEN_S)
        if silent and silent % len(known) == 0:
            known = _and_found(known, cluster_id, find)
    raise failure


def _sightings(client: NodeClient, cluster_id: str | None) -> Iterator[ClusterInfo | Leaderless]:
    """Yield what one node says, as long as it belongs to the watched cluster."""
    for info in client.events():
        if cluster_id not in {None, info.cluster_id}:
            raise Unreachable(
                f"{client.address} is a node of another cluster now, {info.cluster_id}; "
                f"the watched cluster is {cluster_id}"
            )
        yield info
        if info.leader is None:
            reason = client.unhealthy()
            if reason is not None:
                yield Leaderless(client.address, reason)


def _and_found(known: list[str], cluster_id: str, find: Callable[[], Found] | None) -> list[str]:
    """Return the addresses to try when none has answered: first those of a new search."""
    if find is None:
        return known
    try:
        found = find()
    except HstoreError:
        return known  # no cluster is found, or several: the known nodes may come back
    if found.info.cluster_id != cluster_id:
        return known
    return _next(known, found.info, known[-1])


def show(
    sightings: Iterable[Sighting],
    console: Console,
    *,
    as_json: bool = False,
    footer: Callable[[ClusterInfo], RenderableType] | None = None,
    end: str = "ends it",
    now: Callable[[], datetime] = local_time,
) -> None:
    """Show what `follow` yields until it ends, the user presses q, or it is interrupted.

    On a terminal that is a picture. Elsewhere it is a line for each change, with the time before it.

    Args:
        sightings: From `follow`.
        console: Where to, and whether that is a terminal, its width and its colours.
        as_json: Print each `/v1/cluster` object as a line instead, with the member `time` before the
            others.
        footer: Returns what to show below the live table.
        end: What the key q does, for the last line of the picture.
        now: Returns the time of day.
    """
    if as_json:
        for sighting in sightings:
            if isinstance(sighting, ClusterInfo):
                stamped = f'{{"time":"{stamp(now())}",' + msgspec.json.encode(sighting).decode()[1:]
                write_line(console, plain_json(stamped))
    elif console.is_terminal and not console.is_dumb_terminal:
        from .screen import show_live  # rich's live display, which `hstore list` does not need

        show_live(sightings, console, _Live(console, footer, end, now))
    else:
        for line in lines(sightings):
            write_line(console, f"{stamp(now())} {line}")


def lines(sightings: Iterable[Sighting]) -> Iterator[str]:
    """Yield a line for each change."""
    told = _Changes()
    for sighting in sightings:
        if not isinstance(sighting, Lost):
            yield from told.of(sighting)


class _Changes:
    """Tells what has changed since the last sighting."""

    def __init__(self) -> None:
        self._before: ClusterInfo | None = None
        self._reason = ""

    def of(self, sighting: ClusterInfo | Leaderless) -> list[str]:
        """Return a line for each change."""
        if isinstance(sighting, ClusterInfo):
            changes = tables.changes(self._before, sighting)
            self._before = sighting
            self._reason = "" if sighting.leader else self._reason
            return changes
        if sighting.reason == self._reason:
            return []
        self._reason = sighting.reason
        return [f"cluster: {_told(sighting)}"]


def stamp(time: datetime) -> str:
    """Return a time as it stands before a line: ISO 8601, in seconds, with the distance to UTC."""
    return time.isoformat(timespec="seconds")


def write_line(console: Console, line: str) -> None:
    """Write a line at once, without wrapping or markup: its reader may be a program."""
    console.file.write(line + "\n")
    console.file.flush()


class _Live:
    """What a live picture shows, from one sighting to the next."""

    def __init__(
        self,
        console: Console,
        footer: Callable[[ClusterInfo], RenderableType] | None,
        end: str,
        now: Callable[[], datetime],
    ) -> None:
        self._console = console
        self._footer = footer
        self._end = end
        self._now = now
        self._info: ClusterInfo | None = None
        self._as_of = ""
        self._note = Text("waiting for the first answer", style="dim")
        self._changes = _Changes()
        self._events: deque[Event] = deque(maxlen=_EVENTS_MAX)

    def take(self, sighting: Sighting) -> None:
        """Take what was seen into the picture."""
        time = f"{self._now():%H:%M:%S}"
        is_first = self._info is None
        said: list[str] = []
        if isinstance(sighting, ClusterInfo):
            said = self._changes.of(sighting)
        elif isinstance(sighting, Lost):
            said = [_told(sighting)]
        if not is_first:  # what was there at the beginning has not happened
            self._events += [Event(time, one) for one in said]
        if isinstance(sighting, ClusterInfo):
            if self._info is None or sighting.leader or self._info.leader:
                self._note = Text("")  # the reason for no leader stays until there is one
            self._info, self._as_of = sighting, time
        else:
            self._note = Text(
                tables.wrapped(_told(sighting), self._console.width, indent=0), style="bold"
            )

    def picture(self, *, with_keys: bool) -> RenderableType:
        """Return the picture for the whole terminal."""
        keys = "q or Ctrl-C" if with_keys else "Ctrl-C"
        hint = f"{keys} {self._end}"
        if self._info is None:
            return Group(self._note, Text(hint, style="dim"))
        footer = self._footer(self._info) if self._footer else None
        if self._as_of:
            hint += f"   as of {self._as_of}"
        return Picture(self._info, self._note, footer, self._events, hint)

    def last(self) -> RenderableType:
        """Return what stays on the terminal afterwards."""
        if self._info is None:
            return self._note
        parts: list[RenderableType] = [tables.cluster_view(self._info, self._console.width)]
        parts += [self._note] if self._note else []
        return Group(*parts, self._footer(self._info)) if self._footer else Group(*parts)


def _told(sighting: Lost | Leaderless) -> str:
    if isinstance(sighting, Lost):
        # Behind the semicolon stands what the user of another command could do.
        return f"{plain(sighting.reason).partition('; ')[0]}: asking another node"
    return f"{sighting.address} says: {plain(sighting.reason)}"


def _next(known: list[str], info: ClusterInfo, current: str) -> list[str]:
    """Return the addresses to try when `current` ends: live members, then others, itself last."""
    order = [*live_addresses(info), *(node.address for node in info.nodes), *known]
    others = [one for one in dict.fromkeys(order) if one != current]
    return [*others[: _KNOWN_MAX - 1], current]
