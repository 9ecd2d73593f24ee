"""What a command in the log may hold: limits that every node keeps, whoever proposed the command.

Every node carries out what is in the log, so a command that one of them would fall over must not get
there. The API and `cluster/` check what clients and newcomers ask; this module checks what another
node sends, before it becomes durable here (`peers/frame_check.py`) or is proposed here
(`driver/forwarding.py`), and what this node proposes itself (`driver/intake.py`). So a leader never
sends what is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..model import commands, values
from ..model.checks import (
    CHECK_ID_BYTES_MAX,
    CHECK_TEXT_BYTES_MAX,
    NOTES_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    RESULT_BYTES_MAX,
    Check,
    CheckDefinition,
    SetCheck,
)
from ..model.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    BecomeOnly,
    ChangeMember,
    ChangeSetting,
    Checkpoint,
    ClusterSettings,
    Command,
    Delete,
    DeletePrefix,
    InitCluster,
    Keyed,
    Member,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
    Transaction,
)
from ..model.locks import (
    LOCK_DELAY_NS_MAX,
    SESSION_TEXT_BYTES_MAX,
    Acquire,
    CreateSession,
    EndSession,
    Release,
    Session,
)
from ..model.services import (
    ADDRESS_BYTES_MAX,
    CHECKS_OF_NODE_MAX,
    CHECKS_OF_SERVICE_MAX,
    META_KEY_BYTES_MAX,
    META_MAX,
    META_VALUE_BYTES_MAX,
    NAME_BYTES_MAX,
    PORT_MAX,
    SERVICE_ID_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGGED_MAX,
    TAGS_MAX,
    WEIGHT_MAX,
    AssignNodes,
    CatalogRegister,
    Deregister,
    DeregisterCritical,
    ExternalNode,
    GivenCheck,
    Pairs,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)
from ..model.transactions import CheckIndex, CheckNotExists, CheckSession, Get, GetTree
from ..model.user_events import EVENT_TEXT_BYTES_MAX, PAYLOAD_BYTES_MAX, FireEvent, UserEvent
from . import cluster_settings

_ID_MAX = (1 << 64) - 1

OUTPUT_NOTE_BYTES_MAX = 64
"""Of the note on how much was cut, which may follow the output that is kept."""

HEADERS_MAX = 64
HEADERS_BYTES_MAX = 8 * 1024
ARGS_MAX = 64
ARGS_BYTES_MAX = 8 * 1024
TARGET_BYTES_MAX = 4 * 1024
"""Of the URL, or of host and port, that a check asks."""
CHECK_BODY_BYTES_MAX = 64 * 1024
_METHOD_BYTES_MAX = 64
_UUID_LENGTH = 36

_DAY_MS = 24 * 60 * 60 * 1000

_TIME_MS_MAX = 1 << 62
"""Of a stamp of the cluster's time: later ones go on from it, and must still fit into 64 bits."""


def fault_in(data: bytes) -> str:
    """Return what is wrong with an encoded command; empty: every node can carry it out."""
    try:
        command = commands.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        return f"a command that this version does not know ({error})"
    return fault_of(command)


def fault_of(command: Command) -> str:
    """Return what is wrong with a command; empty: every node can carry it out."""
    if getattr(command, "time_ms", 0) > _TIME_MS_MAX:
        return f"the time {getattr(command, 'time_ms', 0)} ms"
    return _FAULTS[type(command)](command)


def is_sound(command: Put) -> bool:
    """Whether nothing is wrong with a plain write, which has not been decoded: most are so."""
    return (
        0 < len(command.key) <= KEY_BYTES_MAX
        and len(command.value) <= VALUE_BYTES_MAX
        and command.key.isascii()
        and command.flags >= 0
        and (command.cas is None or command.cas >= 0)
    )


def _put_fault(command: Put | Acquire | Release) -> str:
    is_large = len(command.value) > VALUE_BYTES_MAX
    return f"a value of {len(command.value)} bytes" if is_large else _key_fault(command.key)


def _prefix_fault(command: DeletePrefix | GetTree) -> str:
    is_long = len(command.prefix) > KEY_BYTES_MAX
    return f"a prefix of {len(command.prefix)} bytes" if is_long else ""


def _keyed_fault(command: Keyed) -> str:
    return _FAULTS[type(command.command)](command.command)


def _transaction_fault(command: Transaction) -> str:
    size = 0
    for operation in command.operations:
        if isinstance(operation, (Put, Acquire, Release)):
            size += len(operation.value)
        fault = _FAULTS_OF_OPERATIONS[type(operation)](operation)
        if fault:
            return fault
    return f"a transaction with values of {size} bytes" if size > VALUE_BYTES_MAX else ""


def session_fault(session: Session) -> str:
    """Return why this cannot be a session; empty: it can."""
    if session.lock_delay_ns > LOCK_DELAY_NS_MAX or session.ttl_ms > _DAY_MS:
        delay_ms = session.lock_delay_ns // 1_000_000
        return f"a session with a TTL of {session.ttl_ms} ms and a lock delay of {delay_ms} ms"
    texts = (session.name, session.ttl, *session.node_checks, *(session.service_checks or ()))
    count = len(texts)
    # A character has four bytes at most.
    if count + 4 * len("".join(texts)) <= SESSION_TEXT_BYTES_MAX:
        return ""
    size = sum(len(text.encode()) + 1 for text in texts)
    return f"a session with texts of {size} bytes" if size > SESSION_TEXT_BYTES_MAX else ""


def check_fault(check: Check) -> str:
    """Return why this cannot be a check; empty: it can."""
    if not 0 < len(check.id.encode()) <= CHECK_ID_BYTES_MAX:
        return f"a check called {check.id[:64]!r}"
    size = len(check.name.encode()) + len(check.output.encode())
    if size > CHECK_TEXT_BYTES_MAX or _is_long(check.notes, NOTES_BYTES_MAX):
        return f"a check with texts of {size + len(check.notes.encode())} bytes"
    if _is_long(check.service, SERVICE_ID_BYTES_MAX):
        return f"a check of the service {check.service[:64]!r}"
    return "" if check.definition is None else definition_fault(check.definition)


def given_check_fault(check: GivenCheck) -> str:
    """Return why a client's check cannot be one; empty: it can."""
    if not check.id or _is_long(check.id, CHECK_ID_BYTES_MAX):
        return f"a check called {check.id[:64]!r}"
    if _is_long(check.name, CHECK_ID_BYTES_MAX) or _is_long(check.notes, NOTES_BYTES_MAX):
        return f"a check with a name of {len(check.name)} characters, notes of {len(check.notes)}"
    if _is_long(check.service, SERVICE_ID_BYTES_MAX):
        return f"a check of the service {check.service[:64]!r}"
    if _is_long(check.output, OUTPUT_BYTES_MAX + OUTPUT_NOTE_BYTES_MAX):
        return f"a check with an output of {len(check.output)} characters"
    return "" if check.definition is None else definition_fault(check.definition)


def definition_fault(definition: CheckDefinition) -> str:
    """Return why this cannot be the definition of a check; empty: it can."""
    one = definition
    bounds = (
        (one.http, TARGET_BYTES_MAX),
        (one.tcp, TARGET_BYTES_MAX),
        (one.method, _METHOD_BYTES_MAX),
        (one.tls_server_name, NAME_BYTES_MAX),
        (one.body, CHECK_BODY_BYTES_MAX),
    )
    for text, bound in bounds:
        if text and _is_long(text, bound):
            return f"a check that asks {text[:64]!r}, which has {len(text)} characters"
    if one.headers:
        headers = [text for name, values_ in one.headers for text in (name, *values_)]
        count = sum(len(values_) for _, values_ in one.headers)
        if max(count, len(one.headers)) > HEADERS_MAX or _size(headers) > HEADERS_BYTES_MAX:
            return f"a check with {count} headers of {_size(headers)} bytes"
    if len(one.args) > ARGS_MAX or _size(one.args) > ARGS_BYTES_MAX:
        return f"a check with {len(one.args)} arguments of {_size(one.args)} bytes"
    if one.output_max > OUTPUT_BYTES_MAX:
        return f"a check that keeps {one.output_max} bytes of output"
    return ""


def service_fault(service: Service) -> str:
    """Return why this cannot be a service; empty: it can."""
    if not service.id or _is_long(service.id, SERVICE_ID_BYTES_MAX):
        return f"a service with the ID {service.id[:64]!r}"
    if not is_catalog_name(service.name):
        return f"a service called {service.name[:64]!r}"
    fault = _tags_fault(service.tags) or _tags_fault(service.agent_tags or ())
    if fault or _is_long(service.address, ADDRESS_BYTES_MAX) or service.port > PORT_MAX:
        return fault or f"a service at {service.address[:64]!r}, port {service.port}"
    if max(service.weight_passing, service.weight_warning) > WEIGHT_MAX:
        return f"a service with weights {service.weight_passing}, {service.weight_warning}"
    if len(service.checks) > CHECKS_OF_SERVICE_MAX:
        return f"a service with {len(service.checks)} checks"
    tagged = tuple((key, address) for key, address, _ in service.tagged)
    if any(port > PORT_MAX for _, _, port in service.tagged):
        return "a service with a tagged address whose port does not exist"
    return _tagged_fault(tagged) or _meta_fault(service.meta)


def external_fault(node: ExternalNode) -> str:
    """Return why this cannot be an external node; empty: it can."""
    if not is_catalog_name(node.name):
        return f"a node called {node.name[:64]!r}"
    if _is_long(node.address, ADDRESS_BYTES_MAX) or len(node.uuid) not in (0, _UUID_LENGTH):
        return f"a node at {node.address[:64]!r} with the ID {node.uuid[:64]!r}"
    return _tagged_fault(node.tagged) or _meta_fault(node.meta)


def is_catalog_name(name: str) -> bool:
    """Whether services and external nodes can be called so: 1 to 255 bytes, no control characters."""
    if not name or _is_long(name, NAME_BYTES_MAX):
        return False
    # What is printable has no control characters, whatever version of Unicode this Python knows.
    return name.isprintable() or not any(one < " " or "\x7f" <= one < "\xa0" for one in name)


def _tags_fault(tags: tuple[str, ...]) -> str:
    if len(tags) > TAGS_MAX:
        return f"a service with {len(tags)} tags"
    long = next((tag for tag in tags if _is_long(tag, TAG_BYTES_MAX)), "")
    return f"the tag {long[:64]!r}" if long else ""


def _tagged_fault(tagged: Pairs) -> str:
    if len(tagged) > TAGGED_MAX:
        return f"{len(tagged)} tagged addresses"
    for key, address in tagged:
        if _is_long(key, META_KEY_BYTES_MAX) or _is_long(address, ADDRESS_BYTES_MAX):
            return f"the tagged address {key[:64]!r}"
    return ""


def _meta_fault(meta: Pairs) -> str:
    if len(meta) > META_MAX:
        return f"{len(meta)} pairs of meta"
    for key, value in meta:
        if _is_long(key, META_KEY_BYTES_MAX) or _is_long(value, META_VALUE_BYTES_MAX):
            return f"the meta pair {key[:64]!r}"
    return ""


def _is_long(text: str, bytes_max: int) -> bool:
    """Whether a text has more bytes in UTF-8 than that. A character has four at most."""
    return 4 * len(text) > bytes_max and len(text.encode()) > bytes_max


def _size(texts: tuple[str, ...] | list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _place_fault(place: Place) -> str:
    if place.number:
        return ""
    if not is_catalog_name(place.name) or _is_long(place.address, ADDRESS_BYTES_MAX):
        return f"a node called {place.name[:64]!r} at {place.address[:64]!r}"
    return ""


def _checks_fault(checks: tuple[GivenCheck, ...]) -> str:
    if (
        len(checks) > CHECKS_OF_NODE_MAX
    ):  # Fewer may still be too many for a service: see the effect.
        return f"{len(checks)} checks at once"
    return next(filter(None, map(given_check_fault, checks)), "")


def _register_fault(command: RegisterService) -> str:
    return (
        _place_fault(command.place)
        or service_fault(command.service)
        or _checks_fault(command.checks)
    )


def _register_check_fault(command: RegisterCheck) -> str:
    return _place_fault(command.place) or given_check_fault(command.check)


def _deregister_fault(command: Deregister) -> str:
    for text in (command.service, command.check):
        if text is not None and _is_long(text, CHECK_ID_BYTES_MAX):
            return f"the ID {text[:64]!r}"
    return _place_fault(command.place)


def _catalog_fault(command: CatalogRegister) -> str:
    fault = external_fault(command.node)
    if not fault and command.service is not None:
        fault = service_fault(command.service)
    return fault or _checks_fault(command.checks)


def _results_fault(command: UpdateChecks) -> str:
    for one in command.results:
        if not one.id or _is_long(one.id, CHECK_ID_BYTES_MAX):
            return f"a result of the check {one.id[:64]!r}"
        if _is_long(one.output, RESULT_BYTES_MAX):
            return f"a result with an output of {len(one.output)} characters"
    return ""


def event_fault(event: UserEvent) -> str:
    """Return why this cannot be an event; empty: it can."""
    if not event.name or event.name.startswith("_"):
        return f"an event called {event.name[:64]!r}"
    size = sum(len(one.encode()) for one in (event.name, event.node, event.service, event.tag))
    if size > EVENT_TEXT_BYTES_MAX or len(event.payload) > PAYLOAD_BYTES_MAX:
        return f"an event with texts of {size} bytes and a payload of {len(event.payload)}"
    return ""


def _change_fault(command: ChangeMember) -> str:
    is_sound = _is_id(command.id) and all(map(values.is_address, command.addresses or ()))
    return "" if is_sound else "a change that no member can take"


def _ids_fault(*ids: int) -> str:
    return "" if all(map(_is_id, ids)) else "an id that no node can have"


_FAULTS: dict[type, Callable[[Any], str]] = {
    Put: _put_fault,
    Delete: lambda command: _key_fault(command.key),
    DeletePrefix: _prefix_fault,
    Keyed: _keyed_fault,
    InitCluster: lambda command: settings_fault(command.settings),
    PutMember: lambda command: member_fault(command.member),
    RemoveMember: lambda command: _ids_fault(command.id),
    ReplaceMember: lambda command: member_fault(command.member),
    Checkpoint: lambda _command: "",
    ChangeSetting: lambda _command: "",  # Its effect is refused where it does not fit.
    ChangeMember: _change_fault,
    BecomeOnly: lambda command: _ids_fault(command.id, *command.others),
    Acquire: _put_fault,
    Release: _put_fault,
    CreateSession: lambda command: session_fault(command.session),
    EndSession: lambda _command: "",
    SetCheck: lambda command: check_fault(command.check),
    Transaction: _transaction_fault,
    FireEvent: lambda command: event_fault(command.event),
    RegisterService: _register_fault,
    RegisterCheck: _register_check_fault,
    Deregister: _deregister_fault,
    CatalogRegister: _catalog_fault,
    DeregisterCritical: lambda _command: "",
    UpdateChecks: _results_fault,
    AssignNodes: lambda _command: "",
}
"""By type of command: what is wrong with one. Every command has an entry."""


_FAULTS_OF_OPERATIONS: dict[type, Callable[[Any], str]] = {
    Put: _put_fault,
    Delete: _FAULTS[Delete],
    DeletePrefix: _prefix_fault,
    Acquire: _put_fault,
    Release: _put_fault,
    Get: lambda operation: _key_fault(operation.key),
    GetTree: _prefix_fault,
    CheckIndex: lambda operation: _key_fault(operation.key),
    CheckSession: lambda operation: _key_fault(operation.key),
    CheckNotExists: lambda operation: _key_fault(operation.key),
}
"""The same by type of an operation of a transaction."""


def member_fault(member: Member) -> str:
    """Return why this cannot be a member; empty: it can. An empty name asks for one."""
    if not _is_id(member.id):
        return f"the node id {member.id}"
    for address in (member.address, member.peer_address, member.dns_address):
        if not values.is_address(address):
            return f"a member at {address[:64]!r}"
    if member.name and not values.is_name(member.name):
        return f"a member called {member.name[:64]!r}"
    return ""


def settings_fault(settings: ClusterSettings) -> str:
    """Return which setting is outside its limits; empty: none is."""
    for setting in cluster_settings.SETTINGS:
        value = getattr(settings, setting.field)
        try:
            setting.parse(setting.show(value))
        except ValueError:
            return f"the setting {setting.key}: {str(value)[:64]!r}"
    return ""


def _is_id(node: int) -> bool:
    return 0 < node <= _ID_MAX


def _key_fault(key: bytes) -> str:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        return f"a key of {len(key)} bytes"
    if key.isascii():
        return ""
    try:
        key.decode()
    except UnicodeDecodeError:
        return f"the key {key[:64]!r}, which is not UTF-8"
    return ""
