"""The rows of the benchmark's tables: ratios of neighbours, medians, what is void, and the targets.

Pure: figures in, text out. How a figure is measured is not known here, and none is made up: a row
that is void says why, and has no figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SYSTEMS = ("hstore", "etcd")
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        name: What was measured; targets refer to it.
        unit: Of the figures, such as `/s`, `ms`, `MiB`.
        ours: One figure a run, in order.
        theirs: What the neighbour in time gave, for each of `ours`; empty: there is none.
        labels: Whose figures they are.
        void: Why the row does not count, if so.
        note: A sentence to be read with it.
    """

    name: str
    unit: str = ""
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    labels: tuple[str, str] = SYSTEMS
    void: str = ""
    note: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours by theirs, of each pair; empty where they cannot be told."""
        if self.void or len(self.ours) != len(self.theirs) or 0 in self.theirs:
            return ()
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Target:
    """What has to be reached: by the median of each row's ratios, or by the figures of ours.

    Attributes:
        line: What it is about.
        text: The target in words.
        rows: The names of all rows that have to reach it.
        least: The ratio is at least this.
        most: The ratio is at most this.
        zero: Names of rows of which no figure of ours may be above zero.
        median, worst: Where one is set, ratios do not count: the median of our figures is at most
            the one, and the highest at most the other.
    """

    line: str
    text: str
    rows: tuple[str, ...]
    least: float = 0.0
    most: float = math.inf
    zero: tuple[str, ...] = ()
    median: float = math.inf
    worst: float = math.inf

    @property
    def is_of_figures(self) -> bool:
        """Whether our figures count, and no ratios."""
        return min(self.median, self.worst) < math.inf

    def is_reached_by(self, row: Row) -> bool | None:
        """Tell whether one of the `rows` reaches it; None: there are no figures."""
        values = row.ours if self.is_of_figures else row.ratios
        if not values:
            return None
        middle = statistics.median(values)
        if self.is_of_figures:
            return middle <= self.median and max(values) <= self.worst
        return self.least <= middle <= self.most


def paired(
    name: str, unit: str, pairs: Sequence[tuple[float, float]], *, void: str = "", note: str = ""
) -> Row:
    """Make a row of figures that were taken in turns."""
    if void:
        return Row(name, unit, void=void, note=note)
    return Row(name, unit, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), note=note)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of all are not above (the nearest rank)."""
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def figure(value: float) -> str:
    """Write a figure with three digits or more."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """Write the median, and the lowest and highest where there are several."""
    if not values:
        return NOT_MEASURED
    median = figure(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({figure(min(values))} to {figure(max(values))})"


def ratio(values: Sequence[float]) -> str:
    """Write ratios as `spread` does, with two decimals."""
    if not values:
        return ""
    median = f"{statistics.median(values):.2f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.2f} to {max(values):.2f})"


def line(row: Row) -> str:
    """Write a row for a terminal."""
    text = f"  {row.name}: "
    if row.void:
        return f"{text}VOID: {row.void}"
    text += f"{row.labels[0]} {spread(row.ours)} {row.unit}".rstrip()
    if row.theirs:
        text += f"  {row.labels[1]} {spread(row.theirs)} {row.unit}".rstrip()
    if row.ratios:
        text += f"  ratio {ratio(row.ratios)}"
    return text + (f"  [{row.note}]" if row.note else "")


def tables(rows: Iterable[Row]) -> str:
    """Write all rows as Markdown, one table for each pair of labels."""
    by_labels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_labels.setdefault(row.labels, []).append(row)
    return "\n\n".join(_table(labels, some) for labels, some in by_labels.items())


def _table(labels: tuple[str, str], rows: Sequence[Row]) -> str:
    first, second = labels
    if not second:
        head = f"| | {first} (lowest to highest) | runs |\n|---|---|---|"
    else:
        head = (
            f"| | {first} | {second} | ratio (lowest to highest) | pairs |\n|---|---|---|---|---|"
        )
    lines = [head]
    notes: list[str] = []
    for row in rows:
        mark = ""
        if row.note:
            if row.note not in notes:
                notes.append(row.note)
            mark = f" [{notes.index(row.note) + 1}]"
        name = row.name + (f", {row.unit}" if row.unit else "") + mark
        lines.append(f"| {name} | " + " | ".join(_cells(row)) + " |")
    lines += ["", *(f"[{n}] {note}  " for n, note in enumerate(notes, start=1))] if notes else []
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    is_alone = not row.labels[1]
    if row.void:
        why = " ".join(row.void.split()).replace("|", "/")
        return [f"void: {why}", *([""] if is_alone else ["", "", ""])]
    if is_alone:
        return [spread(row.ours), str(len(row.ours))]
    return [
        figure(statistics.median(row.ours)) if row.ours else NOT_MEASURED,
        figure(statistics.median(row.theirs)) if row.theirs else NOT_MEASURED,
        ratio(row.ratios),
        str(len(row.ours)),
    ]


def target_table(targets: Iterable[Target], rows: Sequence[Row]) -> str:
    """Write the targets as Markdown, with what was measured beside each."""
    lines = ["| | target | reached | |", "|---|---|---|---|"]
    for target in targets:
        said, is_reached = verdict(target, rows)
        answer = {True: "yes", False: "no", None: ""}[is_reached]
        lines.append(f"| {target.line} | {target.text} | {said} | {answer} |")
    return "\n".join(lines)


def verdict(target: Target, rows: Sequence[Row]) -> tuple[str, bool | None]:
    """Return what was measured for a target, and whether it is reached; None: it is not known."""
    said: list[str] = []
    answers: list[bool | None] = []
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    if target.is_of_figures and target.median == math.inf:
        return _highest(target, by_name)
    for name in (*target.rows, *target.zero):
        start = f"{name}: " if len(target.rows) + len(target.zero) > 1 else ""
        found = by_name.get(name, [])
        if not found:
            said.append(start + NOT_MEASURED)
            answers.append(None)
        for row in found:
            # A row may have been measured beside more than one system.
            peer = f" beside {row.labels[1]}" if len(found) > 1 else ""
            text, is_reached = _judged(target, row, is_zero=name in target.zero)
            said.append(start + text + peer)
            answers.append(is_reached)
    if False in answers:
        return "; ".join(said), False
    return "; ".join(said), None if None in answers else True


def _judged(target: Target, row: Row, *, is_zero: bool) -> tuple[str, bool | None]:
    """Return what one row says for a target, and whether it reaches it."""
    if row.void:
        return f"void: {row.void}", None
    if is_zero:
        return figure(sum(row.ours)), not any(row.ours) if row.ours else None
    shown = spread(row.ours) if target.is_of_figures else ratio(row.ratios)
    return shown or NOT_MEASURED, target.is_reached_by(row)


def _highest(target: Target, by_all: Mapping[str, list[Row]]) -> tuple[str, bool | None]:
    """Return the highest figure of all rows, and whether it is at most `worst`."""
    by_name = {name: found[0] for name, found in by_all.items()}
    unknown = [
        name for name in target.rows if not (row := by_name.get(name)) or row.void or not row.ours
    ]
    known = [(max(by_name[name].ours), name) for name in target.rows if name not in unknown]
    said = f"{max(known)[1]}: {figure(max(known)[0])}" if known else NOT_MEASURED
    if known and unknown:
        said += f" ({len(unknown)} rows {NOT_MEASURED})"
    if known and max(known)[0] > target.worst:
        return said, False
    return said, None if unknown else True
