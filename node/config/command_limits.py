"""What a command in the log may hold: limits that every node keeps, whoever proposed the command.

Every node carries out what is in the log, so a command that one of them would fall over must not get
there. The API and `cluster/` check what clients and newcomers ask; this module checks what another
node sends, before it becomes durable here (`peers/frame_check.py`) or is proposed here
(`driver/forwarding.py`). A leader that keeps the rules never sends what is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..model import commands, values
from ..model.checks import CHECK_ID_BYTES_MAX, CHECK_TEXT_BYTES_MAX, Check, SetCheck
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
from ..model.transactions import CheckIndex, CheckNotExists, CheckSession, Get, GetTree
from ..model.user_events import EVENT_TEXT_BYTES_MAX, PAYLOAD_BYTES_MAX, FireEvent, UserEvent
from . import cluster_settings

_ID_MAX = (1 << 64) - 1

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
    return f"a check with texts of {size} bytes" if size > CHECK_TEXT_BYTES_MAX else ""


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
