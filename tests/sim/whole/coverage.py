"""What must have happened somewhere for runs of whole nodes to show what they claim to show."""

from __future__ import annotations

from collections import Counter

HAPPENS = (
    "HTTP 200", "HTTP 404", "HTTP 503", "compactions", "crash at a boundary", "crash at a step",
    "crash while a flush is under way", "crash between write and flush",
    "cut", "cut in what was on its way", "histories checked",
    "leaders", "outcomes not applied", "outcomes unknown", "part of a piece", "partition",
    "a copy was started", "refused a connection", "restart", "stale reads", "tables compared", "very late",
)  # fmt: skip
"""Met by any eight seeds."""

RARE: tuple[str, ...] = (
    "a newcomer leads one that was down", "leaders lost as a member goes", "sessions renewed in peace at who was replaced", "events over a link that breaks", "members die that have a session", "sessions renewed as they end", "a removal is cut short", "a snapshot is cut short in peace", "a wiped seed gave up", "a wiped seed looks around", "a wiped seed was written to",
    "a bit of the log is flipped", "a flush hangs with requests waiting",
    "a sender waits for a slow reader", "clear up: done", "clock leaps", "crash after apply",
    "config election_timeout: done", "config health_interval: done", "config heartbeat: done",
    "config type: done", "rename: done",
    "crash after compact", "crash after flush", "crash after write", "crash before apply",
    "crash before chunk", "crash before compact", "crash before flush", "crash before write",
    "crash of a leader", "crash of everybody", "crash with writes in the log", "crash while a snapshot comes in",
    "crash while a snapshot is sent", "crash with a loss",
    "crash with answers that wait for a flush", "crash with requests passed on",
    "clients that fall silent", "events fired", "histories of locks checked", "lists of events seen",
    "locks: acquire done", "locks: acquire refused", "locks: release done", "locks: release refused",
    "leaders cut off", "renewals at a leader that was replaced", "serfHealth critical", "serfHealth passing",
    "sessions ended by the check of their node", "sessions ended by their TTL", "sessions made", "sessions renewed", "transactions done",
    "transactions refused", "waits answered", "waits over",
    "ends of flushes that nobody was woken for", "flushes that end while they are asked for",
    "looks at what must follow at once", "sent by the thread that has flushed",
    "DNS asked from what it keeps", "TTLs over in peace", "TTLs that are not over", "TTLs that are over",
    "catalog reads judged", "catalog waits answered", "catalog waits over", "catalogs that were mended",
    "deregistered", "deregistered as critical", "deregistered in peace", "maintenance false", "maintenance true",
    "checks of other nodes in peace", "members that die in peace", "owners that die in peace", "registrations acknowledged", "results of runs compared",
    "runs of checks by a process that is no member's", "runs of http checks", "runs of tcp checks", "sessions ended by another check",
    "sessions whose check goes", "words taken",
    "keyed registrations answered", "keyed registrations sent again", "keyed registrations that are twice in the log",
    "lists of services compared", "maintenance seen off", "maintenance seen on", "nodes of strangers compared",
    "nodes of strangers read", "old registrations sent again and answered",
    "waits for lists of services answered", "waits for lists of services over",
    "reads that wait before the leader is asked", "reads that were due before they were proven",
    "reads that were proven by a later read index",
    "ended: disk failed: flush", "ended: disk failed: flush once", "ended: disk failed: full",
    "ended: disk failed: read", "ended: disk failed: write", "ended: removed",
    "disks short of room", "large values refused for lack of room", "rooms that came back",
    "entries dropped while a flush is under way", "flushed log is lost", "fuse lit at a restart",
    "figures asked for among lies", "hostile frames refused", "hostile states", "join a learner: done", "join: done", "keyed writes sent again and answered", "leave: done",
    "let go while another has lost log", "let in without being told", "old members beside a recovered node",
    "one-way partition", "pause", "recover is cut short before the batch",
    "recover is cut short before the flush", "recovered as the only voter",
    "recovered from a disk that lost log", "recovered nodes lead", "recovering is shown",
    "recovers lost log",
    "remove: done", "replace: done", "replies lost with their link", "stalled", "replay with a hello", "replay without a hello", "snapshots installed",
    "stop all: done", "stop: done", "transfer to: done", "transfer: done",
)  # fmt: skip
"""Met by any `FULL` seeds."""

SAMPLE = (11, 0, 1, 2, 6, 7, 14, 15)
"""The seeds of every test run: `test_whole.py` says that each of them holds.

Most mistakes of the gallery that a short run finds are found by these (`tests/mutants/found.json`):
they need not be run again without the mistake.
"""

FULL = 500
"""Seeds from which on a run must have met the rare things, too."""


def missed(counts: Counter[str], seeds: int) -> list[str]:
    """Return what should have happened in so many seeds, and has not."""
    names = (HAPPENS if seeds >= 8 else ()) + (RARE if seeds >= FULL else ())
    return [name for name in names if not counts[name]]
