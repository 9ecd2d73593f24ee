"""Leadership handed over on purpose (thesis section 3.10).

The leader stops taking proposals, waits until the chosen voter has its whole log, and asks it to
call an election at once. That election needs no pre-vote and overrides the lease that the voters
hold for the old leader, because the old leader itself has asked for it. If nobody has taken over
within an election timeout, the leader goes on as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import election
from .errors import Reason
from .messages import TimeoutNow
from .roles import Role

if TYPE_CHECKING:
    from .core import Core
    from .events import TransferLeader


@dataclass(slots=True)
class Transfer:
    """One under way.

    Attributes:
        rid: The asker's id of it.
        to: The voter that shall lead.
        since: The tick at which it began.
        asked: The tick at which the voter was last asked to call an election, or None.
    """

    rid: int
    to: int
    since: int
    asked: int | None = None


def start(core: Core, event: TransferLeader) -> None:
    """Begin to hand leadership over, or say why not."""
    refusal = _refusal(core, event.to)
    if refusal is not None:
        core.update.rejected.append((event.rid, *refusal))
        return
    to = event.to or _furthest(core)
    if not to:
        text = "there is no other voter"
        core.update.rejected.append((event.rid, Reason.INVALID_TRANSFER, text))
        return
    core.transfer = Transfer(event.rid, to, core.ticks)


def _refusal(core: Core, to: int) -> tuple[Reason, str] | None:
    if core.role is not Role.LEADER:
        return Reason.NOT_LEADER, core.leader_hint()
    if core.transfer is not None:
        return Reason.INVALID_TRANSFER, "leadership is being handed over already"
    if to == core.id:
        return Reason.INVALID_TRANSFER, "this node leads already"
    if to and to not in core.config.voters:
        return Reason.INVALID_TRANSFER, "only a voter can lead"
    return None


def _furthest(core: Core) -> int:
    """Return the other voter that will be ready first; 0: there is none."""
    others = [node for node in core.config.voters if node != core.id]

    def readiness(node: int) -> tuple[bool, int, int]:
        progress = core.progress[node]
        return progress.active, progress.match, -node

    return max(others, key=readiness, default=0)


def ask_if_ready(core: Core) -> None:
    """Ask the chosen voter to call an election once it has everything; once a tick at most.

    Asked again, for the question may be lost. It leaves behind the appends of the same step, so
    that the next leader begins with all that is known to be committed.
    """
    transfer = core.transfer
    if transfer is None or transfer.asked == core.ticks:
        return
    progress = core.progress.get(transfer.to)
    if progress is not None and progress.match == core.log.last_index:
        transfer.asked = core.ticks
        core.send(TimeoutNow(core.id, transfer.to, core.term))


def tick(core: Core) -> None:
    """Give up after an election timeout."""
    transfer = core.transfer
    if transfer is not None and core.ticks - transfer.since >= core.options.election_ticks:
        core.transfer = None
        text = "the node that was to lead has not taken over in time"
        core.update.rejected.append((transfer.rid, Reason.TRANSFER_ABORTED, text))


def finish(core: Core) -> None:
    """This node leads no more."""
    if core.transfer is not None:
        core.update.transferred.append(core.transfer.rid)
        core.transfer = None


def on_timeout_now(core: Core, message: TimeoutNow) -> None:
    """Call an election, if this node is a voter that may (terms are equal here)."""
    is_free = core.role is not Role.LEADER and core.leader in (0, message.frm)
    if is_free and core.is_promotable():
        election.become_candidate(core, is_transfer=True)
