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
from ..model.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    BecomeOnly,
    ChangeMember,
    ChangeSetting,
    Checkpoint,
    ClusterSettings,
    Delete,
    DeletePrefix,
    InitCluster,
    Keyed,
    Member,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from . import cluster_settings

_ID_MAX = (1 << 64) - 1

_TIME_MS_MAX = 1 << 62
"""Of a stamp of the cluster's time: later ones go on from it, and must still fit into 64 bits."""


def fault_in(data: bytes) -> str:
    """Return what is wrong with an encoded command; empty: every node can carry it out."""
    try:
        command = commands.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        return f"a command that this version does not know ({error})"
    return _FAULTS[type(command)](command)


def _put_fault(command: Put) -> str:
    is_large = len(command.value) > VALUE_BYTES_MAX
    return f"a value of {len(command.value)} bytes" if is_large else _key_fault(command.key)


def _prefix_fault(command: DeletePrefix) -> str:
    is_long = len(command.prefix) > KEY_BYTES_MAX
    return f"a prefix of {len(command.prefix)} bytes" if is_long else ""


def _keyed_fault(command: Keyed) -> str:
    if command.time_ms > _TIME_MS_MAX:
        return f"the time {command.time_ms} ms"
    return _FAULTS[type(command.command)](command.command)


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
}
"""By type of command: what is wrong with one. Every command has an entry."""


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
    try:
        key.decode()
    except UnicodeDecodeError:
        return f"the key {key[:64]!r}, which is not UTF-8"
    return ""
