"""Puts together what users get of the cluster: the `/v1/cluster` object, and the view for DNS.

Functions of what is known and of the judgements of health; nothing is remembered here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

import msgspec

from hstore.dns.view import ClusterView
from hstore.dns.view import Member as DnsMember

from ..driver.facts import Facts
from ..model.cluster_info import ClusterInfo, NodeInfo
from ..model.commands import Member
from ..model.values import split_address
from .health import UNKNOWN, Judgement

_DOWN = frozenset({"failed", "stopped"})
"""Of a node that is so, what it reported of its speed and how long it runs is not so any more."""


def cluster_info(
    facts: Facts, judgements: Mapping[int, Judgement], *, cluster_id: str, in_contact: bool
) -> ClusterInfo:
    """Return the cluster as a node sees it.

    Args:
        facts: What the node knows.
        judgements: How the members are, by id.
        cluster_id: Named where the node has not yet applied the cluster's creation.
        in_contact: Whether the node is in contact with the leader; else none is named.
    """
    # While it waits for nodes, a cluster names no leader to anybody (`start --expect`).
    expect = facts.expect
    leader = facts.leader if in_contact and not expect else 0
    nodes = [
        _node_info(facts, member, leader, judgements.get(member.id, UNKNOWN))
        for member in sorted(facts.members.values(), key=_by_name)
    ]
    needed = len(facts.config.voters) // 2 + 1
    live = sum(node.voter and node.is_live for node in nodes)
    known = facts.members.get(leader)
    return ClusterInfo(
        cluster_id=facts.cluster_id or cluster_id,
        leader=known.name if known else None,
        term=facts.term,
        quorum=needed,
        failure_tolerance=max(live - needed, 0),
        zone=facts.settings.zone,
        nodes=nodes,
        waiting_for=expect,
    )


def _node_info(facts: Facts, member: Member, leader: int, judgement: Judgement) -> NodeInfo:
    health, contact_ms, figures, reason = judgement
    voter = facts.config.is_voter(member.id)
    kind = "leader" if member.id == leader else "follower" if voter else "learner"
    running = figures if health not in _DOWN else None
    return NodeInfo(
        name=member.name,
        id=f"{member.id:016x}",
        address=member.address,
        peer_address=member.peer_address,
        dns_address=member.dns_address,
        type=kind,
        voter=voter,
        health=health,
        term=figures.term if figures else None,
        commit_index=figures.commit_index if figures else None,
        applied_index=figures.applied_index if figures else None,
        last_contact_ms=contact_ms,
        version=figures.version if figures else None,
        uptime_s=running.uptime_s if running else None,
        reason=reason or None,
        disk_free=figures.disk_free if figures else None,
        disk_needed=figures.disk_needed if figures else None,
        writes_per_s=running.writes_per_s if running else None,
        fsync_ms=running.fsync_ms if running else None,
        alarms=figures.alarms if figures else (),
    )


def dns_view(
    facts: Facts,
    info: ClusterInfo,
    *,
    serial: int,
    reached_at: tuple[str, str] | None,
    is_stopping: bool,
) -> ClusterView | None:
    """Return what the DNS server shall answer from; None: it does not know the zone yet.

    Args:
        facts: What the node knows.
        info: What `cluster_info` returns.
        serial: Of the view; it rises with each change.
        reached_at: API and peer address of this node now, whatever the log says; None: as there.
        is_stopping: Whether this node is stopping on purpose.
    """
    own = facts.members.get(facts.id)
    if own is None:
        return None
    members = _dns_members(info, f"{facts.id:016x}", reached_at, is_stopping=is_stopping)
    return ClusterView(
        zone=facts.settings.zone,
        ttl_s=facts.settings.dns_ttl_s,
        serial=serial % 2**32,
        term=info.term,
        leader=info.leader,
        self_name=own.name,
        members=tuple(sorted(members, key=lambda member: member.name)),
    )


def _dns_members(
    info: ClusterInfo, own: str, reached_at: tuple[str, str] | None, *, is_stopping: bool
) -> Iterator[DnsMember]:
    """Return the members as DNS shows them: this node as it is, the others as they are known.

    A node that comes back at another address can tell the cluster only when it has found it, and
    is found by what its own DNS server answers. While there is no leader, no other node knows that
    it lives, either.
    """
    for node in info.nodes:
        if node.id == own and reached_at:
            address, peer_address = reached_at
            here = msgspec.structs.replace(node, address=address, peer_address=peer_address)
            member = _dns_member(here)
            live = member.live if info.leader else not is_stopping
            yield dataclasses.replace(member, live=live)
        elif info.leader is None and node.last_contact_ms is None:
            # Perhaps suspect only because it was just started: no node has ever heard of it.
            yield dataclasses.replace(_dns_member(node), live=False)
        else:
            yield _dns_member(node)


def _dns_member(node: NodeInfo) -> DnsMember:
    host, port = split_address(node.address)
    return DnsMember(
        name=node.name,
        node_id=node.id,
        host=host,
        api_port=port,
        peer_port=split_address(node.peer_address).port,
        live=node.is_live,
        voter=node.voter,
    )


def _by_name(member: Member) -> list[tuple[str, int]]:
    """Sort n2 before n10."""
    parts = re.findall(r"(\D*)(\d*)", member.name)
    return [(text, int(number or 0)) for text, number in parts]
