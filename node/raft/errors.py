"""The one exception of the core, and the reasons it gives for refusing a request."""

from __future__ import annotations

import enum


class CoreBug(Exception):
    """An invariant of consensus is broken: the node must stop before it does harm.

    Raised for impossible states of this node. Never raised for a message, whatever it is: what no
    other node can have sent that keeps to the protocol (a second leader of a term, a conflict below
    the commit index) is refused (`Update.refused`).
    """


class Reason(enum.Enum):
    """Why the core refused a proposal, a membership change, a transfer or a read."""

    NOT_LEADER = "not leader"
    """This node is not the leader; the text beside it is the leader's id, if known."""
    OVERLOADED = "overloaded"
    """A limit of `Options` is reached; nothing was appended."""
    CHANGE_PENDING = "change pending"
    """The previous membership change, or the no-op of this leader's term, is not committed yet."""
    INVALID_CHANGE = "invalid change"
    """This membership change cannot be made now; the text says why."""
    LOST_LEADER = "lost leader"
    """The leader that registered the read does not lead any more, or gave no answer: ask again."""
    INVALID_TRANSFER = "invalid transfer"
    """Leadership cannot be handed to this node; the text says why."""
    TRANSFER_ABORTED = "transfer aborted"
    """The chosen voter did not become leader within an election timeout."""
    TRANSFERRING = "transferring"
    """Leadership is being handed over; nothing was appended. Ask the next leader."""
