"""What a node may believe of its own disk: pure decisions, without files and without RocksDB.

Owns the rule that tells a torn tail from lost log (Alagappan et al., "Protocol-Aware Recovery for
Consensus-Based Storage", FAST'18). A crash takes writes that no flush covered: nobody was told of
them, and they are forgotten silently. When something is gone that a flush *had* covered, others
may count on it, and a node that forgot it could help to elect a leader that lacks it. Such a node
has to know.

Theory of operation. Every batch on the log has a number and ends with an `End`: that number, the
last index, its chain hash. Batches become durable in order, so a disk is described by one number.
After a flush has returned, the number that it covered is written down as a `Witness`, outside the
write-ahead log, for a log is cut at its first damaged record and would take its own witness with
it. Truncation changes nothing in this: numbers only grow, whatever the batch does to the log.

- `End` at or above the witness: nothing flushed was lost. Batches above it that are missing were a
  torn tail.
- `End` below the witness, or gone: acknowledged log, or a vote, was lost.
- An entry up to `End.index` that is missing or damaged: lost. Batches are whole or not there, so no
  crash does that; a disk does. When two entries are whole and do not fit together, all that is
  not applied goes: the older one may be a stale copy, and so may those before it. What the state has applied is not missed, though: the log is
  compacted to there, if that entry is whole and every configuration before it is known.

A node that lost something keeps what is whole, never falls below the witness's term, and has
`recover_to`: it neither votes nor stands until it has the log up to there again (`raft/core.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import StorageError
from ..raft import membership
from ..raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from ..raft.membership import Configuration
from . import codec
from .codec import End, Loss
from .interface import Recovered

RESET = (
    "This node cannot recover by itself: remove it from its cluster, and join it again with an"
    " empty directory"
)

Records = Callable[[int], Iterator[tuple[int, bytes | None]]]
"""Reads the log from an index on, in order: each index with its record, None where the disk
refuses. What lies behind such a place may be left out, but for the last entry of all."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What a flush that has returned made durable.

    Attributes:
        batch: Number of the last batch it covered.
        index: The last entry after that batch.
        hard_term, vote: The hard state after that batch.
    """

    batch: int
    index: int
    hard_term: int
    vote: int


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What was found, as it was found. None stands for a record that is missing or damaged.

    Attributes:
        hard_state: Term, vote and commit.
        snapshot: What the log starts after.
        end: What the last batch said of itself.
        loss: An earlier loss that is not made up for yet, or None.
        applied, applied_term: The last entry that the state has taken in.
        records: The log.
        configs: The second copies of the configuration entries in the log, by index.
        witness: What was durable for certain; None: nothing is known.
    """

    hard_state: HardState | None
    snapshot: SnapshotMeta | None
    end: End | None
    loss: Loss | None
    applied: int
    applied_term: int
    records: Records
    configs: Sequence[tuple[int, bytes | None]] = ()
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to go on with.

    Attributes:
        recovered: For the core.
        end: Where the log now ends, and the number of the batch to count on from.
        copies: What the second copies of configuration entries have to be.
        must_repair: The disk does not say the same: write all this in one batch, as number
            `end.batch`, before anything else.
    """

    recovered: Recovered
    end: End
    copies: dict[int, bytes]
    must_repair: bool


@dataclass(slots=True)
class _Log:
    """A whole piece of log, and where and why it stops being whole (0: it does not).

    `is_mixed`: the entry there is whole and does not continue the one before; which of the two is
    the stale one, and how many before it, cannot be seen.
    """

    start: int
    start_chain: bytes
    last_seen: int
    entries: list[Entry] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)
    copies: dict[int, bytes] = field(default_factory=dict)
    damaged: int = 0
    why: str = ""
    is_mixed: bool = False

    @property
    def last(self) -> int:
        return self.start + len(self.entries)

    @property
    def chain(self) -> bytes:
        return self.chains[-1] if self.chains else self.start_chain

    def cut(self, last: int) -> None:
        """Keep the entries up to `last`."""
        del self.entries[last - self.start :]
        del self.chains[last - self.start :]
        self.copies = {at: record for at, record in self.copies.items() if at <= last}

    def lose_from(self, index: int, why: str) -> None:
        """Give up the entries from `index` on as lost."""
        self.cut(index - 1)
        self.damaged, self.why = index, why


def recover(disk: OnDisk) -> Recovery:
    """Decide what a node goes on with.

    Raises:
        StorageError: It cannot go on with this disk; the text says what to do.
    """
    witness, end, applied = disk.witness, disk.end, disk.applied
    snapshot, hard_state = _companions(disk)
    is_short = witness is not None and (end is None or end.batch < witness.batch)

    log = _read(disk.records, snapshot.index, snapshot.chain if snapshot.index else codec.GENESIS)
    _check_end(log, end, hard_state.commit, applied)
    is_compacted = 0 < log.damaged <= applied
    if is_compacted:
        snapshot = _compacted(disk, snapshot, log)
        log = _read(disk.records, applied, snapshot.chain)
        _check_end(log, end, hard_state.commit, applied)

    loss = disk.loss
    if log.damaged or is_short or _is_older(disk.hard_state, witness):
        loss = _loss(log, disk, hard_state, is_short=is_short)
    recovered = Recovered(
        _newest(disk.hard_state, witness, log, min(max(hard_state.commit, applied), log.last)),
        snapshot,
        log.entries,
        applied,
        loss.recover_to if loss else 0,
        loss.text if loss else "",
    )
    copies_on_disk = {at: record for at, record in disk.configs if at > snapshot.index}
    must_repair = (
        loss != disk.loss
        or is_compacted
        or end is None
        or log.last_seen > log.last
        or copies_on_disk != log.copies
    )
    batch = max(end.batch if end else 0, witness.batch if witness else 0) + must_repair
    return Recovery(recovered, End(batch, log.last, log.chain), log.copies, must_repair)


def _companions(disk: OnDisk) -> tuple[SnapshotMeta, HardState]:
    """Return snapshot record and hard state, if it is possible to go on with them at all."""
    snapshot = disk.snapshot
    if snapshot is None:
        raise StorageError(f"the snapshot record is missing or damaged. {RESET}")
    if disk.applied < snapshot.index:
        raise StorageError(
            f"the log starts after entry {snapshot.index}, but the state ends at {disk.applied}:"
            f" the state was lost. {RESET}"
        )
    if disk.hard_state is None and disk.witness is None:
        raise StorageError(f"the hard state (term and vote) is missing or damaged. {RESET}")
    return snapshot, disk.hard_state or HardState()


def _read(records: Records, start: int, chain: bytes) -> _Log:
    """Read the log after `start`, whose chain hash is `chain`, as far as it is whole."""
    log = _Log(start, chain, start)
    for index, record in records(start + 1):
        log.last_seen = max(log.last_seen, index)
        if log.damaged:
            continue
        expected = log.last + 1
        try:
            found = _present(expected, index, record)
            entry, chain = codec.decode_entry(index, found, log.chain)
        except StorageError as error:
            log.damaged, log.why = expected, str(error)
            log.is_mixed = record is not None and index == expected and _is_whole(index, record)
            continue
        log.entries.append(entry)
        log.chains.append(chain)
        if entry.kind == EntryKind.CONFIG:
            log.copies[index] = found
    return log


def _present(expected: int, index: int, record: bytes | None) -> bytes:
    """Return the record that was found at `index`, where `expected` should be."""
    if index != expected:
        raise StorageError(f"entry {expected} of the log is missing")
    if record is None:
        raise StorageError(f"entry {expected} of the log cannot be read")
    return record


def _is_whole(index: int, record: bytes) -> bool:
    try:
        codec.entry_head(index, record)
    except StorageError:
        return False
    return True


def _check_end(log: _Log, end: End | None, commit: int, applied: int) -> None:
    """Hold the log against what the last batch, the commit index and the state say of it."""
    if log.is_mixed and log.damaged > applied:
        log.lose_from(applied + 1, log.why)
    if log.damaged:
        return
    if end is not None:
        if log.last > end.index >= log.start:
            # Behind the end of the last batch: nothing that was ever part of this log.
            log.cut(end.index)
        if log.last < end.index:
            log.lose_from(log.last + 1, f"the log ends at entry {log.last}, not at {end.index}")
        elif log.chain != end.chain:
            # Each entry fits the one before, and the whole is another log: an older one.
            log.lose_from(applied + 1, f"the log up to {log.last} is not the one last written")
    if log.last < max(commit, applied) and not log.damaged:
        log.lose_from(log.last + 1, f"the log ends at {log.last}, but {commit} is committed")


def _compacted(disk: OnDisk, snapshot: SnapshotMeta, log: _Log) -> SnapshotMeta:
    """Return what stands for the log up to what is applied, since the log itself has a hole.

    Raises:
        StorageError: That entry, or a configuration before it, is not known for certain.
    """
    applied = disk.applied
    try:
        chain = _chain_at_applied(disk)
        config = _configuration(snapshot, disk.configs, applied)
    except StorageError as error:
        raise StorageError(f"{log.why}; {error}. {RESET}") from error
    return SnapshotMeta(applied, disk.applied_term, config, chain)


def _chain_at_applied(disk: OnDisk) -> bytes:
    """Return the chain hash of the entry that the state has applied last."""
    found = next(iter(disk.records(disk.applied)), (0, None))
    record = _present(disk.applied, *found)
    chain, term, _ = codec.entry_head(disk.applied, record)
    if term != disk.applied_term:
        raise StorageError(
            f"entry {disk.applied} is of term {term}, and was applied as one of {disk.applied_term}"
        )
    return chain


def _configuration(
    snapshot: SnapshotMeta, configs: Iterable[tuple[int, bytes | None]], at: int
) -> Configuration:
    """Return the configuration in force at entry `at`, from the copies alone."""
    config = snapshot.config
    for index, record in configs:
        if snapshot.index < index <= at:
            if record is None:
                raise StorageError("a configuration cannot be read")
            codec.entry_head(index, record)
            config = membership.decode(codec.entry_data(record))
    return config


def _is_older(hard_state: HardState | None, witness: Witness | None) -> bool:
    """Whether a term or a vote is gone that was durable."""
    if hard_state is None:
        return True
    if witness is None or hard_state.term > witness.hard_term:
        return False
    return hard_state.term < witness.hard_term or witness.vote not in (0, hard_state.vote)


def _newest(found: HardState | None, witness: Witness | None, log: _Log, commit: int) -> HardState:
    """Return the newest term that anything on the disk knows of, and the vote in it."""
    if found is not None:
        ballots = [(found.term, found.vote)]
    else:
        ballots = [(log.entries[-1].term if log.entries else 0, 0)]
    if witness is not None:
        ballots.append((witness.hard_term, witness.vote))
    term = max(term for term, _ in ballots)
    vote = next((vote for at, vote in reversed(ballots) if at == term and vote), 0)
    return HardState(term, vote, commit)


def _loss(log: _Log, disk: OnDisk, hard_state: HardState, *, is_short: bool) -> Loss:
    """Say what was lost, and up to where others may count on this node."""
    promised = [hard_state.commit, log.last_seen]
    if disk.end is not None:
        promised.append(disk.end.index)
    if disk.loss is not None:
        promised.append(disk.loss.recover_to)
    if disk.witness is not None and is_short:
        promised.append(disk.witness.index)
    lost_to = max(promised)
    what = f"entries {log.last + 1} to {lost_to}" if lost_to > log.last else "a term or a vote"
    why = log.why or "the database ends before what was flushed" if is_short else log.why
    # Also when only a vote was lost there is an entry to wait for: a later leader's first.
    return Loss(max(lost_to, log.last + 1), f"{what} ({why})" if why else what)
