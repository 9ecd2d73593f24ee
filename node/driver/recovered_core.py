"""A core made from what was durable (rule D19), and the end of its recovery when log was lost.

What was lost is decided in `storage/recovery.py`, what a core may do meanwhile in `raft/core.py`;
here both are brought together, and logged for the operator.
"""

from __future__ import annotations

from random import Random

import structlog

from ..model.commands import ClusterSettings
from ..raft.core import Core
from ..raft.options import Options
from ..storage.interface import Recovered, Storage

_ELECTION_JITTER = 0.5
"""A leader that is silent while its port lives is missed for T and a third of this part of it, with
two voters left. Ticks of different nodes fall at different times: so two that draw the same number
are still some 10 ms apart, which an election takes."""

_LOST_MAX = 200
"""Characters of a text that goes with every report and bulletin."""

_log = structlog.get_logger()


def core_on(storage: Storage, node_id: int, options: Options, rng: Random) -> tuple[Core, str]:
    """Return the core of the node whose disk this is, and what its disk has lost, in words.

    Raises:
        StorageError, CoreBug: What is on disk cannot be used.
    """
    found = storage.load()
    if found.recover_to:
        _log.error(
            "lost acknowledged log",
            member=node_id,
            lost=found.lost,
            up_to=found.recover_to,
        )
    core = Core(
        node_id,
        options,
        rng,
        hard_state=found.hard_state,
        snapshot=found.snapshot,
        entries=found.entries,
        applied=found.applied,
        recover_to=found.recover_to,
    )
    return core, _lost_log(found)


def _lost_log(found: Recovered) -> str:
    """Return what was lost and when the node votes again, a text that stays the same until then."""
    if not found.recover_to:
        return ""
    return (
        f"lost acknowledged log: {found.lost[:_LOST_MAX]}; "
        f"it votes again when a leader has sent it the log up to entry {found.recover_to}"
    )


def still_recovering(core: Core, storage: Storage, *, before: bool) -> bool:
    """Return whether `core` is recovering; when it was `before` and is over, note and say so.

    Raises:
        StorageError: The disk failed.
    """
    if before and not core.is_recovering:
        storage.recovered()
        _log.info("the lost log is here again", member=core.id, up_to=core.log.last_index)
    return core.is_recovering


def core_options(settings: ClusterSettings) -> Options:
    """Return the bounds and times of a core in a cluster with these settings."""
    # Under load the next entries carry the news of a commit, which saves a message each time.
    return Options(
        election_ticks=election_ticks(settings),
        election_jitter=_ELECTION_JITTER,
        eager_commit=False,
    )


def election_ticks(settings: ClusterSettings) -> int:
    """Return the election timeout in heartbeats."""
    return max(settings.election_timeout_ms // settings.heartbeat_ms, 2)
