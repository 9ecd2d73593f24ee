"""What a cluster looks like to a person: pure functions from its facts to rich renderables.

They print nothing and send no request. Text is ASCII, for every terminal; text from the network was
made harmless when it came in (`client/plain.py`), and is never read as markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .alarms import alarm_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

# Yellow, cyan and white cannot be read on a light ground, nor blue on a dark one; and what a colour
# says, the word says too.
_HEALTH_STYLE = {
    "alive": "green",
    "suspect": "bold magenta",
    "failed": "bold red",
    "stopped": "dim",
    "joining": "bold",
    "recovering": "magenta",
}
_WARNING_STYLE = "bold"

_GAP = 2
"""Spaces between columns."""


class _Column(NamedTuple):
    """A column of the table of nodes. Of two that do not both fit, that of the lower rank is shown."""

    title: str
    cell: Callable[[NodeInfo, ClusterInfo], str]
    right: bool = False
    rank: int = 0


def _figure(value: int | None) -> str:
    return "-" if value is None else str(value)


def _voter(node: NodeInfo) -> str:
    return "yes" if node.voter else "no"


def _lag(node: NodeInfo, info: ClusterInfo) -> str:
    """Return how many committed entries the node has not applied.

    Both numbers are from the last reports. So under load a node that keeps up has a lag too: the
    entries since its report.
    """
    if node.applied_index is None:
        return "-"
    committed = max(one.commit_index or 0 for one in info.nodes)
    return str(max(0, committed - node.applied_index))


def _contact(node: NodeInfo) -> str:
    """Return how long ago the leader last heard of the node; from 10 s on in larger units."""
    ms = node.last_contact_ms
    if ms is None:
        return "-"
    return f"{ms} ms" if ms < 10_000 else _duration(ms // 1000)


def _uptime(node: NodeInfo) -> str:
    return "-" if node.uptime_s is None else _duration(node.uptime_s)


def _rate(node: NodeInfo) -> str:
    rate = node.writes_per_s
    if rate is None:
        return "-"
    return f"{rate:.1f}" if 0 < rate < 100 else f"{rate:.0f}"


def _fsync(node: NodeInfo) -> str:
    ms = node.fsync_ms
    if ms is None:
        return "-"
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms"


def _disk(node: NodeInfo) -> str:
    if node.disk_free is None or node.disk_needed is None:
        return "-"
    return f"{_size(node.disk_free)}/{_size(node.disk_needed)}"


def _size(count: int) -> str:
    """Return bytes in the unit in which they have at most four digits."""
    units = "KMGTP"
    amount, unit = count / 1024, 0
    while amount >= 1024 and unit < len(units) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}{units[unit]}" if amount < 10 else f"{amount:.0f}{units[unit]}"


def _duration(seconds: int) -> str:
    """Return seconds in their two largest units."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


_ALWAYS = (
    _Column("NAME", lambda node, _: node.name),
    _Column("ADDRESS", lambda node, _: node.address),
    _Column("HEALTH", lambda node, _: node.health),
    _Column("TYPE", lambda node, _: node.type),
)

# Shown in this order, as many as there is room for: those of the lowest ranks.
_MORE = (
    _Column("VOTER", lambda node, _: _voter(node), rank=2),
    _Column("APPLIED", lambda node, _: _figure(node.applied_index), right=True, rank=3),
    _Column("LAG", _lag, right=True, rank=4),
    _Column("CONTACT", lambda node, _: _contact(node), right=True, rank=5),
    _Column("TERM", lambda node, _: _figure(node.term), right=True, rank=6),
    _Column("WRITES/S", lambda node, _: _rate(node), right=True, rank=7),
    _Column("FSYNC", lambda node, _: _fsync(node), right=True, rank=8),
    _Column("FREE/NEEDED", lambda node, _: _disk(node), right=True, rank=9),
    _Column("UP", lambda node, _: _uptime(node), right=True, rank=1),
    _Column("VERSION", lambda node, _: node.version or "-", rank=10),
    _Column("COMMIT", lambda node, _: _figure(node.commit_index), right=True, rank=11),
    _Column("DNS", lambda node, _: node.dns_address, rank=12),
    _Column("PEER", lambda node, _: node.peer_address, rank=13),
    _Column("ID", lambda node, _: node.id, rank=14),
)


_FIGURES = ("WRITES/S", "FSYNC", "FREE/NEEDED")
"""Columns that are worth lines of their own where the table is too narrow for them."""

_REASON = _Column("REASON", lambda node, _: node.reason or "-")


def cluster_view(info: ClusterInfo, width: int) -> Group:
    """Return the table of a cluster's nodes; above it a line about the cluster, and warnings.

    Args:
        info: The cluster.
        width: Characters in a line of the terminal. Name, address, health and type are always
            shown; of the other columns as many as fit.
    """
    return Group(*view_parts(info, width, is_brief=natural_width(info) > width))


def view_parts(
    info: ClusterInfo, width: int, *, is_brief: bool
) -> tuple[RenderableType, RenderableType]:
    """Return what stands above the table of nodes, in brief or not, and the table."""
    above = [headline(info, width, is_brief=is_brief)]
    above += [
        Text(wrapped(f"! {one}", width, indent=2), style=_WARNING_STYLE) for one in warnings(info)
    ]
    is_narrow = natural_width(info) > width
    nodes = Group(*_stacked(info)) if is_narrow else node_table(info, width)
    return Group(*above), nodes


def headline(info: ClusterInfo, width: int, *, is_brief: bool = False) -> Text:
    """Return one line about the cluster, or more in a narrow terminal, with no fact on two lines.

    Args:
        info: The cluster.
        width: Characters in a line.
        is_brief: Leave out id, zone and term.
    """
    leader = ("no leader", "bold red") if info.leader is None else (f"leader {info.leader}", "bold")
    facts = [leader, (f"quorum {info.quorum}", "")]
    if info.leader is not None:
        facts.append((tolerance(info), ""))
    if not is_brief:
        about = (f"cluster {info.cluster_id}", f"zone {info.zone}", f"term {info.term}")
        facts = [*((one, "") for one in about), *facts]
    line, used = Text(), 0
    for fact, style in facts:
        if used and used + _GAP + cell_len(fact) > width:
            line.append("\n")
            used = 0
        elif used:
            line.append(" " * _GAP)
            used += _GAP
        line.append(fact, style=style)
        used += cell_len(fact)
    return line


def wrapped(text: str, width: int, *, indent: int) -> str:
    """Return a text with line breaks between words; a word is broken only if no line can hold it.

    Args:
        text: In one line.
        width: Characters in a line.
        indent: Spaces before every line but the first, where there is room for them.
    """
    space = " " * (indent if width >= 3 * indent else 0)
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line.strip() else line + word
        if line.strip() and cell_len(longer) > width:
            lines.append(line)
            longer = space + word
        line = longer
    return "\n".join([*lines, line])


def tolerance(info: ClusterInfo) -> str:
    """Say how many nodes may fail; without a leader that is of a last view, and nobody may rely on it."""
    return f"can lose {_count(info.failure_tolerance, 'node')}"


def warnings(info: ClusterInfo) -> list[str]:
    """Return what an operator should know, a line for each, the worst first."""
    voters = [node for node in info.nodes if node.voter]
    live = [node for node in voters if node.is_live]
    found = []
    if info.waiting_for:
        found.append(
            f"waiting for {info.waiting_for} nodes before any client is served: "
            f"{_are(len(voters))} there, `hstore join` adds one"
        )
    elif info.leader is None:
        # Nobody judges health without a leader: what is shown is the last that one has told.
        seen = (
            f", and of {len(voters)} {_are(len(live))} live"
            if len(live) < info.quorum
            else "; the health below is what the last leader saw"
        )
        found.append(f"no leader: electing one takes {_count(info.quorum, 'live voter')}{seen}")
    found += [f"{node.name} is recovering: {node.reason}" for node in info.nodes if _is_lost(node)]
    found += [f"{node.name} is {node.reason}" for node in info.nodes if _is_stopped(node)]
    found += [
        f"{health}: {', '.join(_with_reason(node) for node in info.nodes if node.health == health)}"
        for health in ("failed", "suspect")
        if any(node.health == health for node in info.nodes)
    ]
    found += alarm_lines(info.nodes)
    if info.leader is not None and info.failure_tolerance == 0:
        found.append(_without_margin(len(voters)))
    elif info.leader is not None and len(voters) % 2 == 0:
        found.append(f"{len(voters)} voters survive no more failures than {len(voters) - 1}")
    return found


def _is_lost(node: NodeInfo) -> bool:
    return node.health == "recovering"


def _is_stopped(node: NodeInfo) -> bool:
    return node.health == "stopped" and bool(node.reason)


def _with_reason(node: NodeInfo) -> str:
    return f"{node.name} ({node.reason})" if node.reason else node.name


def _without_margin(voters: int) -> str:
    if voters <= 2:
        return (
            f"{_count(voters, 'voter')} survive{'s' * (voters == 1)} no failure; three survive one"
        )
    return "if one more voter fails, there will be no leader"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def node_table(info: ClusterInfo, width: int, *, with_reasons: bool = False) -> Table:
    """Return the table of nodes, with the columns that fit into `width`.

    Args:
        info: The cluster.
        width: Characters in a line.
        with_reasons: Add a last column that says of each node that is not alive why, if there is
            one; it may be wider.
    """
    columns = _fitting(info, width)
    if with_reasons and any(node.reason for node in info.nodes):
        columns.append(_REASON)
    return _table(info, columns)


def _table(info: ClusterInfo, columns: list[_Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            # A line in a file or a pipe is never folded, and on a terminal the columns fit.
            no_wrap=True,
        )
    for node in info.nodes:
        table.add_row(*(_styled(column, node, info) for column in columns))
    return table


def rest_of_table(info: ClusterInfo, width: int) -> Table | None:
    """Return a second table with figures that `node_table` has no room for; None: it has them all."""
    shown = _fitting(info, width)
    rest, used = [_ALWAYS[0]], _width(_ALWAYS[0], info)
    for column in _MORE:
        is_left_out = column.title in _FIGURES and column not in shown
        if not is_left_out or all(column.cell(node, info) == "-" for node in info.nodes):
            continue
        used += _width(column, info) + _GAP
        if used <= width:
            rest.append(column)
    is_narrow = natural_width(info) > width
    return None if is_narrow or len(rest) == 1 else _table(info, rest)


def natural_width(info: ClusterInfo) -> int:
    """Return the characters that name, address, health and type need in one line."""
    return sum(_width(column, info) + _GAP for column in _ALWAYS) - _GAP


def reason_width(info: ClusterInfo) -> int:
    """Return the characters that `node_table` adds to a line for its reasons."""
    return _GAP + _width(_REASON, info)


def changes(before: ClusterInfo | None, after: ClusterInfo) -> list[str]:
    """Return a line for each change, for output where no table can be redrawn."""
    old = {node.id: node for node in before.nodes} if before else {}
    lines = [line for node in after.nodes for line in _node_changes(old.get(node.id), node)]
    gone = old.keys() - {node.id for node in after.nodes}
    lines += [f"{old[one].name}: left the cluster" for one in sorted(gone)]
    if before is None or _whole(before) != _whole(after):
        leader = f"leader {after.leader}" if after.leader else "no leader"
        may_lose = f", {tolerance(after)}" if after.leader else ""
        lines.append(f"cluster: {leader}, term {after.term}{may_lose}")
    return lines


def _whole(info: ClusterInfo) -> tuple[str | None, int, int]:
    return info.leader, info.term, info.failure_tolerance


def _node_changes(old: NodeInfo | None, new: NodeInfo) -> list[str]:
    if old is None:
        first = f"{new.name}: {new.address} {new.health} {new.type}"
        return [first, f"{new.name}: {new.reason}"] if new.reason else [first]
    lines = []
    if old.name != new.name:
        lines.append(f"{new.name}: was {old.name}")
    if old.address != new.address:
        lines.append(f"{new.name}: now at {new.address}, was at {old.address}")
    if (old.health, old.type) != (new.health, new.type):
        lines.append(f"{new.name}: {new.health} {new.type}, was {old.health} {old.type}")
    if new.reason and new.reason != old.reason:
        lines.append(f"{new.name}: {new.reason}")
    return lines


def _stacked(info: ClusterInfo) -> list[Text]:
    """Return two lines for each node, for terminals in which a table would be cut."""
    blocks = []
    for node in info.nodes:
        block = Text(overflow="fold")
        block.append(node.name, style="bold" if node.name == info.leader else "")
        block.append(f" {node.type} ")
        block.append(node.health, style=_HEALTH_STYLE.get(node.health, ""))
        block.append(f"\n  {node.address}")
        blocks.append(block)
    return blocks


def _styled(column: _Column, node: NodeInfo, info: ClusterInfo) -> Text:
    style = ""
    if column.title == "HEALTH":
        style = _HEALTH_STYLE.get(node.health, "")
    elif node.name == info.leader and column.title in {"NAME", "TYPE"}:
        style = "bold"
    return Text(column.cell(node, info), style=style)


def _width(column: _Column, info: ClusterInfo) -> int:
    return max(len(column.title), *(cell_len(column.cell(node, info)) for node in info.nodes), 0)


def _fitting(info: ClusterInfo, width: int) -> list[_Column]:
    used = sum(_width(column, info) + _GAP for column in _ALWAYS) - _GAP
    rank = 0
    for column in sorted(_MORE, key=lambda one: one.rank):
        # Stop at the first that does not fit, even if a later one would: so a wider terminal shows
        # all that a narrower one does.
        used += _width(column, info) + _GAP
        if used > width:
            break
        rank = column.rank
    return [*_ALWAYS, *(column for column in _MORE if column.rank <= rank)]
