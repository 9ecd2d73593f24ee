"""What one run of whole nodes is like, drawn from its seed: as in `tests.sim.options`.

All times are virtual seconds; `*_every` are mean intervals, 0: never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from random import Random
from typing import Any

import msgspec

from hstore.node.api.dialect.questions import WHILE_S
from hstore.node.cluster.session_nodes import PAUSE_S, SLICE
from hstore.node.model.commands import ClusterSettings
from hstore.node.model.user_events import EVENTS_MAX

from ..options import DELETIONS_MAX, stream


@dataclass(slots=True)
class WholeOptions:
    """One run.

    Attributes:
        nodes: Members at the beginning.
        seconds: How long faults last.
        settings: The cluster's.
        pre_vote, check_quorum: Of the cores.
        max_inflight: Messages to one peer that are not answered.
        max_uncommitted, max_apply: Bytes, of the cores.
        keep_entries: What compaction leaves (`node/driver/compaction.py`).
        outbox_frames: How many frames a link holds for its peer.
        max_waiting: How many requests may wait at a node.
        chunk_pairs: Of a snapshot.
        delay_mean: Of a piece of data on its way, beside the tail.
        tail, tail_mean: How often a piece takes very long, and how long.
        split: Chance that a reader gets only part of what has come.
        window: Bytes that a connection holds before who sends has to wait.
        cut_every: One connection breaks, somewhere in what is on its way.
        partition_every, partition_for: Groups that do not hear each other.
        one_way: Share of partitions that cut one direction only.
        partition_resets: Chance that connections do not survive a partition.
        refuse_every, refuse_for: A node refuses new connections.
        replay_every: What an old connection carried arrives once more, on a new one.
        flush_mean: Of a flush; 0: it takes no time.
        hang_every, hang_for: A disk whose flush does not end.
        fail_every: A disk that fails for good, at a write or at a flush; its node stops.
        lose_every: A disk that loses log it had flushed, or flips a bit of it; one at a time.
        keep: What a crash leaves of unsynced writes: "none", "all", or "some" of the first.
        crash_every, down_for: Of the cluster as a whole; how long a node stays down.
        crash_steps: A crash comes up to so many steps of its node after it was planned.
        crash_at_boundary: Chance per operation of the storage to crash before or after it.
        crash_all: Share of crashes that hit everybody at once.
        crash_again: Chance to crash soon after a restart.
        pause_every, pause_for: A node of which nothing is heard, and that hears nothing.
        skew: Ticks of a node come between 1/skew and skew times as often.
        clock_every: A node's idea of the cluster's time leaps, forward or back.
        change_every: A node joins, or is removed.
        configure_every: A setting of the cluster is changed, or the name or the type of a node.
        stop_every: A node is asked to stop, and is started again.
        end_every: All are asked to stop, through one of them, and are started again.
        clients: How many there are; `think_mean`: how long each pauses between requests.
        keys: How many keys they share.
        keyed: Share of writes with an idempotency key.
        payload: Most bytes that a value is made longer by.
        timeout_ms: What clients allow for a request.
        is_lost: Whether the run ends with a majority that is lost for good (`disaster.py`).
        capacity: Bytes that the smallest disk holds; 0: the disks hold everything.
        fill_every: Somebody writes large values until they are refused.
        hostile_every: A frame that no node may use comes in the name of a member (`hostile.py`).
        lockers: How many more clients hold sessions and locks (`lockers.py`).
        waiters: How many more wait for changes (`waiters.py`).
        followers: How many more follow a key at one node (`waiters.py`).
        registrars: How many more register services (`registrars.py`); 0: there are none.
        externals: Share of what they register on nodes that are no members.
        watchers: How many more wait for changes of services (`watchers.py`).
        retriers: How many more register services under keys (`retriers.py`); only with registrars.
        strangers: How many more keep a node that is no member (`strangers.py`); likewise.
        listers: How many more read the names of all services (`listers.py`); likewise.
        renewers: How many more only keep a session (`lockers.py`).
        has_flush_thread: Whether nodes flush beside the event loop, as real ones do.
        while_s: A read that has waited for so long lets the next begin before the leader is asked.
        depose_every: The leader is cut off from the others for a while, and does not notice.
        stall_every: A connection between two nodes falls silent for good; a new one would not.
        deletions_max, events_max: So many are kept of each table.
        session_slice, session_pause: How many sessions a leader reads in one go, and how long it
            pauses then.
        newcomer_leads: At the end somebody joins and leads while a member is down (`operator.py`).
        removal_cut_short: At the end all die while a member goes (`operator.py`).
        is_arranged: At the end what `arranged.py` has comes about; only with lockers.
        is_calm: Nothing else goes wrong that hides from the leader how much room there is.
    """

    nodes: int
    seconds: float
    settings: ClusterSettings
    pre_vote: bool
    check_quorum: bool
    max_inflight: int
    max_uncommitted: int
    max_apply: int
    keep_entries: int
    outbox_frames: int
    max_waiting: int
    chunk_pairs: int
    delay_mean: float
    tail: float
    tail_mean: float
    split: float
    window: int
    cut_every: float
    partition_every: float
    partition_for: float
    one_way: float
    partition_resets: float
    refuse_every: float
    refuse_for: float
    replay_every: float
    flush_mean: float
    hang_every: float
    hang_for: float
    fail_every: float
    lose_every: float
    keep: str
    crash_every: float
    down_for: float
    crash_steps: int
    crash_at_boundary: float
    crash_all: float
    crash_again: float
    pause_every: float
    pause_for: float
    skew: float
    change_every: float
    stop_every: float
    clients: int
    think_mean: float
    keys: int
    keyed: float
    payload: int
    timeout_ms: int
    clock_every: float = 0.0
    configure_every: float = 0.0
    replace_every: float = 0.0
    end_every: float = 0.0
    is_lost: bool = False
    capacity: int = 0
    fill_every: float = 0.0
    is_calm: bool = False
    hostile_every: float = 0.0
    lockers: int = 0
    waiters: int = 0
    deletions_max: int = DELETIONS_MAX
    events_max: int = EVENTS_MAX
    session_slice: int = SLICE
    session_pause: float = PAUSE_S
    renewers: int = 0
    depose_every: float = 0.0
    stall_every: float = 0.0
    has_flush_thread: bool = False
    while_s: float = WHILE_S
    followers: int = 0
    registrars: int = 0
    watchers: int = 0
    externals: float = 0.0
    newcomer_leads: bool = False
    removal_cut_short: bool = False
    is_arranged: bool = False
    retriers: int = 0
    strangers: int = 0
    listers: int = 0

    def of_each_kind(self) -> tuple[int, ...]:
        """Return how many clients of each kind there are, in the order of their numbers."""
        return (
            self.clients, self.lockers, self.waiters, self.renewers, self.followers,
            self.registrars, self.watchers, self.retriers, self.strangers, self.listers,
        )  # fmt: skip


_DISTURBANCES = (
    "tail", "cut_every", "partition_every", "refuse_every", "replay_every", "hang_every",
    "fail_every", "lose_every", "crash_every", "crash_at_boundary", "pause_every", "stop_every",
    "change_every", "replace_every", "end_every", "hostile_every", "stall_every",
)  # fmt: skip
"""What keeps the leader from knowing the room of the others, or leaves too few of them."""


def draw(seed: int) -> WholeOptions:
    """Draw the options of a run."""
    rng = stream(seed, "whole options")

    def often(chance: float, low: float, high: float) -> float:
        return rng.uniform(low, high) if rng.random() < chance else 0.0

    options = WholeOptions(
        nodes=rng.choice((1, 2, 3, 3, 3, 3, 3, 4, 5)),
        seconds=rng.choice((4.0, 6.0, 10.0)),
        settings=_draw_settings(rng, seed),
        pre_vote=rng.random() < 0.85,
        check_quorum=rng.random() < 0.9,
        max_inflight=rng.choice((1, 4, 64)),
        max_uncommitted=rng.choice((400, 10_000, 1 << 24)),
        max_apply=rng.choice((1, 300, 1 << 20)),
        keep_entries=rng.choice((2, 5, 20, 10_000)),
        outbox_frames=rng.choice((3, 8, 8192, 8192)),
        max_waiting=rng.choice((2, 16384, 16384)),
        chunk_pairs=rng.choice((1, 3, 512)),
        delay_mean=rng.choice((0.0005, 0.002, 0.01, 0.03)),
        tail=often(0.4, 0.002, 0.03),
        tail_mean=rng.choice((0.2, 1.0)),
        split=often(0.5, 0.05, 0.5),
        window=rng.choice((200, 4096, 65536)),
        cut_every=often(0.5, 0.2, 3),
        partition_every=often(0.5, 1, 5),
        partition_for=rng.choice((0.3, 1.0, 3.0)),
        one_way=rng.choice((0.0, 0.5, 1.0)),
        partition_resets=rng.choice((0.0, 0.5, 1.0)),
        refuse_every=often(0.3, 1, 5),
        refuse_for=rng.choice((0.2, 1.5)),
        replay_every=often(0.4, 0.3, 2),
        flush_mean=rng.choice((0.0, 0.001, 0.005, 0.03, 0.15)),
        hang_every=often(0.3, 1, 6),
        hang_for=rng.choice((0.5, 3.0)),
        fail_every=often(0.3, 1, 6),
        lose_every=often(0.3, 0.5, 3),
        keep=rng.choice(("none", "none", "some", "some", "all")),
        crash_every=often(0.7, 0.5, 4),
        down_for=rng.choice((0.05, 0.3, 1.5)),
        crash_steps=rng.choice((20, 200, 2000)),
        crash_at_boundary=often(0.5, 0.0005, 0.01),
        crash_all=rng.choice((0.0, 0.0, 0.1, 0.4)),
        crash_again=rng.choice((0.0, 0.3, 0.6)),
        pause_every=often(0.4, 1, 5),
        pause_for=rng.choice((0.4, 2.0)),
        skew=rng.choice((1.0, 1.0, 1.1, 1.5, 3.0)),
        change_every=often(0.5, 0.7, 3),
        stop_every=often(0.3, 1, 5),
        clients=rng.choice((2, 4, 8)),
        think_mean=rng.choice((0.01, 0.05, 0.3)),
        keys=rng.choice((1, 3, 8)),
        keyed=rng.choice((0.0, 0.3, 0.8)),
        payload=rng.choice((0, 0, 100, 3000)),
        timeout_ms=rng.choice((300, 1000, 3000)),
    )
    _draw_later(options, rng, often)
    _draw_apart(options, seed)
    return _with_little_room(options, stream(seed, "rooms"))


def _draw_later(
    options: WholeOptions, rng: Random, often: Callable[[float, float, float], float]
) -> None:
    """Draw last what came later: it must not make another run of a seed."""
    options.clock_every = often(0.4, 0.2, 2)
    options.configure_every = often(0.4, 0.3, 2)
    options.replace_every = often(0.4, 0.5, 3)
    options.is_lost = rng.random() < 0.3


def _draw_apart(options: WholeOptions, seed: int) -> None:
    """Draw each from a stream of its own: most runs stay as they were."""
    ends = stream(seed, "ends")
    options.end_every = ends.uniform(1, 4) if ends.random() < 0.15 else 0.0
    locks = stream(seed, "lockers")
    if locks.random() < 0.5:
        options.lockers, options.waiters = locks.choice((2, 3, 5)), locks.choice((0, 1, 3))
        options.deletions_max = locks.choice((4, 16, DELETIONS_MAX))
        options.events_max = locks.choice((3, EVENTS_MAX))
        options.session_slice = locks.choice((1, 1, SLICE))
        options.session_pause = locks.choice((PAUSE_S, 0.05))
        options.renewers = locks.choice((1, 2, 3))
        options.depose_every = locks.uniform(1, 3) if locks.random() < 0.5 else 0.0
    stalls = stream(seed, "stalls")
    options.stall_every = stalls.uniform(0.2, 2.0) if stalls.random() < 0.3 else 0.0
    flushes = stream(seed, "flush threads")
    options.has_flush_thread = flushes.random() < 0.75
    waits = stream(seed, "waits")
    options.while_s = waits.choice((WHILE_S, 0.0, 0.0, 0.05))
    options.followers = waits.choice((0, 0, 1, 2, 3))
    services = stream(seed, "registrar")
    if services.random() < 0.35:
        options.registrars, options.watchers = services.choice((1, 2, 3)), services.choice((1, 2))
        options.externals = services.choice((0.0, 0.3, 0.7))
    keepers = stream(seed, "keepers")
    if options.registrars and keepers.random() < 0.3:
        options.retriers, options.strangers = keepers.choice((1, 2)), keepers.choice((1, 1, 2))
        options.listers = keepers.choice((1, 2))
    ends_of_peace = stream(seed, "newcomers")
    options.newcomer_leads = ends_of_peace.random() < 0.15
    options.removal_cut_short = ends_of_peace.random() < 0.1
    options.is_arranged = ends_of_peace.random() < 0.3 and options.lockers > 0
    hostile = stream(seed, "hostile frames")
    options.hostile_every = hostile.uniform(0.1, 1.0) if hostile.random() < 0.2 else 0.0


def _with_little_room(options: WholeOptions, rng: Random) -> WholeOptions:
    """Draw the size of the disks, from a stream of its own: most runs stay as they were."""
    if rng.random() >= 0.12:
        return options
    options = replace(
        options,
        capacity=300_000,
        fill_every=rng.uniform(0.5, 2),
        # Idempotency keys cannot be deleted, and a run is shorter than they are kept.
        keyed=0.0,
        lockers=0,
        waiters=0,
        followers=0,
        renewers=0,
        retriers=0,
        strangers=0,
        depose_every=0.0,
        newcomer_leads=False,
        removal_cut_short=False,
        is_arranged=False,
        is_lost=False,
        think_mean=max(options.think_mean, 0.05),
    )
    if rng.random() < 0.5:
        return options
    for name in _DISTURBANCES:
        setattr(options, name, 0.0)
    return replace(
        options,
        is_calm=True,
        nodes=rng.choice((3, 3, 5)),
        seconds=6.0,
        pre_vote=True,
        check_quorum=True,
        max_waiting=16384,
        outbox_frames=8192,
        window=65536,
        delay_mean=min(options.delay_mean, 0.002),
        flush_mean=min(options.flush_mean, 0.005),
        skew=1.0,
    )


def known(seed: int, values: dict[str, Any]) -> WholeOptions:
    """Return the options of a run that was written down: what it did not know has no part in it."""
    # What came later has a default: without it.
    later = {one.name: one.default for one in fields(WholeOptions) if one.default is not MISSING}
    settings = msgspec.convert(values["settings"], ClusterSettings)
    return replace(draw(seed), **{**later, **values, "settings": settings})


def _draw_settings(rng: Random, seed: int) -> ClusterSettings:
    """Draw all settings: those of a cluster that nobody has configured in half of the seeds.

    The others have faster heartbeats, which bring more elections into the seconds of a run.
    """
    more, sessions = stream(seed, "shipped settings"), stream(seed, "settings of sessions")
    services = stream(seed, "settings of services")
    heartbeat = rng.choice((20, 50, 100))
    drawn = ClusterSettings(
        heartbeat_ms=heartbeat,
        election_timeout_ms=heartbeat * rng.choice((3, 5, 10)),
        health_interval_ms=rng.choice((100, 500)),
        zone=more.choice(("hstore.local", "example.org")),
        dns_ttl_s=more.choice((0, 1, 60)),
        datacenter=sessions.choice(("dc1", "east")),
        session_ttl_min_ms=sessions.choice((1000, 1000, 1000, 2000)),
        session_node_grace_ms=sessions.choice((0, 300, 500, 2000)),
        alt_domains=services.choice(("consul", "", "consul,example.net")),
        check_update_interval_ms=services.choice((0, 1000, 300_000)),
        dns_service_ttl=services.choice(("", "web*=5s,*=0s")),
        dns_only_passing=services.choice((0, 1)),
        dns_empty=services.choice(("nodata", "nxdomain")),
        dns_max_stale_ms=services.choice((1000, 300_000)),
    )
    return ClusterSettings() if more.random() < 0.5 else drawn
