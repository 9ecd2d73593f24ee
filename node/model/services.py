"""Services, and the nodes that are no members: as stored, and the commands that change them.

Each command is one write of the catalog. A *place* says on which node something is registered. What
the commands do is in `node/state/catalog/` (`services.py`, `externals.py`, `results.py`).

The tags and the order of fields are on disk in every log and state: add at the end, never change.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .checks import CheckDefinition, CheckStatus
from .numbers import Unsigned

SERVICES_OF_NODE_MAX = 5_000
INSTANCES_MAX = 50_000
EXTERNAL_NODES_MAX = 10_000
CHECKS_OF_SERVICE_MAX = 64
CHECKS_OF_NODE_MAX = 10_000
"""Bounds of the catalog (contract of services, section 9.5)."""

TAGS_MAX = 128
TAG_BYTES_MAX = 255
META_MAX = 64
META_KEY_BYTES_MAX = 128
META_VALUE_BYTES_MAX = 512
NAME_BYTES_MAX = 255
SERVICE_ID_BYTES_MAX = 1024
ADDRESS_BYTES_MAX = 255
TAGGED_MAX = 32
"""Of one service or node. `TAGGED_MAX` is of its tagged addresses."""

PORT_MAX = 65_535
WEIGHT_MAX = 65_535

CONSUL = "consul"
"""Name and ID of the service that each member is. Nobody can register either."""

EXTERNAL_NODE_META = ("external-node", "true")
"""The meta pair of an external node whose checks a member runs (consul-esm has the same mark)."""

Pairs = tuple[tuple[str, str], ...]
"""Sorted by key."""

Tagged = tuple[tuple[str, str, Unsigned], ...]
"""Tagged addresses of a service: (key, address, port), sorted by key."""


class Service(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One instance: a service on one node.

    Attributes:
        node: The catalog number of its node.
        id: Its ID, unique on the node.
        name: Its name, as the first instance of that name wrote it; set when it takes effect.
        tags: In the order in which they were given.
        address: IP or host name; empty: the node's.
        port: 0: none.
        tagged: Tagged addresses.
        meta: Pairs of its client.
        weight_passing, weight_warning: For DNS.
        tag_override: Tags that `CatalogRegister` sets stay when the agent registers the service
            again with the tags that it gave before.
        agent_tags: The tags that the agent gave last, where `CatalogRegister` has changed `tags` since;
            else None.
        checks: The IDs of its checks, sorted; set when it takes effect.
        create_index, modify_index: Raft indexes; set when it takes effect.
    """

    node: Unsigned
    id: str
    name: str
    tags: tuple[str, ...] = ()
    address: str = ""
    port: Unsigned = 0
    tagged: Tagged = ()
    meta: Pairs = ()
    weight_passing: Unsigned = 1
    weight_warning: Unsigned = 1
    tag_override: bool = False
    agent_tags: tuple[str, ...] | None = None
    checks: tuple[str, ...] = ()
    create_index: Unsigned = 0
    modify_index: Unsigned = 0


class ExternalNode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node of the catalog that is no member.

    Attributes:
        number: Its catalog number.
        name: As first written. It is found without regard to case.
        uuid: Its UUID as text, in lower case; empty: it has none.
        address: IP or host name, without a port.
        tagged: Tagged addresses: (key, address).
        meta: Pairs of its client.
        goes_with_last: It was made by the registration of a service or check on it, and goes with
            the last of these.
        create_index, modify_index: Raft indexes; set when it takes effect.
    """

    number: Unsigned
    name: str
    uuid: str = ""
    address: str = ""
    tagged: Pairs = ()
    meta: Pairs = ()
    goes_with_last: bool = False
    create_index: Unsigned = 0
    modify_index: Unsigned = 0


class GivenCheck(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A check as a client gives it.

    Attributes:
        id: Its CheckID.
        name: For people.
        status: Empty: none was given, so a check that is there keeps its status.
        notes: For people.
        output: Given by `CatalogRegister` only.
        definition: What is to be run; None: nobody runs it.
        service: The ID of its service; empty: it is a check of the node, or of the service that
            comes with it in `RegisterService`.
    """

    id: str
    name: str
    status: Literal["", "passing", "warning", "critical"] = ""
    notes: str = ""
    output: str = ""
    definition: CheckDefinition | None = None
    service: str = ""


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where something is registered.

    Attributes:
        number: The catalog number of a member's node; 0: it is an external node, found by its name.
        name: Of the external node.
        address: For an external node that this registration makes; empty: it must exist.
    """

    number: Unsigned
    name: str = ""
    address: str = ""


class RegisterService(msgspec.Struct, frozen=True, array_like=True, tag="u", gc=False):
    """Make a service on one node or replace it, and make or change its checks.

    Attributes:
        place: On which node.
        service: As it shall be; its node, checks and indexes are set when it takes effect.
        checks: Its checks. Those that it has and that are not named here stay.
        replaces_checks: They go.
        time_ms: The cluster's time, for checks that become critical.
    """

    place: Place
    service: Service
    checks: tuple[GivenCheck, ...] = ()
    replaces_checks: bool = False
    time_ms: Unsigned = 0


class RegisterCheck(msgspec.Struct, frozen=True, array_like=True, tag="h", gc=False):
    """Make one check of a node or of a service on it, or change it; also of kind `maintenance`.

    Attributes:
        place: On which node.
        check: As it shall be.
        time_ms: The cluster's time.
    """

    place: Place
    check: GivenCheck
    time_ms: Unsigned = 0


class Deregister(msgspec.Struct, frozen=True, array_like=True, tag="v", gc=False):
    """Remove a service with its checks, or one check, or a whole external node.

    Attributes:
        place: On which node.
        service: The ID of the service; None: it is not about a service.
        check: The ID of the check; None: it is not about a check.
        is_catalog: What is not there is no error; a member and what belongs to it are protected.
    """

    place: Place
    service: str | None = None
    check: str | None = None
    is_catalog: bool = False


class DeregisterCritical(msgspec.Struct, frozen=True, array_like=True, tag="j", gc=False):
    """Remove a service whose check is critical for too long. The leader proposes it.

    The outcome is false where the check is not what the leader saw any more.

    Attributes:
        node, check: Which check.
        modify_index: That the check had when the leader saw it.
        time_ms: The cluster's time.
    """

    node: Unsigned
    check: str
    modify_index: Unsigned
    time_ms: Unsigned = 0


class CatalogRegister(msgspec.Struct, frozen=True, array_like=True, tag="n", gc=False):
    """Make or change an external node, at most one service on it, and checks, in one write.

    Attributes:
        node: As it shall be; its number and its indexes are set when it takes effect.
        keeps_node: A node that is there stays as it is.
        service: As it shall be; None: none is registered.
        checks: Made or changed.
        time_ms: The cluster's time.
    """

    node: ExternalNode
    keeps_node: bool = False
    service: Service | None = None
    checks: tuple[GivenCheck, ...] = ()
    time_ms: Unsigned = 0


Registration = RegisterService | RegisterCheck | CatalogRegister
"""What may be so already, so that nothing has to be committed for it."""


class CheckResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a member found out about a check.

    Attributes:
        node, id: Which check.
        defined: `Check.defined` of the definition that ran.
        status: What the check says now.
        output: Why.
    """

    node: Unsigned
    id: str
    defined: Unsigned
    status: CheckStatus
    output: str


RESULTS_MAX = 256
"""Results in one `UpdateChecks`."""


class UpdateChecks(msgspec.Struct, frozen=True, array_like=True, tag="U", gc=False):
    """Results of checks, from the member that runs them.

    Those of a check that another member runs, or of an older definition, change nothing.

    Attributes:
        owner: The id of that member.
        results: At least one.
        time_ms: The cluster's time.
    """

    owner: Unsigned
    results: Annotated[tuple[CheckResult, ...], msgspec.Meta(min_length=1, max_length=RESULTS_MAX)]
    time_ms: Unsigned = 0


ASSIGNED_MAX = 1_024
"""Nodes in one `AssignNodes`."""


class AssignNodes(msgspec.Struct, frozen=True, array_like=True, tag="O", gc=False):
    """Say which members run the checks of external nodes. The leader proposes it.

    Attributes:
        pairs: (number of an external node, id of the member; 0: nobody).
    """

    pairs: Annotated[
        tuple[tuple[Unsigned, Unsigned], ...],
        msgspec.Meta(min_length=1, max_length=ASSIGNED_MAX),
    ]
