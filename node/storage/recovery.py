"""What a node may believe of its own disk: pure decisions, without files and without RocksDB.

Owns the rule that tells a torn tail from a lost log (Alagappan et al., "Protocol-Aware Recovery for
Consensus-Based Storage", FAST'18). A crash takes writes that no flush covered. No answer was given
for them, so they are forgotten silently. If something is gone that a flush *had* covered, other
nodes may count on it: a node that forgot it could help to elect a leader without it, and so has to
know of its loss.

Theory of operation. Every batch on the log has a number and ends with an `End`: that number, the
last index, its chain hash. Batches become durable in order, so one number describes how far a disk
is. After a flush has returned, the number that it covered is written down as a `Witness`. That is
kept outside the WAL, which RocksDB cuts at its first damaged record: a witness in it would be lost
together with what it is a witness of. Truncation does not matter here: numbers only grow, whatever
a batch does to the log.

Rule 1: `End` at or above the witness: nothing flushed was lost. Missing batches above it were a
torn tail.
Rule 2: `End` below the witness, or missing: acknowledged entries, or a vote, were lost.
Rule 3: an entry up to `End.index` that is missing or damaged was lost. A crash leaves whole
batches, so this is the disk's doing.
Rule 4: two entries that are intact and do not follow each other: everything that is not applied is
given up. The older one may be an outdated copy, and so may those before it.
Rule 5: entries that the state has applied are not missed. The log is compacted to there, if that
entry is intact and every configuration before it is known.
Rule 6: a node that lost something keeps what is intact, never goes below the witness's term, and
has `recover_to`: it neither votes nor stands for election before it has the log up to there again
(`raft/core.py`).
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
    "This node cannot recover by itself. While a majority of the others lives, remove it from its"
    " cluster (`hstore leave -h NAME`) and `hstore join` with an empty directory; else"
    " `hstore recover` another member's directory. Keep this one until then"
)

Records = Callable[[int], Iterator[tuple[int, bytes | None]]]
"""Reads the log from an index on, in order: each index with its record, or None where the disk
refuses. Behind such a place entries may be left out, except the last of all."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What a finished flush made durable.

    Attributes:
        batch: Number of the last batch that it covered.
        index: The last entry after that batch.
        hard_term, vote: The hard state after that batch.
    """

    batch: int
    index: int
    hard_term: int
    vote: int


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What was found, as it was found. None is a record that is missing or damaged.

    Attributes:
        hard_state: Term, vote and commit.
        snapshot: The snapshot that the log starts after.
        end: The end that the last batch recorded.
        loss: An earlier loss that is not made up for yet, or None.
        applied, applied_term: The last entry whose effects are in the state.
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
    """What the node starts with.

    Attributes:
        recovered: For the core.
        end: Where the log now ends, and the batch number to continue from.
        copies: The second copies of configuration entries that the disk must have.
        must_repair: The disk does not have all this yet: write it in one batch, with number
            `end.batch`, before anything else.
    """

    recovered: Recovered
    end: End
    copies: dict[int, bytes]
    must_repair: bool


@dataclass(slots=True)
class _Log:
    """An intact piece of log; `damaged` is the index at which it stops being intact (0: nowhere).

    `is_mixed`: the entry there is intact but does not follow the one before. Which of the two is
    the outdated one, and how many before it, cannot be told.
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
        """Drop the entries from `index` on, and record them as lost."""
        self.cut(index - 1)
        self.damaged, self.why = index, why


def recover(disk: OnDisk) -> Recovery:
    """Decide what a node starts with.

    Raises:
        StorageError: It cannot start with this disk; the text says what to do.
    """
    witness, end, applied = disk.witness, disk.end, disk.applied
    snapshot, hard_state = _companions(disk)
    # Rule 2. Without a witness (an older database, or its file is gone) only the log itself can
    # show a loss.
    is_short = witness is not None and (end is None or end.batch < witness.batch)

    log = _read(disk.records, snapshot.index, snapshot.chain if snapshot.index else codec.GENESIS)
    _check_end(log, end, hard_state.commit, applied)
    # Rule 5.
    is_compacted = 0 < log.damaged <= applied
    if is_compacted:
        snapshot = _compacted(disk, snapshot, log)
        log = _read(disk.records, applied, snapshot.chain)
        _check_end(log, end, hard_state.commit, applied)

    loss = disk.loss
    # Rules 1 to 4: what is missing now was promised, so the core has to know. An earlier loss stays
    # until the log is whole again; a new one takes it in.
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
    # Also when entries lie behind the end: the next batch would otherwise join them to the log.
    must_repair = (
        loss != disk.loss
        or is_compacted
        or end is None
        or log.last_seen > log.last
        or copies_on_disk != log.copies
    )
    # Never a number that a witness may know from a batch that is gone: it would seem to be that
    # batch.
    batch = max(end.batch if end else 0, witness.batch if witness else 0) + must_repair
    return Recovery(recovered, End(batch, log.last, log.chain), log.copies, must_repair)


def _companions(disk: OnDisk) -> tuple[SnapshotMeta, HardState]:
    """Return snapshot record and hard state, or raise if the node cannot start without them."""
    snapshot = disk.snapshot
    if snapshot is None:
        raise StorageError(f"the snapshot record is missing or damaged. {RESET}")
    # The state has forgotten effects whose entries are compacted: nothing on this disk has them.
    if disk.applied < snapshot.index:
        raise StorageError(
            f"the log starts after entry {snapshot.index}, but the state ends at {disk.applied}:"
            f" the state was lost. {RESET}"
        )
    # A node without its term and vote could vote twice in a term. A witness has both, as of its
    # flush.
    if disk.hard_state is None and disk.witness is None:
        raise StorageError(f"the hard state (term and vote) is missing or damaged. {RESET}")
    return snapshot, disk.hard_state or HardState()


def _read(records: Records, start: int, chain: bytes) -> _Log:
    """Read the log behind `start`, whose chain hash is `chain`, as far as it is intact."""
    log = _Log(start, chain, start)
    for index, record in records(start + 1):
        log.last_seen = max(log.last_seen, index)
        # Read on only to learn how far the log reached.
        if log.damaged:
            continue
        expected = log.last + 1
        try:
            found = _present(expected, index, record)
            entry, chain = codec.decode_entry(index, found, log.chain)
        except StorageError as error:
            log.damaged, log.why = expected, str(error)
            # An intact record that does not follow: one of the two is an outdated version (rule 4).
            log.is_mixed = record is not None and index == expected and _is_whole(index, record)
            continue
        log.entries.append(entry)
        log.chains.append(chain)
        if entry.kind == EntryKind.CONFIG:
            log.copies[index] = found
    return log


def _present(expected: int, index: int, record: bytes | None) -> bytes:
    """Return `record`, which was found at `index`, if that is the index `expected`."""
    if index != expected:
        raise StorageError(f"entry {expected} of the log is missing")
    if record is None:
        raise StorageError(f"entry {expected} of the log cannot be read")
    return record


def _is_whole(index: int, record: bytes) -> bool:
    """Whether the CRC of a record is right."""
    try:
        codec.entry_head(index, record)
    except StorageError:
        return False
    return True


def _check_end(log: _Log, end: End | None, commit: int, applied: int) -> None:
    """Compare the log with the last batch, the commit index and the state."""
    # Rule 4.
    if log.is_mixed and log.damaged > applied:
        log.lose_from(applied + 1, log.why)
    if log.damaged:
        return
    if end is not None:
        if log.last > end.index >= log.start:
            # Records behind the end of the last batch were never part of this log.
            log.cut(end.index)
        if log.last < end.index:
            log.lose_from(log.last + 1, f"the log ends at entry {log.last}, not at {end.index}")
        elif log.chain != end.chain:
            # Each entry follows the one before, but the whole is not the log that was written last:
            # it is an older one.
            log.lose_from(applied + 1, f"the log up to {log.last} is not the one last written")
    # What is committed or applied was durable, whether or not an `End` is left to say so.
    if log.last < max(commit, applied) and not log.damaged:
        log.lose_from(log.last + 1, f"the log ends at {log.last}, but {commit} is committed")


def _compacted(disk: OnDisk, snapshot: SnapshotMeta, log: _Log) -> SnapshotMeta:
    """Return a snapshot record for everything applied, to replace a log with a hole in it.

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
    """Return the chain hash of the last applied entry."""
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
    """Return the configuration in force at entry `at`, from the second copies alone."""
    config = snapshot.config
    for index, record in configs:
        if snapshot.index < index <= at:
            if record is None:
                raise StorageError("a configuration cannot be read")
            codec.entry_head(index, record)
            config = membership.decode(codec.entry_data(record))
    return config


def _is_older(hard_state: HardState | None, witness: Witness | None) -> bool:
    """Whether a term or a vote that was durable is lost."""
    if hard_state is None:
        return True
    if witness is None or hard_state.term > witness.hard_term:
        return False
    return hard_state.term < witness.hard_term or witness.vote not in (0, hard_state.vote)


def _newest(found: HardState | None, witness: Witness | None, log: _Log, commit: int) -> HardState:
    """Return the newest term that is known from anything on the disk, and the vote in it."""
    # The newest of all: in an older term this node could vote a second time. Where the hard state
    # is gone, the term of the last entry is a lower bound.
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
    """Return what was lost, and the index up to which other nodes may count on this one."""
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
    # If only a vote was lost there is still an entry to wait for: a later leader's first.
    return Loss(max(lost_to, log.last + 1), f"{what} ({why})" if why else what)
