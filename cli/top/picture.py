"""A reading as a table of nodes, and as a picture fitted to a terminal.

Pure functions and renderables. Text is ASCII but for the sparklines, and those where the terminal's
encoding has no blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..show import tables
from . import figures
from .figures import SHOWN_S, Trace, count, ms, rate, size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from hstore.node.model.cluster_info import NodeInfo

    from .readings import Reading


_SPARK_MAX = 60
"""Characters of the sparklines in the table: a minute."""
_SPARK_MIN = 8
_GAP = 2


class Column(NamedTuple):
    """A column of figures.

    Attributes:
        title: At its head.
        key: Sorts by it.
        word: What the key does, in the last line.
        series: Whose present value it shows.
        write: How that is written.
        width: Characters of the widest value that is usual.
    """

    title: str
    key: str
    word: str
    series: str
    write: Callable[[float | None], str]
    width: int

    @property
    def is_quantile(self) -> bool:
        """Whether a second without anything has no value."""
        return self.series.endswith("_ms")


# Where there is little room, the last of them are left out.
COLUMNS = (
    Column("REQ/S", "r", "requests", "requests_per_s", rate, 7),
    Column("WRITE/S", "w", "writes", "writes_per_s", rate, 7),
    Column("DNS/S", "d", "dns", "dns_per_s", rate, 7),
    Column("P99", "p", "p99", "http_p99_ms", ms, 7),
    Column("FSYNC", "f", "fsync", "fsync_p99_ms", ms, 7),
    Column("LAG", "l", "lag", "loop_lag_p99_ms", ms, 7),
    Column("MEMORY", "m", "memory", "memory_bytes", size, 6),
    Column("KEYS", "k", "keys", "keys", count, 7),
    Column("DISK", "s", "disk", "disk_used_bytes", size, 6),
    Column("P50", "h", "p50", "http_p50_ms", ms, 7),
    Column("WRITE P99", "v", "write p99", "write_p99_ms", ms, 9),
)
BY_NAME = "n"
KEYS = (BY_NAME, *(column.key for column in COLUMNS))


class _Line(NamedTuple):
    """A line about all nodes together."""

    title: str
    series: str
    write: Callable[[float | None], str]
    combine: Callable[[list[float]], float]


TOGETHER = (
    _Line("requests/s", "requests_per_s", rate, sum),
    _Line("writes/s", "writes_per_s", rate, sum),
    _Line("DNS/s", "dns_per_s", rate, sum),
    _Line("HTTP p50", "http_p50_ms", ms, max),
    _Line("HTTP p99", "http_p99_ms", ms, max),
    _Line("write p99", "write_p99_ms", ms, max),
    _Line("fsync p99", "fsync_p99_ms", ms, max),
    _Line("loop lag p99", "loop_lag_p99_ms", ms, max),
    _Line("memory", "memory_bytes", size, sum),
    _Line("disk", "disk_used_bytes", size, sum),
)
_BRIEF = ("requests/s", "writes/s", "DNS/s", "HTTP p99", "fsync p99", "loop lag p99")
"""Of these, what stays where there are few lines."""


class Row(NamedTuple):
    """A node in the table.

    Attributes:
        name: Its name.
        role: Its type, or its health where it is not alive.
        traces: By series; empty: it has not answered.
        style: Of its name and role.
    """

    name: str
    role: str
    traces: dict[str, Trace]
    style: str


def values(row: Row) -> dict[str, float | None]:
    """Return the present value of every column."""
    return {
        column.series: figures.now_of(
            row.traces.get(column.series, ()), is_quantile=column.is_quantile
        )
        for column in COLUMNS
    }


def rows(reading: Reading, by: str = BY_NAME) -> list[Row]:
    """Return a row for each node, sorted by the column of a key: the greatest first, names upwards."""
    members = {node.name: node for node in reading.info.nodes}
    found = [
        _row(name, members.get(name), reading.nodes.get(name, {}))
        for name in sorted({*members, *reading.nodes}, key=_natural)
    ]
    column = next((one for one in COLUMNS if one.key == by), None)
    if column is not None:
        series = column.series
        found.sort(key=lambda row: -(-1.0 if (v := values(row)[series]) is None else v))
    return found


def _natural(name: str) -> tuple[str, int, str]:
    """Sort n2 before n10."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits) if digits else -1, name


def _row(name: str, node: NodeInfo | None, traces: dict[str, Trace]) -> Row:
    if node is None:
        return Row(name, "-", traces, "")
    if node.health not in {"alive", "suspect"}:
        return Row(name, node.health, traces, "bold red" if node.health == "failed" else "dim")
    if not traces:
        return Row(name, "no answer", traces, "bold magenta")
    return Row(name, node.type, traces, "bold" if node.type == "leader" else "")


def combined(reading: Reading, line: _Line) -> list[float | None]:
    """Return the trace of all nodes together: the sum of rates and sizes, the slowest node's times."""
    traces = [node[line.series] for node in reading.nodes.values() if line.series in node]
    return figures.together(traces, line.combine)


def node_table(reading: Reading, width: int, by: str = BY_NAME, levels: str = "") -> Table:
    """Return the table of nodes.

    Args:
        reading: What it shows.
        width: Characters in a line.
        by: The key of the column that it is sorted by.
        levels: Of sparklines of that column, as far as there is room; empty: none.
    """
    shown = rows(reading, by)
    first = max([4, *(len(row.name) for row in shown)]), max([4, *(len(r.role) for r in shown)])
    left = width - sum(first) - _GAP
    columns: list[Column] = []
    for column in COLUMNS:
        if left < column.width + _GAP:
            break
        columns.append(column)
        left -= column.width + _GAP
    sorted_by = next((one for one in COLUMNS if one.key == by), COLUMNS[0])
    spark = min(left - _GAP, _SPARK_MAX) if levels else 0
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column(_title("NAME", is_by=by == BY_NAME), no_wrap=True, min_width=first[0])
    table.add_column("ROLE", no_wrap=True, min_width=first[1])
    for column in columns:
        title = _title(column.title, is_by=column.key == by)
        table.add_column(title, justify="right", no_wrap=True, min_width=column.width)
    if spark >= _SPARK_MIN:
        table.add_column(f"{sorted_by.title}, {spark} s"[:spark], no_wrap=True)
    top = max(
        (
            one
            for row in shown
            for one in row.traces.get(sorted_by.series, ())[-max(spark, 1) :]
            if one is not None
        ),
        default=0.0,
    )
    for row in shown:
        now = values(row)
        cells = [Text(row.name, row.style), Text(row.role, row.style)]
        cells += [Text(column.write(now[column.series])) for column in columns]
        if spark >= _SPARK_MIN:
            trace = row.traces.get(sorted_by.series, ())
            cells.append(Text(figures.sparkline(trace, spark, levels, top), "cyan"))
        table.add_row(*cells)
    return table


def _title(title: str, *, is_by: bool) -> Text:
    return Text(title, "bold reverse" if is_by else "bold")


class Picture:
    """A reading on a whole terminal.

    Args:
        reading: What it shows; None: there is none yet.
        note: What is to be said beside it, such as that a node is lost.
        by: The key of the column by which the nodes are sorted.
        as_of: The time of day of the reading.
        levels: Of the sparklines.
        has_keys: Whether keys are read.
    """

    def __init__(
        self,
        reading: Reading | None,
        note: str,
        by: str,
        as_of: str,
        *,
        levels: str = figures.BLOCKS,
        has_keys: bool = True,
    ) -> None:
        self._reading = reading
        self._note = note
        self._by = by
        self._as_of = as_of
        self._levels = levels
        self._has_keys = has_keys

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield exactly as many lines as the terminal has."""
        width, height = console.width, console.height
        plain = options.update(height=None)
        lines: list[list[Segment]] = []
        for part in self._parts(width, height):
            lines += console.render_lines(part, plain, pad=False)
        footer = console.render_lines(self._footer(width), plain, pad=False)[:height]
        room = height - len(footer)
        if len(lines) > room:
            more = f"... {len(lines) - room + 1} more lines"[:width]
            lines = [*lines[: max(room - 1, 0)], [Segment(more)]][:room]
        lines += [[] for _ in range(room - len(lines))]
        for number, line in enumerate([*lines, *footer]):
            if number:
                yield Segment.line()
            yield from line

    def _parts(self, width: int, height: int) -> list[RenderableType]:
        note = [Text(tables.wrapped(self._note, width, indent=2), "bold")] if self._note else []
        if self._reading is None:
            return [*note, Text("" if note else "waiting for the first answer", "dim")]
        reading = self._reading
        above = [tables.headline(reading.info, width, is_brief=width < 100)]
        above += [
            Text(tables.wrapped(f"! {one}", width, indent=2), "bold")
            for one in tables.warnings(reading.info)
        ]
        # Without the table, its head, the footer, and a blank line before each part.
        used = sum(len(one.plain.splitlines()) for one in (*above, *note))
        members = len({node.name for node in reading.info.nodes} | reading.nodes.keys())
        room = height - used - members - 1 - len(self._footer(width).plain.splitlines()) - 3
        together = _together(reading, width, self._levels, room)
        table = node_table(reading, width, self._by, self._levels)
        return [*above, *note, *together, Text(), table]

    def _footer(self, width: int) -> Text:
        if not self._has_keys:
            return Text(f"Ctrl-C ends it   as of {self._as_of}"[:width], "dim")
        words = [("q", "ends"), ("n", "name")] + [(one.key, one.word) for one in COLUMNS]
        line, used = Text(style="dim"), 0
        for key, word in words:
            item = f"{key} {word}"
            if used and used + _GAP + len(item) > width:
                line.append("\n")
                used = 0
            elif used:
                line.append(" " * _GAP)
                used += _GAP
            line.append(key, "bold not dim")
            line.append(f" {word}", "reverse" if key == self._by else "")
            used += len(item)
        if self._as_of and used + _GAP + 14 <= width:
            line.append(f"as of {self._as_of}".rjust(width - used))
        return line


def _together(reading: Reading, width: int, levels: str, room: int) -> list[RenderableType]:
    """Return a blank line and the lines about all nodes, as many as fit into `room`; else nothing."""
    shown = [one for one in TOGETHER if room > len(TOGETHER) or one.title in _BRIEF][: room - 1]
    if room < 2:
        return []
    answered, members = len(reading.nodes), max(len(reading.info.nodes), len(reading.nodes))
    title = f"ALL {members} NODES" if members > 1 else "THE NODE"
    if answered < members:
        title = f"{answered} OF {members} NODES"
    spark = max(width - 14 - 10 - 12 - 3 * _GAP, 0)
    head = Text(f"{title:<14}  {'NOW':>10}  ", "bold")
    if spark:
        head.append(f"LAST {min(spark, SHOWN_S)} s".ljust(spark) + "  " + "PEAK".rjust(12))
    lines = [head]
    for one in shown:
        trace = combined(reading, one)
        now = one.write(figures.now_of(trace, is_quantile=one.series.endswith("_ms")))
        line = Text(f"{one.title:<14}  {now:>10}  ")
        if spark:
            line.append(figures.sparkline(trace, spark, levels), "cyan")
            known = [value for value in trace[-spark:] if value is not None]
            line.append(f"  {one.write(max(known, default=None)):>12}")
        lines.append(line)
    return [Text(), Group(*lines)]
