"""What services and checks look like to a person: tables of rows, once or as they change.

Pure functions from rows to rich renderables and lines, and what draws them. Text from the network was
made harmless when it came in (`client/plain.py`), and is never read as markup.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..client.plain import plain_json
from .watch import local_time, stamp, write_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from rich.console import RenderableType

# What a colour says, the word says too; see tables.py for the choice of colours.
_STYLES = {
    "passing": "green",
    "warning": "bold magenta",
    "critical": "bold red",
    "maintenance": "dim",
}
_GAP = 2


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        key: Tells it from all other rows.
        cells: One for each column.
        status: The worst that it says, for its colour.
    """

    key: tuple[str, ...]
    cells: tuple[str, ...]
    status: str = ""


class Sight(NamedTuple):
    """What a node has shown at one moment.

    Attributes:
        titles: Of the columns.
        rows: In order.
        content: The same as JSON, in the shapes of the node's answer.
        none: What is said where there is no row.
        at: The column that has the status.
        spare: Titles of columns that a narrow terminal does without, the first of them first.
    """

    titles: tuple[str, ...]
    rows: list[Row]
    content: object
    none: str
    at: int = 0
    spare: tuple[str, ...] = ()


class Lost(NamedTuple):
    """No node answers now; it is tried again."""

    reason: str


def terminal() -> Console:
    """Return standard output as a console, which is a terminal only if the file is one."""
    return Console(force_terminal=sys.stdout.isatty())


def table(sight: Sight, room: int) -> Table:
    """Return the table of what was seen.

    Where it is wider than the terminal, columns that it can spare go first; then the widest are cut,
    but never the status.

    Args:
        sight: What was seen.
        room: The width of the terminal, in cells.
    """
    every = [(sight.titles[at], *(row.cells[at] for row in sight.rows)) for at in _columns(sight)]
    widths = {at: max(map(cell_len, one)) for at, one in zip(_columns(sight), every, strict=True)}
    for title in sight.spare:
        if _total(widths) > room:
            del widths[sight.titles.index(title)]
    _cut(widths, room, but=sight.at)
    found = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for at, width in widths.items():
        # Without the mark, half an index would look like another one.
        found.add_column(sight.titles[at], no_wrap=True, overflow="ellipsis", width=width)
    for row in sight.rows:
        style = _STYLES.get(row.status, "")
        found.add_row(
            *(Text(row.cells[at], style=style if at == sight.at else "") for at in widths)
        )
    return found


def _columns(sight: Sight) -> range:
    return range(len(sight.titles))


def _total(widths: Mapping[int, int]) -> int:
    """Return the cells of a line."""
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _cut(widths: dict[int, int], room: int, *, but: int) -> None:
    """Make columns narrower until a line fits: always the widest, and never that of the status."""
    others = {at: min(width, room) for at, width in widths.items() if at != but}
    over = _total({**widths, **others}) - room
    for _ in range(over):
        widest = max(others, key=lambda at: others[at])
        others[widest] = max(1, others[widest] - 1)
    widths.update(others)


def show_once(sight: Sight, console: Console, note: Callable[[str], None]) -> None:
    """Print a table: on a terminal in colours and cut to its width, elsewhere a line for each row."""
    if not sight.rows:
        note(sight.none)
    elif console.is_terminal:
        console.print(table(sight, console.width))
    else:
        for line in _lines_of(sight):
            write_line(console, line)


def _lines_of(sight: Sight) -> Iterator[str]:
    """Yield the table as lines without spaces at their ends."""
    rows = [sight.titles, *(row.cells for row in sight.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield (" " * _GAP).join(cells).rstrip()


def as_line(sight: Sight) -> str:
    """Return what was seen as a line of JSON that is harmless to a terminal."""
    return plain_json(msgspec.json.encode(sight.content).decode())


def changes(before: Sight | None, after: Sight) -> Iterator[str]:
    """Yield a line for each row that is new, that has changed, or that is gone."""
    known = {} if before is None else {row.key: row for row in before.rows}
    for row in after.rows:
        if known.pop(row.key, None) != row:
            yield "  ".join(cell for cell in row.cells if cell)
    for gone in known.values():
        yield f"{'  '.join(gone.key)}  is gone"


def watch(
    sights: Iterable[Sight | Lost],
    console: Console,
    *,
    as_json: bool = False,
    now: Callable[[], datetime] = local_time,
) -> None:
    """Show what was seen, and each change, until the user presses q or it is interrupted.

    On a terminal that is a picture. Elsewhere it is a line for each change, with the time before it;
    as JSON, the whole of it each time that it is another one.
    """
    if as_json:
        last = ""
        for sight in sights:
            line = as_line(sight) if isinstance(sight, Sight) else last
            if line != last:
                write_line(console, line)
            last = line
    elif console.is_terminal and not console.is_dumb_terminal:
        from .screen import show_live

        show_live(sights, console, _Live(console, now))
    else:
        before: Sight | None = None
        for sight in sights:
            if isinstance(sight, Sight):
                for line in changes(before, sight):
                    write_line(console, f"{stamp(now())} {line}")
                before = sight


class _Live:
    """What the live picture shows, from one sight to the next."""

    def __init__(self, console: Console, now: Callable[[], datetime]) -> None:
        self._console = console
        self._now = now
        self._seen: Sight | None = None
        self._lost = self._as_of = ""

    def take(self, one: Sight | Lost) -> None:
        """Take what was seen, or that no node answers, into the picture."""
        if isinstance(one, Lost):
            self._lost = one.reason
        else:
            self._seen, self._lost, self._as_of = one, "", f"{self._now():%H:%M:%S}"

    def picture(self, *, with_keys: bool) -> RenderableType:
        """Return the picture for the whole terminal."""
        hint = f"{'q or ' if with_keys else ''}Ctrl-C ends it"
        if self._as_of:
            hint += f"   as of {self._as_of}"
        lost = [Text(self._lost, style="bold")] if self._lost else []
        return Group(Text(hint, "dim"), *lost, self.last())

    def last(self) -> RenderableType:
        """Return what stays on the terminal afterwards."""
        if self._seen is None:
            return Text("waiting for the first answer", style="dim")
        if not self._seen.rows:
            return Text(self._seen.none, style="dim")
        return table(self._seen, self._console.width)
