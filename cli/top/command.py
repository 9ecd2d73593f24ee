"""`hstore top`: one reading as a table or as JSON, or one after the other as a live picture."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console

from hstore.node.model.statistics import SERIES

from ..client.plain import plain, print_json
from ..search.find import live_addresses
from ..show.listing import terminal
from ..show.watch import local_time, write_line
from ..streams import ending_with_reader
from . import figures, picture
from .picture import BY_NAME, KEYS, TOGETHER, Picture
from .readings import Lost, Reading, read, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from ..search.find import Finder

_WIDE = 200
"""Columns of a table that no terminal shows."""


def top(finder: Finder, host: str | None, *, as_json: bool) -> None:
    """Show what the nodes of a cluster do.

    On a terminal that is a picture until the user presses q. Elsewhere, and with `as_json`, it is one
    reading.

    Args:
        finder: Finds the cluster, and makes clients.
        host: The node that the user named, if one was.
        as_json: Print one reading as JSON.

    Raises:
        HstoreError: No node answers, at the beginning or for long.
    """
    found = finder.find_at(host)
    console = terminal()
    if console.is_terminal and not console.is_dumb_terminal and not as_json:
        addresses = [found.address, *live_addresses(found.info)]
        with ending_with_reader():
            live(readings(addresses, finder.connect, finder.clock), console)
        return
    with finder.connect(found.address, 5.0) as client:
        reading = read(client)
    if as_json:
        print_json(as_object(reading))
    else:
        show_once(reading, console)


def as_object(reading: Reading) -> dict[str, object]:
    """Return one reading for JSON: the present value of each series, of each node and of all."""
    nodes = {
        row.name: {
            "role": row.role,
            **{
                name: figures.now_of(row.traces[name], is_quantile=name.endswith("_ms"))
                for name in SERIES
                if name in row.traces
            },
        }
        for row in picture.rows(reading)
    }
    together = {
        one.series: figures.now_of(
            picture.combined(reading, one), is_quantile=one.series.endswith("_ms")
        )
        for one in TOGETHER
    }
    missing = [row.name for row in picture.rows(reading) if not row.traces]
    return {
        "leader": reading.info.leader,
        "asked": reading.address,
        "nodes": nodes,
        "together": together,
        "missing": missing,
    }


def show_once(reading: Reading, console: Console) -> None:
    """Print the table of nodes, one line for a node, never folded."""
    wide = Console(width=max(console.width, _WIDE), color_system=None)
    with wide.capture() as captured:
        wide.print(picture.node_table(reading, wide.width))
    for line in captured.get().splitlines():
        write_line(console, line.rstrip())


class _Live:
    """What the live picture shows, from one reading to the next."""

    def __init__(self, console: Console, now: Callable[[], datetime]) -> None:
        self._now = now
        self._console = console
        self._reading: Reading | None = None
        self._note = self._as_of = ""
        self._by = BY_NAME
        self._levels = figures.BLOCKS
        with contextlib.suppress(UnicodeError, LookupError):
            figures.BLOCKS.encode(console.encoding)
            return
        self._levels = figures.ASCII

    def take(self, one: Reading | Lost) -> None:
        """Take a reading, or that there is none, into the picture."""
        if isinstance(one, Reading):
            self._reading, self._note = one, ""
            self._as_of = f"{self._now():%H:%M:%S}"
        else:
            self._note = f"! {one.address} is lost, asking another node: {plain(one.reason)}"

    def press(self, keys: str) -> None:
        """Sort by the column of the last key that is one's."""
        self._by = next((key for key in reversed(keys.lower()) if key in KEYS), self._by)

    def picture(self, *, with_keys: bool) -> RenderableType:
        """Return the picture for the whole terminal."""
        return Picture(
            self._reading,
            self._note,
            self._by,
            self._as_of,
            levels=self._levels,
            has_keys=with_keys,
        )

    def last(self) -> RenderableType:
        """Return what stays on the terminal afterwards."""
        if self._reading is None:
            return self._note
        return picture.node_table(self._reading, self._console.width, self._by)


def live(
    source: Iterable[Reading | Lost],
    console: Console,
    now: Callable[[], datetime] = local_time,
) -> None:
    """Show readings on a terminal until the user presses q, or they end.

    Args:
        source: From `readings`.
        console: A terminal.
        now: Returns the time of day.
    """
    from ..show.screen import show_live  # rich's live display, which one reading does not need

    shown = _Live(console, now)
    show_live(source, console, shown, press=shown.press)
