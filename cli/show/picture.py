"""The live picture of a cluster, fitted to the lines and columns of a terminal.

What is most important comes first where there is little room: who leads and what is wrong, the nodes,
what the caller adds, figures for which the table was not wide enough, the last events. The last line
says how the picture is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.segment import Segment
from rich.text import Text

from . import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from hstore.node.model.cluster_info import ClusterInfo

_Line = list[Segment]

_FEWEST_EVENTS = 2
"""Fewer lines of events than this are not worth a title."""


class Event(NamedTuple):
    """Something that happened, in a line, and the time of day when it was seen."""

    time: str
    what: str


class Picture:
    """A cluster on a whole terminal.

    Args:
        info: The cluster.
        note: What the watch itself has to say, such as that its node is lost.
        footer: What the caller adds below the table.
        events: What has happened, the oldest first.
        hint: The last line.
    """

    def __init__(
        self,
        info: ClusterInfo,
        note: Text,
        footer: RenderableType | None,
        events: Sequence[Event],
        hint: str,
    ) -> None:
        self._info = info
        self._note = note
        self._footer = footer
        self._events = events
        self._hint = hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield exactly as many lines as the terminal has."""
        fit = _Fit(console, options)
        width = console.width
        above, nodes = (fit.lines(part) for part in self._top(width, is_brief=False))
        if len(above) + len(nodes) > fit.left:
            above = fit.lines(self._top(width, is_brief=True)[0])
        fit.add(above, most=max(2, fit.left - len(nodes)))
        fit.add(nodes)
        if self._footer is not None:
            fit.add(fit.lines(self._footer))
        rest = tables.rest_of_table(self._info, width)
        if rest is not None and len(lines := fit.lines(rest)) < fit.left:
            fit.add([[], *lines])
        self._add_events(fit)
        yield from fit.picture(fit.lines(Text(self._hint, style="dim"))[:1])

    def _top(self, width: int, *, is_brief: bool) -> tuple[RenderableType, RenderableType]:
        above, nodes = tables.view_parts(self._info, width, is_brief=is_brief)
        return (Group(above, self._note) if self._note else above), nodes

    def _add_events(self, fit: _Fit) -> None:
        room = fit.left - 2  # without the blank line and the title
        if room < _FEWEST_EVENTS:
            return
        newest: list[_Line] = []
        for event in reversed(self._events):
            text = tables.wrapped(f"{event.time}  {event.what}", fit.width, indent=10)
            lines = fit.lines(Text(text))
            if len(newest) + len(lines) > room:
                break
            newest = lines + newest
        if newest:
            fit.add([[], *fit.lines(Text("EVENTS", style="bold")), *newest])


class _Fit:
    """Lines that are added from the top as long as there is room.

    Attributes:
        width: Characters in a line.
    """

    def __init__(self, console: Console, options: ConsoleOptions) -> None:
        self._console = console
        self._options = options.update(height=None)
        self._shown: list[_Line] = []
        self.width = console.width

    @property
    def left(self) -> int:
        """How many lines there are still, without the last one of the terminal."""
        return self._console.height - 1 - len(self._shown)

    def lines(self, part: RenderableType) -> list[_Line]:
        """Return a part of the picture as lines."""
        return self._console.render_lines(part, self._options, pad=False)

    def add(self, lines: list[_Line], most: int | None = None) -> None:
        """Add lines; where not all fit, the last one that does says how many are left out."""
        room = self.left if most is None else min(most, self.left)
        if len(lines) > room:
            shown = max(0, room - 1)
            lines = [
                *lines[:shown],
                [Segment(f"... {len(lines) - shown} more lines"[: self.width])],
            ]
        self._shown += lines[: max(0, room)]

    def picture(self, last: list[_Line]) -> RenderResult:
        """Yield all lines, and `last` at the bottom of the terminal."""
        for line in [*self._shown, *[[] for _ in range(self.left)]]:
            yield from line
            yield Segment.line()
        for line in last:
            yield from line
