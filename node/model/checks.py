"""Health checks of the catalog, as stored, and the command that changes one.

So far there is one of each member: `serfHealth`, which the leader keeps (`cluster/serf_health.py`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .numbers import Unsigned

SERF_HEALTH = "serfHealth"
"""The ID of the check of a member itself, as Consul calls it."""

SERF_HEALTH_NAME = "Serf Health Status"
AGENT_ALIVE = "Agent alive and reachable"
AGENT_NOT_LIVE = "Agent not live or unreachable"
"""What that check says, in Consul's words."""

CHECK_ID_BYTES_MAX = 1024
CHECK_TEXT_BYTES_MAX = 16 * 1024
"""Of the name and the output of a check together."""

CheckStatus = Literal["passing", "warning", "critical"]


class Check(msgspec.Struct, frozen=True, gc=False):
    """A check.

    Attributes:
        node: The catalog number of its node (`Member.number`).
        id: Its CheckID, unique on the node.
        name: For people.
        status: What it says.
        output: Why.
        critical_ms: The cluster's time when it became critical; 0: it is not.
        create_index, modify_index: Raft indexes.
    """

    node: Unsigned
    id: str
    name: str
    status: CheckStatus
    output: str = ""
    critical_ms: Unsigned = 0
    create_index: Unsigned = 0
    modify_index: Unsigned = 0


class SetCheck(msgspec.Struct, frozen=True, array_like=True, tag="C", gc=False):
    """Make a check, or change its status and output; what is so already moves no index.

    Attributes:
        check: As it shall be; its indexes and `critical_ms` are set when it takes effect.
        time_ms: The cluster's time.
    """

    check: Check
    time_ms: Unsigned = 0
