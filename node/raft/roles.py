"""What a node can be in its term."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """Sections 5.1 and, for the pre-candidate, 9.6 of the thesis."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
