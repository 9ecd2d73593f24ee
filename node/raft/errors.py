"""Why the core refuses, and the one exception it raises."""

from __future__ import annotations

import enum


class CoreBug(Exception):
    """An invariant of consensus is broken: the node must stop before it does harm.

    Raised for impossible states of this node, and for proof that another node broke safety (two
    leaders in one term, a conflict below the commit index). Never raised for messages that are
    merely late, duplicated or malformed.
    """


class Reason(enum.Enum):
    """Why a proposal, a membership change or a read was not taken."""

    NOT_LEADER = "not leader"
    """This node does not lead; the hint, if any, names who does."""
    OVERLOADED = "overloaded"
    """A bound is reached; nothing was appended."""
    CHANGE_PENDING = "change pending"
    """Another membership change is not committed, or the leader's no-op is not."""
    INVALID_CHANGE = "invalid change"
    """The change is not one that can be made now; the text says why."""
    LOST_LEADER = "lost leader"
    """The leader of the term that the read was registered in is gone: ask again."""
    INVALID_TRANSFER = "invalid transfer"
    """Leadership cannot go there; the text says why."""
    TRANSFER_ABORTED = "transfer aborted"
    """The node that was to lead has not taken over within an election timeout."""
    TRANSFERRING = "transferring"
    """Leadership is being handed over; nothing was appended. The next leader will take it."""
