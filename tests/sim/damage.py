"""Disks that lose what they had promised to keep, and what a restart makes of them.

A restart goes through the very decision that a real one goes through (`node/storage/recovery.py`),
with records made of the simulated log, whole or damaged, and a witness of what was durable. A crash
alone must never look like a loss. What really is lost, the checker remembers as *owed*: it may count
as durable, for a node that lost something neither votes nor stands until it has it again.

At most a minority of the voters of every configuration that may count has lost something at any
time, and never one of less than three: otherwise what was committed may be gone for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hstore.node.errors import StorageError
from hstore.node.raft.entry import EntryKind, SnapshotMeta
from hstore.node.storage import codec, recovery
from hstore.node.storage.codec import End

from . import configurations
from .disk import Image
from .options import stream
from .tape import decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

KINDS = ("entry", "entry", "unreadable", "misdirected", "tail", "tail", "hard state", "end")
"""A record with a wrong bit, one that cannot be read, one of another place; the last batches gone
though they were flushed; the hard state, or the end of the last batch, damaged."""

Damage = tuple[str, int]
"""A kind, and where: an entry from the end, or how many batches."""

_CHAIN_MASK = (1 << 8 * codec.CHAIN_SIZE) - 1


class Damages:
    """The damage to disks of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._rng = stream(seed, "damage")

    @decision(lambda _, node: node, lambda *_: None)
    def draw_damage(self, node: int) -> Damage | None:
        """Return what has happened to a disk while its node was down, if anything."""
        if self._rng.random() >= self.sim.options.damage:
            return None
        return self._rng.choice(KINDS), self._rng.randrange(12)

    def recover(self, node: SimNode) -> bool:
        """Make of a disk what a restart makes of it; return whether the node can start."""
        disk, counts = node.disk, self.sim.counts
        damage: Damage | None = None
        # A power cut that takes the witness, and a disk that breaks, are not one misfortune.
        may_break = self.sim.options.damage and not disk.is_witness_late
        if may_break and not self.sim.is_healed and self.may_damage(node.id):
            damage = self.draw_damage(node.id)
        before = disk.durable
        image = before
        if damage is not None and damage[0] == "tail":
            image = disk.lose_batches(damage[1])
        try:
            found = recovery.recover(on_disk(image, disk.witness, damage))
        except StorageError:
            counts["damaged disks given up"] += 1
            self.sim.disks.give_up(node)
            return False
        recovered = found.recovered
        had_lost = before.loss is not None
        self._check_entries(node, image, found)
        self._check_loss(node, image, found, damage[0] if damage else "")
        if damage is None and recovered.recover_to and not had_lost:
            self.sim.checker.fail("R11", node, f"takes a crash for a loss: {recovered.lost}")
        if recovered.recover_to:
            counts["starts with lost log"] += 1
            if damage is not None:
                counts[f"damage: {damage[0]}"] += 1
            disk.owe(before, recovered.recover_to)
        elif damage is not None:
            counts["damage that took nothing"] += 1
        if found.must_repair or image is not before:
            disk.adopt(_repaired(image, found))
        return True

    def _check_entries(self, node: SimNode, image: Image, found: recovery.Recovery) -> None:
        """What a restart takes for whole must be what was written."""
        first = found.recovered.snapshot.index - image.base.index
        written = image.entries[first : found.end.index - image.base.index]
        if list(found.recovered.entries) != written:
            self.sim.checker.fail("R11", node, "takes damaged entries for whole")

    def _check_loss(self, node: SimNode, image: Image, found: recovery.Recovery, kind: str) -> None:
        """What shows on the disk to have been there must be missed."""
        recovered, witness = found.recovered, node.disk.witness
        is_known = kind in ("entry", "unreadable", "misdirected")
        if is_known and found.end.index < image.last_index > recovered.recover_to:
            text = f"has {found.end.index} of {image.last_index}, misses {recovered.recover_to}"
            self.sim.checker.fail("R11", node, text)
        if witness is None:
            return
        if witness.batch > image.batch and not recovered.recover_to:
            self.sim.checker.fail("R11", node, "has lost what was flushed, and does not know it")
        if witness.hard_term > recovered.hard_state.term:
            self.sim.checker.fail("R11", node, f"falls below term {witness.hard_term}")

    def may_damage(self, node_id: int) -> bool:
        """Whether the others are a sound majority of every configuration that may count."""
        configs, nodes = self.sim.possible_configs(), self.sim.nodes
        if any(len(half) < 3 for c in configs for half in (c.voters, c.outgoing) if half):
            return False
        sound = [n for n in nodes if n != node_id and nodes[n].is_sound()]
        return bool(configs) and all(configurations.has_majority(c, sound) for c in configs)


def _chain(image: Image) -> bytes:
    if not image.base.index:
        return codec.GENESIS
    return (image.base_chain & _CHAIN_MASK).to_bytes(codec.CHAIN_SIZE)


def on_disk(
    image: Image, witness: recovery.Witness | None, damage: Damage | None
) -> recovery.OnDisk:
    """Return an image as a restart finds it, with this damage."""
    base, chain = image.base, _chain(image)
    snapshot = SnapshotMeta(base.index, base.term, base.config, chain if base.index else b"")
    records: dict[int, bytes | None] = {}
    copies: list[tuple[int, bytes | None]] = []
    for entry in image.entries:
        record, chain = codec.encode_entry(entry, chain)
        records[entry.index] = record
        if entry.kind == EntryKind.CONFIG:
            copies.append((entry.index, record))
    kind, place = damage or ("", 0)
    at = image.last_index - place
    if at in records:
        match kind:
            case "entry":
                records[at] = bytes(19) + (records[at] or b"")[19:]
            case "unreadable":
                records[at] = None
            case "misdirected":
                records[at] = records.get(at - 1, b"")

    def read(first: int) -> Iterator[tuple[int, bytes | None]]:
        return ((index, record) for index, record in records.items() if index >= first)

    applied = image.content.applied
    offset = applied - base.index
    return recovery.OnDisk(
        None if kind == "hard state" else image.hard,
        snapshot,
        None if kind == "end" else End(image.batch, image.last_index, chain),
        image.loss,
        applied,
        image.entries[offset - 1].term if offset > 0 else base.term,
        read,
        copies,
        witness,
    )


def _repaired(image: Image, found: recovery.Recovery) -> Image:
    """Return an image after the batch that repairs it."""
    recovered = found.recovered
    new = image.copy()
    if recovered.snapshot.index > image.base.index:
        new.compact(recovered.snapshot)
    new.truncate(found.end.index + 1)
    new.hard = recovered.hard_state
    new.loss = None
    if recovered.recover_to:
        new.loss = codec.Loss(recovered.recover_to, recovered.lost)
    new.batch = found.end.batch
    return new
