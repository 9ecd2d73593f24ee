"""Makes a cluster of one from the directory of a stopped node, after a lost majority: `hstore recover`.

Owns the report of what a directory holds (`survey`), and the steps that make its node the only voter
of a new cluster (`take_over`). The bytes, and the order that survives a crash, are the storage's
(`RecoverableStorage.become`).

Theory of operation. No rule of consensus allows this: a majority may have agreed on entries that
this directory lacks, and it may hold entries that no majority agreed on, which now take effect. So it
is an operator's act on a stopped node, and its result is another cluster. Its id is new, and every
link and every join compares the id: no node of the old cluster exchanges messages of consensus with
it, and two members of one old cluster that are both recovered are two clusters for good.

The log goes on where it ends, and where it was lost, behind what was lost: so revisions never go
back. Behind it come a configuration in which this node alone votes, and a command that gives the
state its new id and only this member (`commands.BecomeOnly`). All of it is written as committed, in
a term of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ..errors import Refused, StorageError
from ..model import commands
from ..model.commands import BecomeOnly
from ..raft import membership
from ..raft.entry import Entry, EntryKind, HardState
from ..raft.membership import Configuration
from ..state.machine import State
from ..storage.directory import recovered_from
from ..storage.interface import Identity, RecoverableStorage, Recovered, StateStore, Use
from ..storage.rocks import RocksStorage

_CACHE_BYTES = 16 << 20

_ENTRIES_AT_ONCE = 256
"""Applied as one batch: some MiB at most."""


class FormerMember(msgspec.Struct, frozen=True):
    """A member, as the directory knows it; name and address are empty where only its id is known."""

    name: str
    id: str
    address: str
    voter: bool


class Survey(msgspec.Struct, frozen=True):
    """What a directory holds.

    Attributes:
        data_dir: The directory.
        cluster_id, zone: Of the cluster that it belongs to.
        recovered_from: The cluster that it belonged to before `hstore recover`; null: none.
        name, id: Of its node; the name is empty where the directory does not know it yet.
        is_voter: Whether this node votes in its cluster.
        keys: How many keys of users the state has; all of it was read.
        last_index, last_term: The last whole entry of the log.
        term: The newest term that the node has seen.
        durable_index: The last entry that was flushed for certain, as the witness says; null:
            there is no witness.
        commit_index: The last entry that the node knew to be agreed on, as written with its vote;
            the cluster may have agreed on more.
        applied_index: The last entry whose effect is in the state.
        lost: What was lost of the log that had been acknowledged, in words; null: nothing.
        recover_to: The last index that was lost; null: nothing was.
        only_voter: Whether this node is the only member of its cluster, and has lost nothing: it
            leads as soon as it is started.
        unfinished: Whether an earlier recovery was cut short.
        members: All members, this node among them.
    """

    data_dir: str
    cluster_id: str
    zone: str
    recovered_from: str | None
    name: str
    id: str
    is_voter: bool
    keys: int
    last_index: int
    last_term: int
    term: int
    durable_index: int | None
    commit_index: int
    applied_index: int
    lost: str | None
    recover_to: int | None
    only_voter: bool
    unfinished: bool
    members: list[FormerMember]


async def survey(path: Path) -> Survey:
    """Return what a directory holds. Changes nothing in it.

    Raises:
        Refused: It holds no log yet.
        StorageError: It is in use, or damaged beyond what recovery can do; the text says what then.
    """
    storage = RocksStorage.open(path, cache_bytes=_CACHE_BYTES, use=Use.LOOK)
    try:
        return _survey(path, storage)
    finally:
        await storage.close()


async def make_only_voter(path: Path) -> Survey:
    """Make the node of a directory the only voter of a new cluster; return what it holds then.

    Where it is that already, nothing is changed; where it was begun and cut short, it is finished.

    Raises:
        Refused, StorageError: As `survey`; or an entry is not known to this version.

    Cancellation: the same as a crash: repeat it.
    """
    storage = RocksStorage.open(path, cache_bytes=_CACHE_BYTES, use=Use.RECOVER)
    try:
        before = _survey(path, storage)
        if not before.only_voter:
            await take_over(storage, secrets.token_hex(8))
        return _survey(path, storage)
    finally:
        await storage.close()


async def take_over(storage: RecoverableStorage, cluster_id: str) -> None:
    """Make the node of an open storage the only voter of the cluster `cluster_id`, durably.

    Raises:
        StorageError: The disk refuses, or the log has an entry that this version does not know.
    """
    found = storage.load()
    state = State(storage.state)
    identity = Identity(cluster_id, storage.identity.node_id)
    hard_state, entries = plan(found, state.members, identity)
    pending = [e for e in (*found.entries, *entries) if e.index > state.applied]
    _check_known(pending)
    storage.become(identity, hard_state, entries)
    await storage.flush()
    # Not needed for safety: the node would apply them when it starts. But so the directory shows at
    # once what it has become, and what cannot be applied is known now.
    for at in range(0, len(pending), _ENTRIES_AT_ONCE):
        state.apply(pending[at : at + _ENTRIES_AT_ONCE])
    await storage.flush()


def plan(
    found: Recovered, members: Iterable[int], identity: Identity
) -> tuple[HardState, list[Entry]]:
    """Return the hard state, and the entries that end the log, of the only voter of a new cluster.

    Args:
        found: The log of its directory.
        members: The ids of the members in its state, which may be behind.
        identity: Of the new cluster.
    """
    own = identity.node_id
    term = max(found.hard_state.term, _last_term(found)) + 1
    # Indexes of what was lost are filled with entries that do nothing: clients have seen these
    # numbers as revisions, and none may mean something else now.
    last = max(_last_index(found), found.recover_to)
    lost = range(_last_index(found) + 1, last + 1)
    known = {node for config in _configurations(found) for node in config.all_members()}
    others = tuple(sorted(known.union(members) - {own}))
    config = Configuration(voters=(own,))
    command = BecomeOnly(identity.cluster_id, own, others)
    entries = [
        *(Entry(index, term, EntryKind.NOOP, b"") for index in lost),
        Entry(last + 1, term, EntryKind.CONFIG, membership.encode(config)),
        Entry(last + 2, term, EntryKind.COMMAND, commands.encode(command)),
    ]
    return HardState(term, own, last + 2), entries


def _check_known(entries: Sequence[Entry]) -> None:
    """Raise `StorageError` if one of these entries cannot be applied by this version."""
    for entry in entries:
        try:
            if entry.kind == EntryKind.COMMAND:
                commands.decode(entry.data)
        except msgspec.DecodeError as error:
            raise StorageError(
                f"entry {entry.index} holds a command that this version does not know ({error}):"
                " upgrade hstore before you recover"
            ) from error


def _configurations(found: Recovered) -> list[Configuration]:
    """Return the configurations of the log, the one in force last."""
    changes = [membership.decode(e.data) for e in found.entries if e.kind == EntryKind.CONFIG]
    return [found.snapshot.config, *changes]


def _last_index(found: Recovered) -> int:
    return found.snapshot.index + len(found.entries)


def _last_term(found: Recovered) -> int:
    return found.entries[-1].term if found.entries else found.snapshot.term


def _survey(path: Path, storage: RocksStorage) -> Survey:
    found = storage.load()
    if not _last_index(found):
        raise Refused(
            f"{path} is of a node that had only begun to join a cluster: it holds nothing to recover;"
            " name another member's directory, or go on with `hstore join`"
        )
    state, own = State(storage.state), storage.identity.node_id
    config = _configurations(found)[-1]
    members = [
        FormerMember(m.name, f"{m.id:016x}", m.address, config.is_voter(m.id))
        for m in sorted(state.members.values(), key=lambda member: (member.name, member.id))
    ]
    members += [
        FormerMember("", f"{node:016x}", "", config.is_voter(node))
        for node in config.all_members()
        if node not in state.members
    ]
    is_alone = config == Configuration(voters=(own,)) and state.members.keys() <= {own}
    return Survey(
        data_dir=str(path),
        cluster_id=storage.identity.cluster_id,
        zone=state.settings.zone,
        recovered_from=recovered_from(path) or None,
        name=state.members[own].name if own in state.members else "",
        id=f"{own:016x}",
        is_voter=config.is_voter(own),
        keys=_count_keys(storage.state),
        last_index=_last_index(found),
        last_term=_last_term(found),
        term=found.hard_state.term,
        durable_index=storage.durable.index if storage.durable else None,
        commit_index=found.hard_state.commit,
        applied_index=state.applied,
        lost=found.lost or None,
        recover_to=found.recover_to or None,
        only_voter=is_alone and not found.recover_to and not storage.is_unfinished,
        unfinished=storage.is_unfinished,
        members=members,
    )


def _count_keys(store: StateStore) -> int:
    """Read the whole state, and count the keys of users: RocksDB checks each block as it reads."""
    view = store.view(bulk=True)
    try:
        return sum(key.startswith(b"k") for key, _ in view.scan(b""))
    finally:
        view.close()
