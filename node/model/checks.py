"""Health checks of the catalog, as stored, and the command that changes the check of a member.

Each member has the check `serfHealth`, which the leader keeps (`cluster/serf_health.py`). All others
are registered by clients: their commands are in `services.py`. A check that belongs to a service
counts for that service; one that belongs to the node counts for all services there.
"""

from __future__ import annotations

import enum
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

NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
"""IDs of the checks that stand for maintenance; the ID of the service follows the second."""

OUTPUT_BYTES_MAX = 4_096
"""Of the output that is kept; a note on how much was cut may follow it."""
NOTES_BYTES_MAX = 4_096
INTERVAL_NS_MIN = 10**9
DEREGISTER_AFTER_MS_MIN = 60_000
"""What is below these two counts as these."""

CheckStatus = Literal["passing", "warning", "critical"]

CheckKind = Literal["", "ttl", "http", "tcp", "script", "maintenance"]
"""How a check gets its status; empty: nobody runs it, and the catalog was told."""


class CheckDefinition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is run for a check, and how its results count.

    Fields that the kind of the check does not use have their defaults, and cost nothing on disk.

    Attributes:
        kind: Which of these fields count.
        ttl_ns: `ttl`: after so long without a word, it is critical.
        interval_ns: Of `http`, `tcp` and `script`: from one run to the next; at least 1 s.
        timeout_ns: Of one run; 0: the default of its kind.
        http, method, headers, body: The request of `http`; headers are sorted by name.
        no_redirects: Redirects are not followed.
        tls_skip_verify, tls_server_name: For `https`.
        tcp: `HOST:PORT` of `tcp`.
        tcp_tls: It shakes hands for TLS as well.
        args: The program of `script`, and its arguments.
        successes: So many good results in a row before it leaves critical; 0: one.
        failures_warning: So many bad results in a row before it is warning; 0: as `failures_critical`.
        failures_critical: So many before it is critical; 0: one.
        deregister_after_ms: Its service goes when it is critical for so long; 0: it never does.
        output_max: Bytes of output that are kept; 0: 4,096.
        is_shown: It was given as `Definition` to the catalog, and is shown in answers.
    """

    kind: CheckKind = ""
    ttl_ns: Unsigned = 0
    interval_ns: Unsigned = 0
    timeout_ns: Unsigned = 0
    http: str = ""
    method: str = ""
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    body: str = ""
    no_redirects: bool = False
    tls_skip_verify: bool = False
    tls_server_name: str = ""
    tcp: str = ""
    tcp_tls: bool = False
    args: tuple[str, ...] = ()
    successes: Unsigned = 0
    failures_warning: Unsigned = 0
    failures_critical: Unsigned = 0
    deregister_after_ms: Unsigned = 0
    output_max: Unsigned = 0
    is_shown: bool = False


class Check(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A check.

    Attributes:
        node: The catalog number of its node (`Member.number`).
        id: Its CheckID, unique on the node.
        name: For people.
        status: What it says.
        output: Why.
        critical_ms: The cluster's time when it became critical; 0: it is not.
        create_index, modify_index: Raft indexes.
        service: The ID of its service; empty: it is a check of the node.
        notes: For people.
        definition: What is run for it; None: nothing is.
        defined: The Raft index at which the definition was last changed.
        told: The Raft index at which a registration last gave a status: a TTL starts again then.
    """

    node: Unsigned
    id: str
    name: str
    status: CheckStatus
    output: str = ""
    critical_ms: Unsigned = 0
    create_index: Unsigned = 0
    modify_index: Unsigned = 0
    service: str = ""
    notes: str = ""
    definition: CheckDefinition | None = None
    defined: Unsigned = 0
    told: Unsigned = 0


class SetCheck(msgspec.Struct, frozen=True, array_like=True, tag="C", gc=False):
    """Make a check, or change its status and output; what is so already moves no index.

    Attributes:
        check: As it shall be; its indexes and `critical_ms` are set when it takes effect.
        time_ms: The cluster's time.
    """

    check: Check
    time_ms: Unsigned = 0


class Word(enum.IntEnum):
    """How a client's word about a TTL check was taken."""

    TAKEN = 0
    """The check says so now."""
    UNKNOWN = 1
    """There is no such check."""
    NOT_TTL = 2
    """The check gets its status in another way."""
