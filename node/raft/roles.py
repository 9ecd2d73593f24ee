"""The four roles a node can have in its term."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """Follower, candidate, leader (section 5.1), and the pre-candidate (thesis section 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
