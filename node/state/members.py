"""What commands about the cluster itself do to the state: its settings and its members.

A part of the state machine (`machine.py`), under its rule: a function of the log alone. Which voters
the cluster has is not decided here but by the configurations in the log; all that is kept of them
is whether as many as were waited for have come.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..config import cluster_settings
from ..errors import StorageError
from ..model import commands, values
from ..model.commands import Member, Outcome
from ..raft.membership import Configuration
from . import records


class Changes(Protocol):
    """The effects of the entries so far, in front of the store."""

    cluster: records.Cluster
    members: dict[int, Member]
    removed: frozenset[int]

    def put(self, key: bytes, value: bytes) -> None:
        """Store `value` under `key`."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove `key`."""
        ...


def take_effect(batch: Changes, index: int, command: commands.Command) -> Outcome:
    """Let a command about the cluster, which stands at `index`, take effect in `batch`."""
    match command:
        case commands.InitCluster():
            return _init_cluster(batch, index, command)
        case commands.ChangeSetting():
            return _change_setting(batch, index, command)
        case commands.PutMember(member):
            return _put_member(batch, index, member)
        case commands.ChangeMember():
            return _change_member(batch, index, command)
        case commands.RemoveMember(node_id):
            return _remove_member(batch, index, node_id)
        case _:
            raise StorageError(f"a {type(command).__name__} is no command about the cluster")


def configuration(batch: Changes, config: Configuration) -> None:
    """Take note of a committed configuration: once enough voters have come, the wait is over.

    For good, so what it waited for is forgotten. A joint configuration is on the way to another.
    """
    expect = batch.cluster.expect
    if expect and not config.outgoing and len(config.voters) >= expect:
        _put_cluster(batch, msgspec.structs.replace(batch.cluster, expect=0))


def _put_cluster(batch: Changes, cluster: records.Cluster) -> None:
    batch.cluster = cluster
    batch.put(records.CLUSTER_KEY, records.encode_msgpack(cluster))


def _init_cluster(batch: Changes, index: int, command: commands.InitCluster) -> Outcome:
    if batch.cluster.cluster_id:
        is_there = f"the cluster exists already, its id is {batch.cluster.cluster_id}"
        return Outcome(False, 0, is_there)
    # Whoever creates a cluster is its first voter.
    expect = command.expect if command.expect > 1 else 0
    _put_cluster(batch, records.Cluster(command.cluster_id, command.settings, {}, expect))
    return Outcome(True, index)


def _change_setting(batch: Changes, index: int, command: commands.ChangeSetting) -> Outcome:
    cluster = batch.cluster
    try:
        settings = cluster_settings.changed(cluster.settings, command.field, command.value)
    except ValueError as error:
        return Outcome(False, 0, str(error))
    # In a fixed order: the same bytes on every node.
    changed = dict(sorted({**cluster.changed, command.field: index}.items()))
    _put_cluster(batch, msgspec.structs.replace(cluster, settings=settings, changed=changed))
    return Outcome(True, index)


def _put_member(batch: Changes, index: int, member: Member) -> Outcome:
    if member.id in batch.removed:
        return Outcome(
            False, 0, f"node {member.id:016x} was removed from the cluster and cannot come back"
        )
    others = {other.name for other in batch.members.values() if other.id != member.id}
    name = member.name or _default_name(batch, member.id, others)
    return _keep(batch, index, msgspec.structs.replace(member, name=name))


def _change_member(batch: Changes, index: int, command: commands.ChangeMember) -> Outcome:
    member = batch.members.get(command.id)
    if member is None:
        return Outcome(False, 0, f"node {command.id:016x} is no member of the cluster")
    api, peer, dns = command.addresses or (
        member.address,
        member.peer_address,
        member.dns_address,
    )
    changed = Member(
        member.id,
        member.name if command.name is None else command.name,
        api,
        peer,
        dns,
        member.learner if command.learner is None else command.learner,
        member.stopped if command.stopped is None else command.stopped,
    )
    return _keep(batch, index, changed)


def _keep(batch: Changes, index: int, member: Member) -> Outcome:
    """Store a member, unless its name or its address is another's."""
    if not values.is_name(member.name):
        return Outcome(
            False,
            0,
            f"the name {member.name!r} is not 1 to 63 of a-z, 0-9 and -, with no - at an end",
        )
    for other in batch.members.values():
        if other.id == member.id:
            continue
        if other.name == member.name:
            return Outcome(
                False, 0, f"the name {member.name} is taken by the node at {other.address}"
            )
        if other.address == member.address:
            return Outcome(False, 0, f"the address {member.address} is that of {other.name}")
    batch.members = {**batch.members, member.id: member}
    batch.put(records.id_key(records.MEMBER, member.id), records.encode_msgpack(member))
    return Outcome(True, index, member.name)


def _default_name(batch: Changes, node_id: int, taken: set[str]) -> str:
    """Return the name the node has already, or the first of n1, n2, … that nobody else has."""
    if node_id in batch.members:
        return batch.members[node_id].name
    number = 1
    while f"n{number}" in taken:
        number += 1
    return f"n{number}"


def _remove_member(batch: Changes, index: int, node_id: int) -> Outcome:
    if node_id in batch.removed:
        return Outcome(False, 0, f"node {node_id:016x} was removed before")
    # An id that was never a member is refused for good too: it may be a newcomer that gave up
    # between becoming a learner and being named.
    name = batch.members[node_id].name if node_id in batch.members else ""
    batch.members = {key: value for key, value in batch.members.items() if key != node_id}
    batch.removed |= {node_id}
    batch.delete(records.id_key(records.MEMBER, node_id))
    batch.put(records.id_key(records.REMOVED, node_id), b"")
    return Outcome(True, index, name)
