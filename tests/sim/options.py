"""What one run is like: every size, time and probability, drawn from its seed.

The values themselves are drawn, not only the moments at which they strike (swarm testing): a run
in which nothing is lost but all disks are slow finds what an average of everything never would.
Times are in thousandths of a nominal tick, as in `Update.early_election`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hstore.node.driver import commit_news
from hstore.node.driver.recovered_core import core_options
from hstore.node.model.commands import ClusterSettings
from hstore.node.model.services import INSTANCES_MAX
from hstore.node.model.user_events import EVENTS_MAX
from hstore.node.raft.options import Options

DELETIONS_MAX = 65_536
"""How many deletions of a table are kept, by the contract."""

TICK = 1000
"""One nominal tick."""

SHIPPED = core_options(ClusterSettings())
"""What a real node gives its core, in a cluster whose settings nobody has changed."""

OTHER_THAN_SHIPPED: dict[str, tuple[Any, ...]] = {
    "election_ticks": (3, 10),
    "election_jitter": (0.25, 1.0),
    "pre_vote": (False,),
    "check_quorum": (False,),
    "eager_commit": (True,),
    "max_append_bytes": (1, 80, 300),
    "max_inflight_messages": (1, 2, 8, 32),
    "max_inflight_bytes": (1, 200, 2000),
    "max_uncommitted_bytes": (300, 3000),
    "max_unapplied_bytes": (300, 3000),
    "max_apply_bytes": (1, 100),
    "max_pending_reads": (2, 10),
    "promotion_gap": (0, 3),
}
"""For each option of a core: the other values that it is run with."""

_SHIPPED_WHOLE, _SHIPPED_EACH = 1 / 3, 1 / 2
"""A third of the seeds run with exactly what is shipped: no mistake may hide behind an option that no
real node has. In the others each option has the shipped value in half of the seeds, on its own: small
bounds bring about in seconds what takes a real node hours, and one that is small shows most when
the others are not. Together two thirds of the seeds have the shipped value of any one option."""

_TELL_AFTER = round(commit_news._WAIT_S * 1000 / ClusterSettings().heartbeat_ms * TICK)
"""How long a real leader waits, at least, until it tells of a commit that no entries follow."""


@dataclass(slots=True)
class SimOptions:
    """One run. Rates are probabilities per message or step; `*_every` are mean intervals, 0: never.

    Attributes:
        nodes: Members at the beginning.
        ticks: How long faults last, in nominal ticks.
        core: What the cores are given.
        is_mixed: Whether each start of a node draws its own `pre_vote`: a migration.
        delay_min, delay_mean: Of a message, beside the tail.
        tail, tail_mean: How often a message takes very long, and how long.
        is_fifo: Whether messages of one link keep their order.
        drop, duplicate: Per message.
        odd: Chance per message that a leader says something else that is true.
        replay: Chance per message that an old one, of anybody, arrives once more.
        partition_every, partition_for: Groups that do not hear each other.
        one_way: Share of partitions that cut one direction only.
        clog_every, clog_for: Links that hold everything back and then let it go at once.
        flush_mean: Time from the start of a flush to its end.
        flush_tail, flush_tail_mean: How often a flush takes very long, and how long.
        keep: What a crash leaves of unsynced writes: "none", "all", or "some" of the first.
        crash_every, down_for: Of the cluster as a whole; how long a node stays down.
        crash_at_boundary: Chance per step to crash while the update is carried out.
        crash_all: Share of crashes that hit everybody at once.
        pause_every, pause_for: A node that neither ticks nor receives; its disk goes on.
        skew: Ticks of a node come between 1/skew and skew times as often.
        apply_mean: Time that applying a batch takes, 0: it is done at once.
        window: Events that come within this time are given to a core together, 0: one by one.
        peer_down: Chance that a node hears of another's crash; likewise of lost messages.
        false_alarm_every: A broken link that means nothing.
        propose_every, propose_most, payload: Proposals.
        read_every, change_every: Reads and membership changes.
        compact_above, compact_keep: Compaction when the log is this long; how much of it stays.
        snapshot_mean, snapshot_loss: How long a snapshot is on its way; how often it fails.
        transfer_every: Leadership is asked to go elsewhere.
        joint: Share of membership changes with several steps, or through a joint configuration.
        change_soon: Chance that members are changed just after an election.
        capacity: Messages on one link at the same time, more are lost; 0: no limit.
        burst: Chance that a node that was paused ticks at once as often as it has missed.
        hang, hang_for: How often a flush never ends, and when the node is killed then.
        disk_failure: Chance that a write or a flush fails, which stops the node.
        crash_loop: Chance that a node dies again soon after its start.
        wipe_every: A disk is lost, and a new node takes the place of its node.
        damage: Chance per start that the disk has lost what it had promised to keep.
        chunk_pairs: Keys in one chunk of a snapshot; 0: it goes as one message.
        stream_cut, chunk_damage, chunk_repeat, chunk_gap: Per chunk.
        install_crash: Chance that a node dies at each of the steps of an install.
        lost_witness: Chance that a crash takes the last writings of the witness.
        torn: Chance that a crash leaves half of a write.
        shortage_every, shortage_for: A disk without room.
        ring_every: Like `partition_every`, for partitions in which there are several majorities.
        hunt_every: Likewise, for those around whoever leads.
        hunt_slow: Ticks that one tick of a leader takes at least that is cut off so.
        stop_every: Likewise, for stops of the process of whoever leads.
        tell_after: The least time after which a leader looks whether followers know of a commit.
        tell_every: Somebody, not always the leader, is asked to tell of its commit index.
        silent_ends: Nobody is told of the end of a flush where the core says that nothing follows from
            it: it comes with the next event.
        tells_in_step: A leader tells of what it commits in the same step.
        deletions_max: Commands are those of real clients, nodes have real state machines, and so many
            deletions are kept; 0: there are registers only.
        events_max: So many events are kept then.
        services_max: Most commands are about services then, of which there may be so many; 0: none is.
    """

    nodes: int
    ticks: int
    core: Options
    is_mixed: bool
    delay_min: int
    delay_mean: int
    tail: float
    tail_mean: int
    is_fifo: bool
    drop: float
    duplicate: float
    replay: float
    odd: float
    partition_every: int
    partition_for: int
    one_way: float
    clog_every: int
    clog_for: int
    flush_mean: int
    flush_tail: float
    flush_tail_mean: int
    keep: str
    crash_every: int
    down_for: int
    crash_at_boundary: float
    crash_all: float
    pause_every: int
    pause_for: int
    skew: float
    apply_mean: int
    window: int
    peer_down: float
    false_alarm_every: int
    propose_every: int
    propose_most: int
    payload: int
    read_every: int
    change_every: int
    compact_above: int
    compact_keep: int
    snapshot_mean: int
    snapshot_loss: float
    transfer_every: int
    joint: float
    change_soon: float
    capacity: int
    burst: float
    ring_every: int
    hang: float
    hang_for: int
    disk_failure: float
    crash_loop: float
    wipe_every: int
    damage: float
    chunk_pairs: int
    stream_cut: float
    chunk_damage: float
    chunk_repeat: float
    chunk_gap: float
    install_crash: float
    lost_witness: float
    torn: float
    shortage_every: int
    shortage_for: int
    hunt_every: int
    hunt_slow: int
    stop_every: int
    tell_after: int
    tell_every: int
    deletions_max: int
    events_max: int
    silent_ends: bool = False
    tells_in_step: bool = False
    services_max: int = 0


def stream(seed: int, name: str) -> Random:
    """Return the random stream of one kind of fault: taking one away does not shift the others."""
    return Random(f"{seed}/{name}")


def draw(seed: int) -> SimOptions:
    """Draw the options of a run."""
    rng = stream(seed, "options")

    def often(chance: float, low: float, high: float) -> float:
        return rng.uniform(low, high) if rng.random() < chance else 0.0

    def every(chance: float, low: float, high: float) -> int:
        return int(often(chance, low, high) * TICK)

    pick: Callable[..., int] = lambda *values: rng.choice(values)  # noqa: E731 - a short name
    return SimOptions(
        nodes=rng.choice((1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 7)),
        ticks=rng.choice((60, 120, 120, 240)),
        core=_draw_core(seed),
        is_mixed=rng.random() < 0.15,
        delay_min=pick(1, 10, 50),
        delay_mean=pick(10, 50, 200, 500, 1500),
        tail=often(0.4, 0.002, 0.05),
        tail_mean=pick(5, 15, 40) * TICK,
        is_fifo=rng.random() < 0.3,
        drop=often(0.6, 0.005, 0.25),
        duplicate=often(0.5, 0.01, 0.25),
        replay=often(0.5, 0.002, 0.1),
        odd=often(0.4, 0.005, 0.1),
        partition_every=every(0.6, 10, 60),
        partition_for=pick(3, 10, 30) * TICK,
        one_way=pick(0, 1, 2) / 2,
        clog_every=every(0.3, 5, 40),
        clog_for=pick(2, 8, 20) * TICK,
        flush_mean=pick(0, 5, 50, 300, 1500),
        flush_tail=often(0.4, 0.01, 0.1),
        flush_tail_mean=pick(3, 10, 30) * TICK,
        keep=rng.choice(("none", "none", "some", "some", "all")),
        crash_every=every(0.75, 6, 60),
        down_for=pick(1, 3, 15) * TICK,
        crash_at_boundary=often(0.4, 0.0005, 0.01),
        crash_all=pick(0, 0, 1, 3) / 10,
        pause_every=every(0.4, 10, 60),
        pause_for=pick(2, 8, 25) * TICK,
        skew=rng.choice((1.0, 1.1, 1.5, 3.0, 10.0)),
        apply_mean=pick(0, 0, 50, 1500),
        window=pick(0, 0, 20, 300, 2000),
        peer_down=often(0.5, 0.2, 1.0),
        false_alarm_every=every(0.3, 5, 40),
        propose_every=pick(100, 300, 1000, 3000),
        propose_most=pick(1, 1, 4),
        payload=pick(0, 0, 30, 200),
        read_every=every(0.8, 0.2, 3),
        change_every=every(0.6, 2, 20),
        compact_above=pick(2, 5, 20, 50, 10_000),
        compact_keep=pick(0, 1, 5),
        snapshot_mean=pick(20, 300, 3000),
        snapshot_loss=often(0.4, 0.05, 0.4),
        **_draw_rest(often, every, pick),
        **_draw_hunts(stream(seed, "hunts")),
        **_draw_stops(stream(seed, "stops")),
        **_draw_news(stream(seed, "commit news")),
        **_draw_quiet(stream(seed, "quiet")),
        **_draw_tables(seed),
    )


def _draw_rest(
    often: Callable[[float, float, float], float],
    every: Callable[[float, float, float], int],
    pick: Callable[..., int],
) -> dict[str, Any]:
    """Draw what operators and disks do."""
    return {
        "transfer_every": every(0.4, 4, 40),
        "joint": often(0.7, 0.2, 1.0),
        "change_soon": often(0.4, 0.2, 1.0),
        "capacity": pick(0, 0, 0, 2, 8, 20),
        "burst": often(0.4, 0.3, 1.0),
        "ring_every": every(0.3, 10, 60),
        "hang": often(0.3, 0.0005, 0.01),
        "hang_for": pick(5, 20, 60) * TICK,
        "disk_failure": often(0.3, 0.0003, 0.005),
        "crash_loop": often(0.3, 0.2, 0.8),
        "wipe_every": every(0.3, 20, 100),
        "damage": often(0.35, 0.05, 0.4),
        "chunk_pairs": pick(0, 1, 2, 2, 3),
        "stream_cut": often(0.5, 0.02, 0.25),
        "chunk_damage": often(0.4, 0.02, 0.2),
        "chunk_repeat": often(0.4, 0.05, 0.5),
        "chunk_gap": often(0.3, 0.02, 0.2),
        "install_crash": often(0.4, 0.02, 0.2),
        "lost_witness": often(0.4, 0.2, 1.0),
        "torn": often(0.4, 0.2, 1.0),
        "shortage_every": every(0.3, 10, 60),
        "shortage_for": pick(2, 8, 25) * TICK,
    }


def _draw_hunts(rng: Random) -> dict[str, Any]:
    is_on = rng.random() < 0.5
    return {
        "hunt_every": int(rng.uniform(10, 60) * TICK) if is_on else 0,
        "hunt_slow": rng.choice((1, 2, 4)),
    }


def _draw_stops(rng: Random) -> dict[str, Any]:
    return {"stop_every": int(rng.uniform(10, 60) * TICK) if rng.random() < 0.25 else 0}


def _draw_news(rng: Random) -> dict[str, Any]:
    return {
        "tell_after": rng.choice((_TELL_AFTER, _TELL_AFTER, _TELL_AFTER, TICK // 4, 2 * TICK)),
        "tell_every": int(rng.uniform(0.3, 5) * TICK) if rng.random() < 0.4 else 0,
    }


def _draw_quiet(rng: Random) -> dict[str, Any]:
    """Draw what real nodes do while commits are few."""
    return {"silent_ends": rng.random() < 0.75, "tells_in_step": rng.random() < 0.6}


def _draw_tables(seed: int) -> dict[str, Any]:
    """Draw whether there are real state machines, and what is in them."""
    rng, services = stream(seed, "tables"), stream(seed, "services")
    is_on, has_services = rng.random() < 0.25, services.random() < 0.5
    return {
        "services_max": services.choice((8, INSTANCES_MAX)) if has_services else 0,
        "deletions_max": rng.choice((4, 8, 16, DELETIONS_MAX)) if is_on else 0,
        "events_max": rng.choice((3, 10, EVENTS_MAX)),
    }


def _draw_core(seed: int) -> Options:
    """Draw each option from a stream of its own: a new one leaves those of before as they were."""
    if stream(seed, "core as shipped").random() < _SHIPPED_WHOLE:
        return SHIPPED
    drawn: dict[str, Any] = {}
    for name, others in OTHER_THAN_SHIPPED.items():
        rng = stream(seed, f"core option {name}")
        if rng.random() >= _SHIPPED_EACH:
            drawn[name] = rng.choice(others)
    return replace(SHIPPED, **drawn)
