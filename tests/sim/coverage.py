"""What must have happened somewhere for a run of many seeds to show what it claims to show."""

from __future__ import annotations

from collections import Counter

FAULTS = (
    "asked to tell", "bursts of ticks", "change: ", "chunks: ", "clogged", "crash", "cut off", "disk: ", "dropped", "duplicated",
    "false alarm", "late", "odd, but true", "one-way partition", "partition", "pause",
    "queue overflow", "replayed", "slow flushes", "transfers", "very late",
)  # fmt: skip
"""How the names of counters begin that say what was done to a cluster; others say what it did."""

HAPPENS = (
    "a deaf leader is replaced", "a deaf member disturbs nobody", "acknowledged",
    "asked to tell of commits at odd moments", "commits told of without entries",
    "bursts of ticks", "changes acknowledged", "changes just after an election", "clogged",
    "compactions", "cores healed alone", "crash", "crash at a boundary", "crash noticed",
    "crash of everybody", "crashes in a joint configuration", "cut off", "dropped", "duplicated",
    "early elections planned", "false alarm", "joint configurations entered",
    "joint configurations left", "joint configurations left by another leader",
    "joint configurations of several changes", "leaders",
    "learners held back until a joint one was left", "members removed", "odd, but true",
    "one-way partition", "partition", "partition: bridge", "partition: halves", "partition: ring",
    "partition: single", "pause", "queue overflow", "reads answered", "reads behind a commit",
    "reads failed", "replayed", "restart", "slow flushes", "snapshots installed",
    "snapshots refused", "transfers aborted", "transfers completed", "transfers to a learner",
    "transfers to one that is far behind", "very late", "writes that expected something else",
    "crashes soon after a start", "disk refuses to flush", "disk refuses to write", "disks lost",
    "disks stuck for two election timeouts", "flushes that hang",
    "lost members replaced under a new id", "windows full", "damage that took nothing",
    "leadership handed over in peace", "leaders deposed with uncommitted entries",
    "partition: around a leader",
    "leaders removed", "leaders elected in a joint configuration", "leaders that are stopped",
    "leaders that go on after they were replaced",
    "leaders that step down because of their disk",
    "leaders with uncommitted entries of older terms", "lost log recovered", "old votes replayed",
    "reads pending over a change of leader", "starts with lost log",
    "chunks not taken", "chunks: cut", "chunks: damaged", "chunks: missing", "chunks: twice",
    "positions of no use", "snapshots over one that is staged",
    "states left half staged by a crash", "streams begun", "streams resumed",
    "disks recovered", "disks recovered that had lost log",
    "disk: last write torn", "disk: no room", "refused: no room",
    "cores with disks without room", "leaders without room hand over", "nodes without room stand",
    "transfers to one without room",
    "witnesses behind the last flush",
    "ends of flushes that nobody is told of", "news of a commit", "news of a commit that is known",
    "news of a commit that does not fit", "news of a commit that comes before the own flush has ended",
    "changes told together", "indexes that are the floor", "tables compared", "waits woken",
    "watches that lost their place",
    "catalog: names back", "catalog: nodes made", "catalog: services gone", "catalog: services made",
)  # fmt: skip
"""Met by any hundred seeds."""

RARE: tuple[str, ...] = (
    "entries rewritten while their flush is under way",
    "crashes between a snapshot's write and its flush", "crashes while leadership is handed over",
    "crashes while lost log is recovered", "damage: end", "damage: entry", "damage: hard state",
    "damage: misdirected", "damage: tail", "damage: unreadable", "damaged disks given up",
    "leaders elected that are on their way out", "members that came back",
    "snapshots behind another one", "snapshots that arrive twice",
    "snapshots whose sender has gone on to another term",
    "transfers to a stranger", "crash in an install: after the answer",
    "crash in an install: all is staged", "crash in an install: before the answer",
    "crash in an install: before the flush", "crash in an install: before the write",
    "crash in an install: while staging",
    "disk: no room, a write is refused", "streams that the log was faster than",
    "catalog: nodes gone with services", "catalog: refused for LIMIT", "catalog: refused for MEMBER",
    "catalog: refused for NO_CHECK", "catalog: refused for NO_NODE", "catalog: refused for NO_SERVICE",
    "catalog: refused for NO_SERVICE_OF_CHECK", "catalog: refused for PROTECTED",
)  # fmt: skip
"""Met by any `FULL` seeds."""

SAMPLE = range(100)
"""The seeds of every test run: `test_random_cluster.py` says that each of them holds."""

FULL = 2000
"""Seeds from which on a run must have met the rare things, too."""


def missed(counts: Counter[str], seeds: int) -> list[str]:
    """Return what should have happened in so many seeds, and has not."""
    names = (HAPPENS if seeds >= 100 else ()) + (RARE if seeds >= FULL else ())
    return [name for name in names if not counts[name]]
