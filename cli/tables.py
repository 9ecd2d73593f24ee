"""What a cluster looks like to a person: pure functions from its facts to rich renderables.

Nothing is printed, asked or decided here. Text is ASCII, so that it survives every terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from hstore.node.cluster import ClusterInfo, NodeInfo

_HEALTH_STYLE = {
    "alive": "green",
    "suspect": "yellow",
    "failed": "red",
    "stopped": "dim",
    "joining": "cyan",
}

_GAP = 2
"""Spaces between columns."""


class _Column(NamedTuple):
    title: str
    cell: Callable[[NodeInfo], str]
    right: bool = False


def _figure(value: int | None) -> str:
    return "-" if value is None else str(value)


def _contact(node: NodeInfo) -> str:
    return "-" if node.last_contact_ms is None else f"{node.last_contact_ms} ms"


def _uptime(node: NodeInfo) -> str:
    if node.uptime_s is None:
        return "-"
    minutes, seconds = divmod(node.uptime_s, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


_ALWAYS = (
    _Column("NAME", lambda node: node.name),
    _Column("ADDRESS", lambda node: node.address),
    _Column("HEALTH", lambda node: node.health),
    _Column("TYPE", lambda node: node.type),
)

# In the order in which they are taken in as long as there is room.
_MORE = (
    _Column("CONTACT", _contact, right=True),
    _Column("APPLIED", lambda node: _figure(node.applied_index), right=True),
    _Column("COMMIT", lambda node: _figure(node.commit_index), right=True),
    _Column("TERM", lambda node: _figure(node.term), right=True),
    _Column("UP", _uptime, right=True),
    _Column("DNS", lambda node: node.dns_address),
    _Column("PEER", lambda node: node.peer_address),
    _Column("VERSION", lambda node: node.version or "-"),
    _Column("ID", lambda node: node.id),
)


def cluster_view(info: ClusterInfo, width: int) -> Group:
    """Return the table of a cluster's nodes with a line about the whole above it.

    Args:
        info: The cluster.
        width: Characters in a line of the terminal. Name, address, health and type are shown
            whatever it is; of the rest as much as fits.
    """
    if natural_width(info) > width:
        return Group(headline(info), *_stacked(info))
    return Group(headline(info), node_table(info, width))


def headline(info: ClusterInfo) -> Text:
    """Return one line about the whole cluster."""
    line = Text(f"cluster {info.cluster_id}  zone {info.zone}  term {info.term}  ")
    if info.leader is None:
        line.append("no leader", style="bold red")
    else:
        line.append(f"leader {info.leader}", style="bold")
    line.append(f"  quorum {info.quorum}  {tolerance(info)}")
    return line


def tolerance(info: ClusterInfo) -> str:
    """Say how many nodes may fail."""
    count = info.failure_tolerance
    return f"can lose {count} node{'' if count == 1 else 's'}"


def node_table(info: ClusterInfo, width: int) -> Table:
    """Return the table of nodes, with the columns that fit into `width`."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    columns = _fitting(info.nodes, width)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            # A line in a file or a pipe is never folded, and for a terminal it fits.
            no_wrap=True,
        )
    for node in info.nodes:
        table.add_row(*(_styled(column, node, info.leader) for column in columns))
    return table


def natural_width(info: ClusterInfo) -> int:
    """Return the characters that name, address, health and type need in one line."""
    return sum(_width(column, info.nodes) + _GAP for column in _ALWAYS) - _GAP


def changes(before: ClusterInfo | None, after: ClusterInfo) -> list[str]:
    """Return a line for each thing that changed, for where no table can be redrawn."""
    old = {node.id: node for node in before.nodes} if before else {}
    lines = [line for node in after.nodes for line in _node_changes(old.get(node.id), node)]
    gone = old.keys() - {node.id for node in after.nodes}
    lines += [f"{old[one].name}: left the cluster" for one in sorted(gone)]
    if before is None or _whole(before) != _whole(after):
        leader = f"leader {after.leader}" if after.leader else "no leader"
        lines.append(f"cluster: {leader}, term {after.term}, {tolerance(after)}")
    return lines


def _whole(info: ClusterInfo) -> tuple[str | None, int, int]:
    return info.leader, info.term, info.failure_tolerance


def _node_changes(old: NodeInfo | None, new: NodeInfo) -> list[str]:
    if old is None:
        return [f"{new.name}: {new.address} {new.health} {new.type}"]
    lines = []
    if old.name != new.name:
        lines.append(f"{new.name}: was {old.name}")
    if old.address != new.address:
        lines.append(f"{new.name}: now at {new.address}, was at {old.address}")
    if (old.health, old.type) != (new.health, new.type):
        lines.append(f"{new.name}: {new.health} {new.type}, was {old.health} {old.type}")
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


def _styled(column: _Column, node: NodeInfo, leader: str | None) -> Text:
    style = ""
    if column.title == "HEALTH":
        style = _HEALTH_STYLE.get(node.health, "")
    elif node.name == leader and column.title in {"NAME", "TYPE"}:
        style = "bold"
    return Text(column.cell(node), style=style)


def _width(column: _Column, nodes: list[NodeInfo]) -> int:
    return max(len(column.title), *(len(column.cell(node)) for node in nodes), 0)


def _fitting(nodes: list[NodeInfo], width: int) -> list[_Column]:
    columns = list(_ALWAYS)
    used = sum(_width(column, nodes) + _GAP for column in columns) - _GAP
    for column in _MORE:
        # The first that does not fit ends it: which columns there are must not jump about.
        used += _width(column, nodes) + _GAP
        if used > width:
            break
        columns.append(column)
    return columns
