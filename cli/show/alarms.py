"""The alarms that members raise, in words: which one, at whom, and what to do.

The same as the dashboard's first page says above its table (`node/web/pages/alarms.js`), in brief.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hstore.node.model.cluster_info import NodeInfo

_KNOWN = {
    "replica_differs": (
        "copies of the data differ, found by {who}: its log names the member; keep that data "
        "directory, `hstore leave` it, join again with an empty one"
    ),
    "term_jump": "a member is in a term that is far ahead, heard by {who}: its log names it; upgrade or remove it",
    "address_claimed": (
        "another cluster claims the address of {who}: `hstore leave -h NAME` there lets it go"
    ),
    "disk_short": "short of disk: {who}; make room there, or writes stop",
    "clock_skew": "clocks differ, seen by {who}: keep the time of all machines by NTP",
    "clock_jump": "the clock of {who} was set at once: have a time service let it run faster or slower",
}
"""By kind, the worst first."""

_SAID_BY_HEALTH = {"lost_log", "no_quorum_margin"}
"""Of these, the health of the member or the line about the voters says more."""


def alarm_lines(nodes: Iterable[NodeInfo]) -> list[str]:
    """Return a line for each kind of alarm that a live member raises, the worst first.

    A kind of a newer version is named as it is, and its log says what to do.
    """
    by_kind: dict[str, list[NodeInfo]] = {}
    for node in nodes:
        for kind in node.alarms if node.is_live else ():
            by_kind.setdefault(kind, []).append(node)
    known = [kind for kind in _KNOWN if kind in by_kind]
    others = sorted(by_kind.keys() - _KNOWN.keys() - _SAID_BY_HEALTH)
    lines = [_KNOWN[kind].format(who=_names(by_kind[kind])) for kind in known]
    return lines + [
        f"{kind.replace('_', ' ')}, an alarm of {_names(by_kind[kind])}: "
        f"`hstore monitor -h {by_kind[kind][0].address}` says what to do"
        for kind in others
    ]


def _names(nodes: list[NodeInfo]) -> str:
    return ", ".join(node.name for node in nodes)
