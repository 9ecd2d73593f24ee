"""Every series of a node, group by group, as the contract of operating lists them.

Each function reads counters and looks things up; none walks over the state, waits or raises for want of
a leader. Labels are few: routes are patterns, peers are members, kinds and statuses are fixed lists.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

import trio
from prometheus_client.metrics_core import Metric

from hstore.dns.server import DnsServer

from ..errors import StorageError
from ..measure.answered import Answered
from ..measure.histogram import Histogram
from ..state.catalog.index import CatalogIndex
from .families import counter, counters, gauge, gauges, histogram, histograms
from .sources import Sources

_STATUSES = ("passing", "warning", "critical")
_KINDS = ("http", "tcp", "ttl", "script")
_VERSIONS = (
    version("hstore"),
    platform.python_version(),
    version("trio"),
    version("rocksdict"),
)


def build(started_at: float) -> Iterator[Metric]:
    """What runs. `started_at`: when, in seconds since the epoch."""
    labels = ("version", "python", "trio", "rocksdict")
    yield gauges("build_info", "Always 1; the labels say what runs.", labels, {_VERSIONS: 1})
    yield gauge("start_time_seconds", "When this node started, since the epoch.", started_at)


def consensus(of: Sources, margin: int) -> Iterator[Metric]:
    """The share of this node in the cluster's consensus. `margin`: of `quorum_margin`."""
    facts, replica = of.replica.facts, of.replica
    waiting, leadership = replica.waiting, replica.leadership
    for name, text, value in (
        ("term", "The term this node is in.", facts.term),
        ("commit_index", "Index of the last entry known to be committed.", facts.commit_index),
        ("applied_index", "Index of the last entry that has taken effect.", facts.applied_index),
        ("last_index", "Index of the last entry of the log.", facts.last_index),
        ("is_leader", "1 while this node leads.", facts.is_leader),
        ("has_leader", "1 while this node is in contact with a leader.", of.status.in_contact()),
        (
            "pending_proposals",
            "Writes that wait for a majority, or to be taken by this node's core.",
            len(waiting.in_log) + len(waiting.proposed) + len(waiting.queued),
        ),
    ):
        yield gauge(f"raft_{name}", text, value)
    for name, text, value in (
        ("leader_changes", "How often another leader became known.", leadership.changes_total),
        ("elections", "Elections this node stood in.", leadership.elections_total),
        (
            "pre_votes_refused",
            "Nodes that were told this one would not vote for them.",
            facts.pre_votes_refused,
        ),
        ("snapshots_sent", "Snapshots sent to other members.", of.snapshots.sent_total),
    ):
        yield counter(f"raft_{name}", text, value)
    in_log, intake = waiting.in_log, replica.intake
    yield counters(
        "raft_proposals",
        "Writes of this node's clients and of other nodes, by what became of them here.",
        ("outcome",),
        {
            ("committed",): in_log.committed_total,
            ("replaced",): in_log.lost_total,
            ("unknown",): in_log.unknown_total + waiting.unknown_total,
            ("refused",): waiting.refused_total,
            ("forwarded",): intake.forwarded_total,
        },
    )
    yield histogram(
        "raft_snapshot_seconds", "How long sending a snapshot took.", of.snapshots.seconds
    )
    yield histogram(
        "raft_commit_seconds",
        "At the leader, from the append of a write until it was applied.",
        intake.commit_seconds,
    )
    yield gauge("quorum_margin", "Live voters less those that a quorum needs.", margin)


def peers(of: Sources) -> Iterator[Metric]:
    """The other members, as this node sees them."""
    facts, now = of.replica.facts, trio.current_time()
    members = facts.members
    names = {peer: members[peer].name for peer in facts.peers if peer in members}
    lag = {
        (name,): behind
        for peer, name in names.items()
        if (behind := facts.lag_of(peer)) is not None
    }
    heard = of.replica.heard
    contact = {(name,): now - heard[peer] for peer, name in names.items() if peer in heard}
    links = [(names[link.peer], link) for link in of.links.figures() if link.peer in names]
    peer = ("peer",)
    yield gauges("raft_peer_lag_entries", "At the leader: entries a peer lacks.", peer, lag)
    yield gauges(
        "raft_peer_last_contact_seconds", "Since a peer's last frame arrived.", peer, contact
    )
    yield gauges(
        "raft_peer_rtt_seconds",
        "A round trip to a peer, as the system measures it.",
        peer,
        {(name,): link.rtt_s for name, link in links if link.rtt_s is not None},
    )
    yield counters(
        "raft_peer_sent_bytes",
        "Bytes sent to a peer.",
        peer,
        {(name,): link.sent_bytes for name, link in links},
    )
    yield counters(
        "raft_peer_dropped",
        "Frames to a peer that were not sent, or only in part.",
        peer,
        {(name,): link.dropped for name, link in links},
    )


def disk(of: Sources) -> Iterator[Metric]:
    """The disk, and the database on it."""
    replica = of.replica
    yield histogram(
        "wal_fsync_seconds", "How long a flush of the log took.", replica.flushes.seconds
    )
    yield histogram(
        "apply_seconds", "How long it took to apply the entries of a turn.", replica.apply_seconds
    )
    room = replica.disk_space.room
    yield gauge("disk_free_bytes", "What this process may still write.", room.free)
    yield gauge("disk_needed_bytes", "With less room than this, writes are refused.", room.needed)
    try:
        found, looks = replica.storage.figures(), replica.storage.cache_looks()
    except StorageError:
        return  # The disk has failed, and the node ends of that by itself.
    yield gauge("disk_used_bytes", "Tables and logs of the database.", found.used_bytes)
    yield gauge("rocksdb_sst_bytes", "Tables on the disk.", found.sst_bytes)
    yield gauge("rocksdb_memtable_bytes", "What is not in tables yet.", found.memtable_bytes)
    yield gauge(
        "rocksdb_pending_compaction_bytes",
        "What compactions have to rewrite, as RocksDB estimates it.",
        found.pending_compaction_bytes,
    )
    yield counter(
        "rocksdb_stall_seconds", "How long writes waited for RocksDB to take them.", found.stall_s
    )
    yield counter("rocksdb_block_cache_hits", "Blocks found in the cache.", looks.hits)
    yield counter("rocksdb_block_cache_misses", "Blocks read from a table.", looks.misses)


def keys(of: Sources) -> Iterator[Metric]:
    """The keys of users; nothing while they are being counted."""
    count = of.replica.facts.key_count
    if count is not None:
        yield gauge("keys", "Keys of users.", count)


def http(answered: Answered) -> Iterator[Metric]:
    """The HTTP API."""
    requests: dict[tuple[str, ...], float] = {}
    by_route: dict[str, Histogram] = {}
    for tally in answered.tallies:
        if not tally.count:
            continue  # A route that nobody uses has no series: there are a hundred.
        for status, count in tally.statuses.items():
            requests[tally.route, tally.method, status] = count
        seconds = by_route.setdefault(tally.route, Histogram())
        seconds.counts = [a + b for a, b in zip(seconds.counts, tally.seconds.counts, strict=True)]
        seconds.total += tally.seconds.total
    yield counters(
        "http_requests", "Answers that were sent.", ("route", "method", "status"), requests
    )
    yield histograms(
        "http_request_seconds",
        "From a whole request to its answer; not of those that wait for a change on purpose.",
        "route",
        by_route.items(),
    )
    served = answered.served()
    yield gauge("http_connections", "Connections of clients.", served.connections)
    yield gauge("blocking_queries", "Reads that wait for a change.", served.waiting)
    yield gauge("watches", "Answers without end: watches and event streams.", served.streams)
    shed: dict[tuple[str, ...], float] = {(why,): n for why, n in answered.shed.items()}
    yield counters(
        "http_shed",
        "Requests and connections that were refused or ended because there were too many.",
        ("reason",),
        {**shed, ("evicted",): served.evicted},
    )


def dns(server: DnsServer | None, seconds: Histogram) -> Iterator[Metric]:
    """The DNS server."""
    counts = server.counts if server is not None else None
    yield counters(
        "dns_queries",
        "Queries that were answered.",
        ("name_kind", "type", "rcode", "transport"),
        {} if counts is None else {tuple(key): n for key, n in counts.by_labels().items()},
    )
    yield histogram("dns_query_seconds", "How long queries took that got a reply at once.", seconds)
    yield counter("dns_truncated", "Replies cut short.", 0 if counts is None else counts.truncated)
    yield gauge("dns_held", "Queries that wait for a leader.", 0 if server is None else server.held)
    limited = 0 if server is None else server.stats.limited
    yield counter("dns_rate_limited", "Queries beyond their network's rate.", limited)


def services(of: Sources) -> Iterator[Metric]:
    """Services, checks, sessions and locks."""
    facts, catalog = of.replica.facts, of.replica.facts.catalog
    yield gauge("services", "Services that have an instance.", len(catalog.names))
    statuses = {(status,): count for status, count in instance_statuses(catalog).items()}
    yield gauges("service_instances", "Instances by their worst check.", ("status",), statuses)
    kinds = of.checks.by_kind()
    yield gauges(
        "checks",
        "Checks that this node runs.",
        ("status", "kind"),
        {(status, kind): kinds.get((kind, status), 0) for kind in _KINDS for status in _STATUSES},
    )
    results = of.checks.run_results
    yield counters(
        "check_runs",
        "Runs of checks that have ended here.",
        ("kind", "result"),
        {(kind, status): results.get((kind, status), 0) for kind in _KINDS for status in _STATUSES},
    )
    yield histogram(
        "check_late_seconds", "How long after they were due runs began.", of.checks.late_seconds
    )
    yield gauge("sessions", "Sessions.", facts.session_count)
    yield gauge("locks_held", "Keys that a session holds.", facts.lock_count)
    yield counter(
        "session_expirations",
        "Sessions this node has ended, as the leader, because nobody renewed them.",
        of.sessions.expired_total,
    )


def instance_statuses(catalog: CatalogIndex) -> Counter[str]:
    """Return how many instances of services there are, by their worst check; looks at bad ones only."""
    found = Counter(dict.fromkeys(_STATUSES, 0))
    for number in {*catalog.critical_of, *catalog.warning_of}:
        services, belongs = catalog.services_of.get(number, {}), catalog.checks_of[number]
        critical = {belongs[check] for check in catalog.critical_of.get(number, ())}
        warning = {belongs[check] for check in catalog.warning_of.get(number, ())}
        if "" in critical:  # A check of the node counts for all its services.
            critical = {*services}
        elif "" in warning:
            warning = {*services}
        found["critical"] += len(critical)
        found["warning"] += len(warning - critical - {""})
    found["passing"] = len(catalog.by_instance) - found["critical"] - found["warning"]
    return found


def loop(of: Sources, lines_dropped: int, descriptors: dict[str, int]) -> Iterator[Metric]:
    """The event loop, and the process around it."""
    yield histogram(
        "event_loop_lag_seconds", "How long the loop kept other tasks waiting.", of.loop_lag
    )
    yield counter("log_lines_dropped", "Lines of the log that were lost.", lines_dropped)
    yield gauges(
        "descriptors",
        "File descriptors in use; rest: the database's and the process's own.",
        ("use",),
        {(use,): count for use, count in descriptors.items()},
    )


def alarms(of: Sources, margin: int, *, is_voter_missing: bool) -> Iterator[Metric]:
    """What an operator has to mend."""
    holding = of.alarms.now(margin, is_voter_missing=is_voter_missing)
    yield gauges(
        "alarm",
        "1 while it holds: an operator has to mend something.",
        ("kind",),
        {(kind,): float(holds) for kind, holds in holding.items()},
    )
