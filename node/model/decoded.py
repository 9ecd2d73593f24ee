"""Registrations that were decoded before they are applied, kept so that they are decoded once.

Each node decodes the payload of an entry when it comes, to check it, and once more to apply it. To decode
a registration takes ten times as long as to find it here. Of a `Put`, which is decoded in 0.3 us, and of
other commands nothing is kept. Commands are immutable, and one payload is one command: so nothing depends
on what is kept here, but the time that it takes.
"""

from __future__ import annotations

import msgspec

from . import commands
from .commands import Command
from .services import RegisterService

_TAG = commands.encode(RegisterService.__struct_config__.tag)
# As in `commands.py`: the tag comes after one byte.
_BYTES_MAX = 1_024
_KEPT_MAX = 1_024
_kept: dict[bytes, Command] = {}

_decode = commands.decode


def decode_early(data: bytes) -> Command:
    """As `commands.decode`, where `decode` is called with the same payload soon."""
    command = _decode(data)
    if data[1:3] == _TAG:
        _keep(data, command)
    return command


def decode(data: bytes) -> Command:
    """As `commands.decode`. It is not kept any more."""
    if data[1:3] == _TAG:
        command = _kept.pop(data, None)
        if command is not None:
            return command
    return _decode(data)


def stamped(data: bytes, time_ms: int) -> bytes:
    """As `commands.stamped`, where `decode` is called with what this returns soon."""
    if data[1:3] != _TAG:
        return commands.stamped(data, time_ms)
    command = msgspec.structs.replace(decode(data), time_ms=time_ms)
    data = commands.encode(command)
    _keep(data, command)
    return data


def _keep(data: bytes, command: Command) -> None:
    if len(data) > _BYTES_MAX:
        return
    if len(_kept) >= _KEPT_MAX:
        _kept.clear()  # Of entries that were never applied, or of very many at once.
    _kept[data] = command
