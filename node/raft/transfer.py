"""Leadership transfer: the leader hands leadership to a voter of its choice (thesis section 3.10).

1. "The prior leader stops accepting new client requests."
2. It waits until the chosen voter has its whole log.
3. It sends TimeoutNow, and the voter calls an election at once. That election needs no pre-vote,
   and the voters ignore the old leader's lease, since the old leader itself asked for the election.
4. "If leadership transfer does not complete after about an election timeout, the prior leader
   aborts the transfer and resumes accepting client requests."
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
    """A transfer in progress.

    Attributes:
        rid: The id that the driver gave it.
        to: The voter that is to lead.
        since: The tick at which it began.
        asked: The tick at which that voter was last sent a TimeoutNow, or None.
    """

    rid: int
    to: int
    since: int
    asked: int | None = None


def start(core: Core, event: TransferLeader) -> None:
    """Begin a transfer, or refuse it with a reason."""
    refusal = _refusal(core, event.to)
    if refusal is not None:
        core.update.rejected.append((event.rid, *refusal))
        return
    # Only voters: hashicorp/raft has counted or chosen non-voters here (hashicorp/raft#308, #398,
    # #487).
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
    """Return the other voter that will be up to date first; 0: there is none."""
    others = [node for node in core.config.voters if node != core.id]

    # A voter that answers before one that does not, then the longest log, then the smallest id.
    def readiness(node: int) -> tuple[bool, int, int]:
        progress = core.progress[node]
        return progress.active, progress.match, -node

    return max(others, key=readiness, default=0)


def ask_if_ready(core: Core) -> None:
    """Send the chosen voter a TimeoutNow once it has the whole log; at most one per tick."""
    # Sent again each tick, since a message may be lost. It is gathered behind the appends of the
    # same step, so that the next leader begins with the newest commit index this leader knows.
    transfer = core.transfer
    if transfer is None or transfer.asked == core.ticks:
        return
    progress = core.progress.get(transfer.to)
    if progress is not None and progress.match == core.log.last_index:
        transfer.asked = core.ticks
        core.send(TimeoutNow(core.id, transfer.to, core.term))


def tick(core: Core) -> None:
    """Abort the transfer after an election timeout."""
    transfer = core.transfer
    if transfer is not None and core.ticks - transfer.since >= core.options.election_ticks:
        core.transfer = None
        text = "the node that was to lead has not taken over in time"
        core.update.rejected.append((transfer.rid, Reason.TRANSFER_ABORTED, text))


def finish(core: Core) -> None:
    """Report the transfer as done: this node does not lead any more."""
    if core.transfer is not None:
        core.update.transferred.append(core.transfer.rid)
        core.transfer = None


def on_timeout_now(core: Core, message: TimeoutNow) -> None:
    """Call an election if this node may; `terms.on_receive` has compared the terms.

    Not if its disk is short of room, which the leader may not know yet: it would have to refuse
    every write. The leader leads on after an election timeout.
    """
    is_free = core.role is not Role.LEADER and core.leader in (0, message.frm)
    if is_free and core.is_promotable() and not core.is_short:
        election.become_candidate(core, is_transfer=True)
