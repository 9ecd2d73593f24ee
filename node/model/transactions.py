"""What only an operation of a transaction can do, and what a transaction answers.

Most operations are the commands that exist already (`commands.py`); here are those that read, or
that only check. The tags and the order of fields are on disk in every log.
"""

from __future__ import annotations

import msgspec

from .locks import SessionId
from .numbers import Unsigned

OPERATIONS_MAX = 128


class Get(msgspec.Struct, frozen=True, array_like=True, tag="g", gc=False):
    """Answer with one key; an error where there is none, unless `or_empty`."""

    key: bytes
    or_empty: bool = False


class GetTree(msgspec.Struct, frozen=True, array_like=True, tag="G", gc=False):
    """Answer with all keys that start with `prefix`."""

    prefix: bytes


class CheckIndex(msgspec.Struct, frozen=True, array_like=True, tag="x", gc=False):
    """An error unless the revision of the key is `index`."""

    key: bytes
    index: Unsigned


class CheckSession(msgspec.Struct, frozen=True, array_like=True, tag="y", gc=False):
    """An error unless this session holds the key."""

    key: bytes
    session: SessionId


class CheckNotExists(msgspec.Struct, frozen=True, array_like=True, tag="z", gc=False):
    """An error if the key exists."""

    key: bytes


class KeyRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key in the answer of a transaction.

    Attributes:
        key: Its name.
        value: Its value; None: the operation does not answer with it.
        flags, lock_index, create_index, modify_index: As the operation left them.
        session: Who holds its lock; empty: nobody.
    """

    key: bytes
    value: bytes | None
    flags: Unsigned
    lock_index: Unsigned
    create_index: Unsigned
    modify_index: Unsigned
    session: bytes = b""
