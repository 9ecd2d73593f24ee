"""The cluster itself: what commands about its settings and its members do.

Owns the records of the settings, of the members and of the ids that were removed. Under the rule of
the whole state: a function of the log alone. Which nodes vote is not decided here but by the
configurations in the log; all that is kept of them is whether as many voters have joined as the
cluster waits for.
"""

from __future__ import annotations

import msgspec

from ..config import cluster_settings
from ..model import values
from ..model.commands import (
    BecomeOnly,
    ChangeMember,
    ChangeSetting,
    InitCluster,
    Member,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from ..raft.entry import Entry
from ..raft.membership import Configuration
from ..storage.interface import StateReader
from . import records
from .batch import Batch, Effects, InMemory
from .catalog import checks, nodes
from .catalog import writes as catalog_writes
from .catalog.index import CATALOG
from .catalog.nodes import MEMBERS
from .catalog.records import fold
from .watching.changes import SETTINGS


def _load_cluster(view: StateReader) -> records.Cluster:
    found = view.get(records.CLUSTER_KEY)
    return records.Cluster() if found is None else records.decode_cluster(found)


def _load_removed(view: StateReader) -> frozenset[int]:
    found = view.scan(records.REMOVED, records.REMOVED_END)
    return frozenset(records.id_of(key) for key, _ in found)


CLUSTER = InMemory("cluster", _load_cluster)
REMOVED = InMemory("removed", _load_removed)


def configuration(batch: Batch, config: Configuration) -> None:
    """Take note of a committed configuration: with enough voters the cluster's wait for them ends.

    It ends for good, so the number is forgotten. A joint configuration does not count: it is on the
    way to another one.
    """
    cluster = batch.value(CLUSTER)
    expect = cluster.expect
    if expect and not config.outgoing and len(config.voters) >= expect:
        _put_cluster(batch, msgspec.structs.replace(cluster, expect=0))


def _put_cluster(batch: Batch, cluster: records.Cluster) -> None:
    batch.set_value(CLUSTER, cluster)
    batch.put(records.CLUSTER_KEY, records.encode_msgpack(cluster))
    batch.wakes.append((SETTINGS, b""))


def _init_cluster(batch: Batch, entry: Entry, command: InitCluster) -> Outcome:
    known = batch.value(CLUSTER).cluster_id
    if known:
        is_there = f"the cluster exists already, its id is {known}"
        return Outcome(False, 0, is_there)
    # The node that creates a cluster is its first voter: there is no wait for one.
    expect = command.expect if command.expect > 1 else 0
    _put_cluster(batch, records.Cluster(command.cluster_id, command.settings, {}, expect))
    return Outcome(True, entry.index)


def _change_setting(batch: Batch, entry: Entry, command: ChangeSetting) -> Outcome:
    cluster = batch.value(CLUSTER)
    try:
        settings = cluster_settings.changed(cluster.settings, command.field, command.value)
    except ValueError as error:
        return Outcome(False, 0, str(error))
    # In a fixed order: the same bytes on every node.
    changed = dict(sorted({**cluster.changed, command.field: entry.index}.items()))
    _put_cluster(batch, msgspec.structs.replace(cluster, settings=settings, changed=changed))
    return Outcome(True, entry.index)


def _put_member(batch: Batch, entry: Entry, command: PutMember) -> Outcome:
    return _let_in(batch, entry, command.member)


def _replace_member(batch: Batch, entry: Entry, command: ReplaceMember) -> Outcome:
    """Forget one member and store another, in this one step."""
    newcomer, members = command.member, batch.value(MEMBERS)
    gone = members.get(command.replaces)
    if gone is None and newcomer.id in members and command.replaces in batch.value(REMOVED):
        return _let_in(batch, entry, newcomer)  # it was done, but the answer was lost
    if gone is None or gone.id == newcomer.id:
        what = "itself" if gone else f"node {command.replaces:016x}, which is no member"
        return Outcome(False, 0, f"node {newcomer.id:016x} cannot replace {what}")
    newcomer = msgspec.structs.replace(newcomer, name=newcomer.name or gone.name)
    refusal = _refusal(batch, newcomer, gone.id)
    if refusal:
        return Outcome(False, 0, refusal)
    _forget(batch, gone.id)
    if newcomer.id in members:
        _leave_catalog(batch, entry, gone)
        return _keep(batch, entry, newcomer)
    # With all that is registered there.
    outcome = _keep(batch, entry, newcomer, gone.catalog_number)
    nodes.forget_names(batch, entry.index, nodes.member_uuid(gone.id))
    _renamed(batch, entry.index, gone.catalog_number, gone.name, newcomer.name)
    return outcome


def _let_in(batch: Batch, entry: Entry, member: Member) -> Outcome:
    """Store a member as it asks to be, under a name that it gets if it has none."""
    if not member.name:
        others = {one.name for one in batch.value(MEMBERS).values() if one.id != member.id}
        name = _default_name(batch, member.id, others)
        member = msgspec.structs.replace(member, name=name)
    refusal = _refusal(batch, member)
    return Outcome(False, 0, refusal) if refusal else _keep(batch, entry, member)


def _refusal(batch: Batch, member: Member, gone: int = 0) -> str:
    """Return why this cannot be a member, and what helps; empty: it can be.

    Args:
        batch: What has taken effect.
        member: The member as it shall be.
        gone: Id of the member whose place it takes; 0: of none.
    """
    if member.id in batch.value(REMOVED):
        return (
            f"node {member.id:016x} was removed from the cluster and cannot come back; "
            "`hstore join` with an empty --data-dir makes a new member"
        )
    if member.id in batch.value(CATALOG).externals:
        return f"the id {member.id:016x} is that of an external node; join with another one"
    other, conflict = _conflict(batch, member, gone)
    if other is None:
        return conflict
    return (
        f"{conflict}; if that node is gone for good, `hstore join --replace {other.name}` takes its "
        f"place, and `hstore leave -h {other.name}` removes it"
    )


def _change_member(batch: Batch, entry: Entry, command: ChangeMember) -> Outcome:
    member = batch.value(MEMBERS).get(command.id)
    if member is None:
        return Outcome(False, 0, f"node {command.id:016x} is no member of the cluster")
    api, peer, dns = command.addresses or (
        member.address,
        member.peer_address,
        member.dns_address,
    )
    changed = msgspec.structs.replace(
        member,
        name=member.name if command.name is None else command.name,
        address=api,
        peer_address=peer,
        dns_address=dns,
        learner=member.learner if command.learner is None else command.learner,
        stopped=member.stopped if command.stopped is None else command.stopped,
    )
    _, conflict = _conflict(batch, changed)
    return Outcome(False, 0, conflict) if conflict else _keep(batch, entry, changed)


def _conflict(batch: Batch, member: Member, gone: int = 0) -> tuple[Member | None, str]:
    """Return why a member cannot be stored, and the other member in its way, if any; empty: it can."""
    if not values.is_name(member.name):
        return (
            None,
            f"the name {member.name!r} is not 1 to 63 of a-z, 0-9 and -, with no - at an end",
        )
    for other in batch.value(MEMBERS).values():
        if other.id in {member.id, gone}:
            continue
        if other.name == member.name:
            return other, f"the name {member.name} is taken by the node at {other.address}"
        if other.address == member.address:
            return other, f"the address {member.address} is that of {other.name}"
    if fold(member.name) in batch.value(CATALOG).numbers:
        return None, f"the name {member.name} is taken by an external node"
    return None, ""


def _keep(batch: Batch, entry: Entry, member: Member, number: int = 0) -> Outcome:
    """Store a member.

    Args:
        batch: What has taken effect.
        entry: The entry that does it.
        member: As it shall be; its number and its indexes are set here.
        number: Of a new member: its catalog number; 0: its id.
    """
    members, index = batch.value(MEMBERS), entry.index
    before = members.get(member.id)
    create_index = modify_index = index
    if before is not None:
        number, create_index = before.number, before.create_index
        if (member.name, member.address) == (before.name, before.address):
            modify_index = before.modify_index
    member = msgspec.structs.replace(
        member,
        number=0 if number == member.id else number,
        create_index=create_index,
        modify_index=modify_index,
    )
    record = records.encode_msgpack(member)
    batch.set_value(MEMBERS, {**members, member.id: member})
    batch.put(records.id_key(records.MEMBER, member.id), record)
    if before is None:
        checks.make_serf_health(batch, index, member.catalog_number)
        if not members and not number:  # The first one brings the service `consul`.
            catalog_writes.touch_set(batch, index)
    if modify_index == index:
        nodes.note_change(batch, index, member.catalog_number, record)
        catalog_writes.touch_members(batch, index)
        catalog_writes.touch_node(batch, index, member.catalog_number, health=True)
    if before is not None:
        _renamed(batch, index, member.catalog_number, before.name, member.name)
    return Outcome(True, index, member.name)


def _renamed(batch: Batch, index: int, number: int, before: str, after: str) -> None:
    """Note the new name of a node, if it is one, for who asks by the old name or sees its checks."""
    if before != after:
        nodes.forget_names(batch, index, before)
        catalog_writes.touch_shown(batch, index, number)


def _leave_catalog(batch: Batch, entry: Entry, member: Member) -> None:
    """Remove the node of a member that goes from the catalog, with its services and checks.

    Its sessions are many, perhaps: the leader ends them one by one.
    """
    number = member.catalog_number
    catalog_writes.remove_node(batch, entry.index, number)
    nodes.forget_names(batch, entry.index, member.name, nodes.member_uuid(member.id))
    nodes.note_change(batch, entry.index, number, None)
    catalog_writes.touch_members(batch, entry.index)


def _default_name(batch: Batch, node_id: int, taken: set[str]) -> str:
    """Return the name the node has already, or the first of n1, n2, … that no other node has."""
    known = batch.value(MEMBERS).get(node_id)
    if known is not None:
        return known.name
    number = 1
    externals = batch.value(CATALOG).numbers
    while f"n{number}" in taken or fold(f"n{number}") in externals:
        number += 1
    return f"n{number}"


def _remove_member(batch: Batch, entry: Entry, command: RemoveMember) -> Outcome:
    node_id, members = command.id, batch.value(MEMBERS)
    if node_id in batch.value(REMOVED):
        return Outcome(False, 0, f"node {node_id:016x} was removed before")
    # An id that was never a member is refused for good too: it may be a newcomer that gave up
    # between becoming a learner and being named.
    member = members.get(node_id)
    _forget(batch, node_id)
    if member is None:
        return Outcome(True, entry.index)
    _leave_catalog(batch, entry, member)
    return Outcome(True, entry.index, member.name)


def _forget(batch: Batch, node_id: int) -> None:
    """Forget a member, and refuse its id from now on (rule D14)."""
    members, removed = batch.value(MEMBERS), batch.value(REMOVED)
    batch.set_value(MEMBERS, {key: value for key, value in members.items() if key != node_id})
    batch.set_value(REMOVED, removed | {node_id})
    batch.delete(records.id_key(records.MEMBER, node_id))
    batch.put(records.id_key(records.REMOVED, node_id), b"")


def _become_only(batch: Batch, entry: Entry, command: BecomeOnly) -> Outcome:
    cluster, members = batch.value(CLUSTER), batch.value(MEMBERS)
    if cluster.cluster_id:  # else the node that leads will create the cluster
        # `expect`: a cluster that waits for more voters serves no client, and those voters are gone.
        renamed = msgspec.structs.replace(cluster, cluster_id=command.cluster_id, expect=0)
        _put_cluster(batch, renamed)
    gone = (members.keys() | set(command.others)) - {command.id}
    removed = batch.value(REMOVED)
    for node_id in sorted(gone):
        batch.delete(records.id_key(records.MEMBER, node_id))
        batch.put(records.id_key(records.REMOVED, node_id), b"")
        if node_id in members:
            _leave_catalog(batch, entry, members[node_id])
    if command.id in removed:
        batch.delete(records.id_key(records.REMOVED, command.id))
    batch.set_value(REMOVED, (removed | gone) - {command.id})
    own = members.get(command.id)
    if own is not None:
        own = msgspec.structs.replace(own, learner=False, stopped=False)
        batch.put(records.id_key(records.MEMBER, own.id), records.encode_msgpack(own))
    batch.set_value(MEMBERS, {} if own is None else {own.id: own})
    return Outcome(True, entry.index)


IN_MEMORY = (CLUSTER, REMOVED)

EFFECTS: Effects = {
    InitCluster: _init_cluster,
    ChangeSetting: _change_setting,
    PutMember: _put_member,
    ChangeMember: _change_member,
    RemoveMember: _remove_member,
    ReplaceMember: _replace_member,
    BecomeOnly: _become_only,
}
