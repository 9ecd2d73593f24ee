"""The commands that entries of the log carry, and the outcome of carrying one out.

Each is encoded as a msgpack array that begins with a tag of one character. The tags and the order
of fields are on disk in every log: add at the end, never change. What a command does is in
`node/state/`, in the module of the table that it writes.

A command that needs the cluster's time has a field `time_ms`, and that is all it takes: the leader
that proposes it writes the time there (`needs_time`, `stamped`), and the state takes it in before
the command takes effect. A command that another one carries needs no stamp of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated, Literal, get_args

import msgspec

from .checks import SetCheck
from .locks import Acquire, CreateSession, EndSession, Release
from .numbers import Unsigned
from .services import (
    AssignNodes,
    CatalogRegister,
    Deregister,
    DeregisterCritical,
    RegisterCheck,
    RegisterService,
    UpdateChecks,
)
from .transactions import (
    OPERATIONS_MAX,
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
    KeyRow,
)
from .user_events import FireEvent

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 1024 * 1024
IDEMPOTENCY_KEY_BYTES_MAX = 256
SETTING_TEXT_MAX = 1_024
DIGEST_BYTES = 16
"""Of a request. Only requests under one key are compared, so it has to withstand no search."""


class Put(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """Set a key.

    Attributes:
        key: 1 to 4,096 bytes.
        value: Up to 1 MiB.
        flags: An unsigned 64-bit number kept with the key.
        cas: Only if the key's revision is this; 0: only if it does not exist; None: always.
        must_exist: Only if the key exists.
    """

    key: bytes
    value: bytes
    flags: Unsigned = 0
    cas: Unsigned | None = None
    must_exist: bool = False


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """Remove a key; with `cas`, only if its revision is this."""

    key: bytes
    cas: Unsigned | None = None


class DeletePrefix(msgspec.Struct, frozen=True, array_like=True, tag="D", gc=False):
    """Remove every key that starts with `prefix`; the empty prefix is all of them."""

    prefix: bytes


Operation = (
    Put
    | Delete
    | DeletePrefix
    | Acquire
    | Release
    | Get
    | GetTree
    | CheckIndex
    | CheckSession
    | CheckNotExists
)
"""What a transaction can do."""


class Transaction(msgspec.Struct, frozen=True, array_like=True, tag="t", gc=False):
    """Carry out all operations in order, each seeing those before it, or none of them.

    `ok` of the outcome says which. If so `rows` has what the operations answer; else `faults` has
    every operation that failed, and nothing was applied.

    Attributes:
        operations: 1 to 128.
        time_ms: The cluster's time, for lock delays.
    """

    operations: Annotated[
        tuple[Operation, ...], msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX)
    ]
    time_ms: Unsigned = 0


Write = (
    Put
    | Delete
    | DeletePrefix
    | Acquire
    | Release
    | CreateSession
    | EndSession
    | Transaction
    | FireEvent
    | RegisterService
    | RegisterCheck
    | Deregister
    | CatalogRegister
)
"""What a client can write, and do once under a key of its own."""


class Keyed(msgspec.Struct, frozen=True, array_like=True, tag="k", gc=False):
    """A write that takes effect once, however often it is proposed under the same key.

    Attributes:
        key: The client's idempotency key.
        digest: Of the request: it tells a request that is sent again from another one.
        command: What is to be done once.
        time_ms: The cluster's time when a leader proposed it; 0 until then.
    """

    key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=IDEMPOTENCY_KEY_BYTES_MAX)]
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
    command: Write
    time_ms: Unsigned = 0


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all nodes share; fixed when the cluster is created, then changed through the log.

    Times are whole milliseconds. Their meaning for users is in `config/cluster_settings.py`.
    """

    zone: str = "hstore.local"
    heartbeat_ms: int = 200
    election_timeout_ms: int = 1000
    health_interval_ms: int = 500
    dns_ttl_s: int = 1
    datacenter: str = "dc1"
    session_ttl_min_ms: int = 10_000
    session_node_grace_ms: int = 10_000
    alt_domains: str = "consul"
    check_update_interval_ms: int = 300_000
    dns_service_ttl: str = ""
    dns_only_passing: int = 0
    dns_empty: str = "nodata"
    dns_max_stale_ms: int = 300_000


class InitCluster(msgspec.Struct, frozen=True, array_like=True, tag="i", gc=False):
    """The first command of a cluster: its permanent id and its settings.

    Attributes:
        expect: Voters that it waits for before it serves clients; 0: none.
    """

    cluster_id: str
    settings: ClusterSettings
    expect: Unsigned = 0


class Member(msgspec.Struct, frozen=True, gc=False):
    """What is known of a member wherever it runs.

    Attributes:
        id: Its permanent id.
        name: Its name, a DNS label, unique in the cluster.
        address: `HOST:PORT` of its HTTP API; hosts are IP literals, IPv6 in brackets.
        peer_address: `HOST:PORT` for other nodes.
        dns_address: `HOST:PORT` of its DNS server.
        learner: It is to stay a learner for good.
        stopped: It was stopped on purpose, and is to stay a learner until it runs again.
        number: Of the node in the catalog, where that is not its id: the number of the member whose
            place it took, with all that was registered there; 0: its id.
        create_index: Raft index at which it became a member; 0: before that was kept.
        modify_index: Raft index of the last change that the catalog shows.
    """

    id: int
    name: str
    address: str
    peer_address: str
    dns_address: str
    learner: bool = False
    stopped: bool = False
    number: Unsigned = 0
    create_index: Unsigned = 0
    modify_index: Unsigned = 0

    @property
    def catalog_number(self) -> int:
        """The number by which sessions, checks and services name this node, whatever its name is."""
        return self.number or self.id


class PutMember(msgspec.Struct, frozen=True, array_like=True, tag="m", gc=False):
    """Add a member, or change what is known of one.

    An empty name asks for the next free `n1`, `n2`, …. A name or an API address that another
    member has is refused (`ok` is false, `text` says why); otherwise `text` is the name it has.
    """

    member: Member


class RemoveMember(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """Forget a member. Its id goes on a list of ids that can never come back."""

    id: int


class ReplaceMember(msgspec.Struct, frozen=True, array_like=True, tag="R", gc=False):
    """Add a member in the place of another, which is forgotten as by `RemoveMember`: both or neither.

    An empty name asks for the name of the one that goes. Refused where `PutMember` would be, and when
    the one that goes is no member; but not when it was removed before and the newcomer is a member:
    then it is the same request once more.

    Attributes:
        member: The newcomer.
        replaces: Id of the member that goes.
    """

    member: Member
    replaces: int


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False):
    """Change nothing: a point at which all replicas compare what they hold (`cluster/replica_check.py`)."""


class ChangeSetting(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """Change one of the cluster's settings; refused where it does not fit the others by then.

    Attributes:
        field: Of `ClusterSettings`.
        value: A number or a text, as the field has it.
    """

    field: Literal[
        "heartbeat_ms",
        "election_timeout_ms",
        "health_interval_ms",
        "dns_ttl_s",
        "datacenter",
        "session_ttl_min_ms",
        "session_node_grace_ms",
        "alt_domains",
        "check_update_interval_ms",
        "dns_service_ttl",
        "dns_only_passing",
        "dns_empty",
        "dns_max_stale_ms",
    ]
    value: Unsigned | Annotated[str, msgspec.Meta(max_length=SETTING_TEXT_MAX)]


class ChangeMember(msgspec.Struct, frozen=True, array_like=True, tag="M", gc=False):
    """Change some of what is known of a member, and nothing else: several may be under way.

    Attributes:
        id: Of the member; refused when there is no such member.
        name: Its new name; None: the one it has. One that another member has is refused.
        learner, stopped: As in `Member`; None: as it is.
        addresses: Of its API, for other nodes, of its DNS server; None: as they are.
    """

    id: int
    name: str | None = None
    learner: bool | None = None
    stopped: bool | None = None
    addresses: tuple[str, str, str] | None = None


class BecomeOnly(msgspec.Struct, frozen=True, array_like=True, tag="o", gc=False):
    """Make one member the whole of a new cluster. `hstore recover` writes it; no leader proposes it.

    Attributes:
        cluster_id: The permanent id of the new cluster.
        id: Of the one member that is left; it votes, and is not stopped.
        others: The ids of all nodes that belonged to the old cluster besides; they can never come
            back.
    """

    cluster_id: str
    id: int
    others: tuple[int, ...] = ()


Command = (
    Write
    | Keyed
    | InitCluster
    | PutMember
    | RemoveMember
    | ReplaceMember
    | Checkpoint
    | ChangeSetting
    | ChangeMember
    | BecomeOnly
    | SetCheck
    | DeregisterCritical
    | UpdateChecks
    | AssignNodes
)


class Effect(enum.Enum):
    """What a command does to the room on the disks."""

    TAKES = enum.auto()
    """It writes a value, however small. Whether it replaces a larger one is not known before it is
    applied, and until then the log has both."""
    FREES = enum.auto()
    """It deletes."""
    SMALL = enum.auto()
    """Members, settings and the like: of a few hundred bytes, and rare."""


class Denial(enum.IntEnum):
    """Why a write was not even tried."""

    NONE = 0
    KEY_REUSED = 1
    """Another request was answered under its key."""
    KEYS_EXHAUSTED = 2
    """As many keys as are kept are too young to be forgotten."""
    NO_SESSION = 3
    """There is no such session."""
    SESSION_REFUSED = 4
    """The session cannot be made; `text` says why, in Consul's words."""
    LIMIT = 5
    """A bound is reached, or the UUID of a node is taken; `text` says which."""
    TTL_TOO_SHORT = 6
    """A session's TTL is below the setting `session_ttl_min`; `text` is that, in milliseconds."""
    NO_NODE = 8
    """The catalog has no such node."""
    NO_SERVICE = 9
    """There is no such service on the node."""
    NO_CHECK = 10
    """There is no such check on the node."""
    MEMBER = 11
    """What belongs to a member is registered by that member only; `text` says so."""
    PROTECTED = 12
    """It cannot be removed in this way: a member, its `serfHealth`, its service `consul`."""
    NO_SERVICE_OF_CHECK = 13
    """The service of a check is not on the node; `text` is its ID."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a command ended; the same on every node.

    Attributes:
        ok: Whether it took effect. A missing key, or a revision that differs, is False.
        revision: The index of the entry where it took effect, else the key's present revision
            (0: it does not exist).
        text: A name or a reason, for commands about members; the UUID of what was made.
        denial: A `Denial`.
        rows: What a transaction answers.
        faults: Of a transaction that was not applied: (number of the operation, why), in order.
    """

    ok: bool
    revision: int
    text: str = ""
    denial: int = Denial.NONE
    rows: tuple[KeyRow, ...] = ()
    faults: tuple[tuple[Unsigned, str], ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Command)

encode = _encoder.encode
"""Encode a command as the payload of an entry."""

# The tag of a command is the first element of its array: after the byte that says how long the
# array is (up to 15 elements, msgpack's "fixarray") a string of one character ("fixstr").
_TIMED_TAGS = frozenset(
    encode(kind.__struct_config__.tag)
    for kind in get_args(Command)
    if "time_ms" in kind.__struct_fields__
)


_EFFECTS = {
    encode(kind.__struct_config__.tag): effect
    for kind, effect in (
        (Put, Effect.TAKES),
        (Acquire, Effect.TAKES),
        (Release, Effect.TAKES),
        (Transaction, Effect.TAKES),
        (FireEvent, Effect.TAKES),
        (Delete, Effect.FREES),
        (DeletePrefix, Effect.FREES),
        (EndSession, Effect.FREES),
        (RegisterService, Effect.TAKES),
        (RegisterCheck, Effect.TAKES),
        (CatalogRegister, Effect.TAKES),
        (Deregister, Effect.FREES),
        (DeregisterCritical, Effect.FREES),
    )
}
_RECOVERY_TAG = encode(BecomeOnly.__struct_config__.tag)
_KEYED_TAG = encode(Keyed.__struct_config__.tag)


def effect(data: bytes) -> Effect:
    """Return what an encoded command does to the room on the disks.

    Decodes only keyed writes. Of bytes that are no command it says `TAKES` or `SMALL`.
    """
    tag = data[1:3]
    if tag != _KEYED_TAG:
        return _EFFECTS.get(tag, Effect.SMALL)
    try:
        command = decode(data)
    except msgspec.MsgspecError:
        return Effect.TAKES
    if not isinstance(command, Keyed):
        return Effect.TAKES
    return _EFFECTS.get(encode(command.command.__struct_config__.tag), Effect.SMALL)


decode: Callable[[bytes], Command] = _decoder.decode
"""Decode the payload of an entry. Raises `msgspec.DecodeError`: it is not a command of this version."""


def is_recovery(data: bytes) -> bool:
    """Whether an encoded command is `BecomeOnly`, which no node may propose."""
    return data[1:3] == _RECOVERY_TAG


def needs_time(data: bytes) -> bool:
    """Return whether an encoded command has to be stamped by the leader that proposes it.

    Reads two bytes and decodes nothing. Of bytes that `encode` did not make, it may say either.
    """
    return data[1:3] in _TIMED_TAGS


def stamped(data: bytes, time_ms: int) -> bytes:
    """Return the encoded command with the cluster's time in it, for the leader that proposes it.

    Whatever time it carried before is overwritten: it would be another node's.

    Args:
        data: An encoded command that `needs_time`.
        time_ms: The cluster's time, in milliseconds; not negative.

    Raises:
        msgspec.DecodeError: It is not a command of this version.
        TypeError: It has no `time_ms`.
    """
    return encode(msgspec.structs.replace(_decoder.decode(data), time_ms=time_ms))


def encode_unstamped(command: Command) -> bytes:
    """Encode a command that this node proposes, without the time that it may have: see `first_stamped`."""
    if getattr(command, "time_ms", 0):
        command = msgspec.structs.replace(command, time_ms=0)
    return encode(command)


def first_stamped(data: bytes, time_ms: int) -> bytes:
    """As `stamped`, without decoding it: for what this node has encoded itself.

    `time_ms` is the last field of all commands that have it. So the last byte is its 0.

    Args:
        data: What `encode_unstamped` returned for a command that `needs_time`.
        time_ms: As of `stamped`.
    """
    return data[:-1] + encode(time_ms)
