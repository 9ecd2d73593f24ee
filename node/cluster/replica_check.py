"""The replicas compare what they hold, and one that differs from the majority stops.

The log makes all replicas equal only as long as each applies it alike and keeps what it applied. A
defect, a bit that changed in memory, or a disk that gives back something else breaks that without
any error, and reads go on to be answered from the copy that is wrong. So at points in the log each
replica computes a digest of all of its state and tells the others.

Owns when such points are, the digests and the verdicts; what a point does to the state (nothing)
is `state/machine.py`'s.

Theory of operation: the leader proposes a `Checkpoint` when something was applied since the last.
Each node that applies it takes a view of the state as of that entry, before anything later is
applied, and a task digests it in slices with pauses. The digest goes to all members. Each node that has
computed one itself judges by those it has heard, in the configuration of that entry:

- a quorum has one digest and this node another: it stops with an alarm, leading or not;
- no digest can have a quorum any more, or after some patience none has and they differ: it is not
  known which replica is right, so all raise the alarm and none stops.

A node that was away, was fed by a snapshot, or is still busy with an earlier point does not report:
it takes part in the next.
"""

from __future__ import annotations

import enum
import math
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import structlog
import trio

from ..driver.replica import Replica
from ..errors import HstoreError, Overloaded, StateDiverged
from ..model.commands import Checkpoint
from ..net.flag import Flag
from ..peers import wire
from ..peers.wire import DIGEST_BYTES
from ..raft.membership import Configuration
from ..raft.quorum import VoteResult, vote_result
from ..storage.interface import StateReader

INTERVAL_S = 20.0
"""Between two points at least: a write is checked within half a minute in a small cluster."""

_REST = 100
"""The next point waits for so many times the work of the last: the check costs 1 % of a core."""

_SLICE_PAIRS = 128
_SLICE_BYTES = 64 * 1024
_PAUSE_S = 0.01
"""A slice keeps the loop for some 0.2 ms, and then all other tasks have it for fifty times as long.
While three nodes on two crowded cores did nothing but digest, there were 0.7 to 1.0 times as many
writes as without; with slices twice as long, 0.6 to 0.7 times."""

PATIENCE_S = 60.0
"""For reports that are missing while those that are there differ: a dead node sends none."""

_POINTS = 4
"""Points that are remembered: one is judged long before the fourth after it."""

_LENGTHS = struct.Struct(">II")

_ALARM_S = 600.0
"""How long the alarm holds after they were found to differ."""

_log = structlog.get_logger()


class Verdict(enum.Enum):
    """What the digests of one point mean for the node that judges."""

    PENDING = "pending"
    AGREED = "agreed"
    DIFFERS = "differs"
    """A quorum agrees, on something else than this node has."""
    SPLIT = "split"
    """No quorum can agree."""


def judge(own: bytes, reports: Mapping[int, bytes], config: Configuration) -> Verdict:
    """Return the verdict of a node that has computed `own`.

    Args:
        own: Its digest.
        reports: The digests that are known, by node; its own as well.
        config: Whose quorum counts; reports of others than its voters do not.
    """
    is_open = False
    # Where a digest that was not reported could still win, each of these could as well.
    for digest in sorted(set(reports.values())):
        votes = {node: found == digest for node, found in reports.items()}
        result = vote_result(config, votes)
        if result is VoteResult.WON:
            return Verdict.AGREED if digest == own else Verdict.DIFFERS
        is_open = is_open or result is VoteResult.PENDING
    return Verdict.PENDING if is_open else Verdict.SPLIT


@dataclass(slots=True)
class _Point:
    """One checkpoint that this node has digested."""

    index: int
    config: Configuration
    digest: bytes
    digested_at: float
    is_settled: bool = False


class ReplicaCheck:
    """The check of one node against the others."""

    def __init__(self, replica: Replica, send: Callable[[int, wire.Frame], bool]) -> None:
        """Nothing happens before `run`; the state has to call `checkpoint`.

        Args:
            replica: Whose state is checked.
            send: Sends a frame to a member; false when it was dropped.
        """
        self._replica = replica
        self._facts = replica.facts
        self._send = send
        self._wake = Flag()
        self._view: tuple[int, Configuration, StateReader] | None = None
        self._is_digesting = False
        self._seen_index = 0
        self._differed_at = -math.inf
        self._rest_until = 0.0
        self._points: deque[_Point] = deque(maxlen=_POINTS)
        self._reports: dict[int, deque[tuple[int, bytes]]] = {}
        self._failure: StateDiverged | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the check until cancelled.

        Raises:
            StateDiverged: This node's state is not the majority's.
            StorageError: The state cannot be read.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_forever, nursery)
            task_status.started()
            try:
                while True:
                    await self._wake.wait()
                    if self._failure is not None:
                        raise self._failure
                    if self._view is not None:
                        nursery.start_soon(self._digest, *self._view)
                        self._view = None
            finally:
                if self._view is not None:
                    self._view[2].close()

    def reported(self, peer: int, frame: wire.StateDigest) -> None:
        """Take the digest of another member; that of a node which is no member is dropped."""
        members = self._facts.config.all_members()
        if peer in members:
            self._reports.setdefault(peer, deque(maxlen=_POINTS)).append(
                (frame.index, frame.digest)
            )
            self._judge_all()

    # -- points -----------------------------------------------------------------------------

    async def _look_forever(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(INTERVAL_S)
            if self._is_due():
                nursery.start_soon(self._propose)
            members = self._facts.config.all_members()
            self._reports = {n: found for n, found in self._reports.items() if n in members}
            self._judge_all()

    def _is_due(self) -> bool:
        """Whether this node leads others, and something new was applied since the last point."""
        facts = self._facts
        return (
            facts.is_leader
            and len(facts.config.all_members()) > 1
            and facts.applied_index > self._seen_index
            and trio.current_time() >= self._rest_until
            and not self._is_digesting
        )

    async def _propose(self) -> None:
        try:
            await self._replica.propose(Checkpoint(), trio.current_time() + INTERVAL_S)
        except Overloaded:
            _log.info("too busy for a check of the replicas")
        except HstoreError as error:
            # The next look sees whether there was a point all the same.
            _log.debug("no check of the replicas", why=str(error))

    def checkpoint(self, index: int, view: StateReader) -> None:
        """Have the state as of `index` digested, unless an earlier one still is; closes `view`."""
        self._seen_index = index
        if self._is_digesting:
            view.close()
            return
        self._is_digesting = True
        self._view = index, self._facts.config_at(index), view
        self._wake.set()

    # -- digests ----------------------------------------------------------------------------

    async def _digest(self, index: int, config: Configuration, view: StateReader) -> None:
        """Digest a view, and send the digest to all members; closes the view."""
        digest = blake2b(digest_size=DIGEST_BYTES)
        busy_s = 0.0
        try:
            slices = _slices(view.scan(b""))
            while True:
                began = trio.current_time()
                data = next(slices, b"")
                digest.update(data)
                busy_s += trio.current_time() - began
                if not data:
                    break
                await trio.sleep(_PAUSE_S)
        finally:
            view.close()
            self._is_digesting = False
        now = trio.current_time()
        self._rest_until = now + _REST * busy_s
        _log.debug("digested the state", index=index, busy_ms=int(busy_s * 1000))
        self._points.append(_Point(index, config, digest.digest(), now))
        for peer in self._facts.peers:
            self._send(peer, wire.StateDigest(index, digest.digest()))
        self._judge_all()

    @property
    def differs(self) -> bool:
        """Whether replicas were found to differ, in the last ten minutes."""
        return trio.current_time() - self._differed_at < _ALARM_S

    # -- verdicts ---------------------------------------------------------------------------

    def _judge_all(self) -> None:
        for point in self._points:
            if not point.is_settled:
                self._judge(point)

    def _judge(self, point: _Point) -> None:
        reports = {
            peer: digest
            for peer, found in self._reports.items()
            for index, digest in found
            if index == point.index
        }
        reports[self._facts.id] = point.digest
        verdict = judge(point.digest, reports, point.config)
        if verdict is Verdict.DIFFERS:
            self._fail(point)
        elif verdict is Verdict.AGREED:
            wrong = [n for n in sorted(reports) if reports[n] != point.digest]
            point.is_settled = len(reports) >= len(point.config.all_members()) or bool(wrong)
            if wrong:
                self._differed_at = trio.current_time()
                _log.error(
                    "a replica differs from the majority, and has to stop",
                    alarm="replica check",
                    index=point.index,
                    members=wrong,
                )
        elif len(set(reports.values())) > 1:
            is_late = trio.current_time() - point.digested_at >= PATIENCE_S
            if verdict is Verdict.SPLIT or is_late:
                point.is_settled = True
                self._differed_at = trio.current_time()
                _log.error(
                    "the replicas differ, and there is no majority to tell who is right",
                    alarm="replica check",
                    index=point.index,
                    members=sorted(reports),
                )

    def _fail(self, point: _Point) -> None:
        point.is_settled = True
        self._differed_at = trio.current_time()
        _log.error(
            "this replica differs from the majority, and stops",
            alarm="replica check",
            index=point.index,
            member=self._facts.id,
        )
        self._failure = StateDiverged(
            f"what this node holds at entry {point.index} is not what the majority holds:"
            " keep its data directory for whoever looks into it, remove the node (hstore leave),"
            " and join again with an empty one"
        )
        self._wake.set()


def _slices(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Cut keys and values, each pair preceded by its lengths, into pieces of a bounded size."""
    pieces: list[bytes] = []
    size = 0
    for key, value in pairs:
        pieces += (_LENGTHS.pack(len(key), len(value)), key, value)
        size += len(key) + len(value)
        if len(pieces) >= 3 * _SLICE_PAIRS or size >= _SLICE_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)
