"""JSON bodies of the dialect: members are matched without regard to case, as Go matches them.

Owns the way from bytes to a struct. A handler says which shape it wants: a `msgspec.Struct` whose
members have the names that Consul's pages give them (`rename="pascal"`, or `field(name=...)`). Where
all its structs forbid unknown members, a body with just those names is decoded in one go, several
times as fast; any other is looked at member by member.
Unknown members are ignored, a member that is null counts as left out, and of two that mean the same
the last one counts. Nothing is converted: a number where a text belongs is an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from ...model import durations
from ...raft.errors import CoreBug
from .forms import refused
from .queries import check_datacenter

if TYPE_CHECKING:
    from ..http.exchange import Exchange

_T = TypeVar("_T")
_NO_ALIASES: Mapping[str, str] = {}
_SHOWN = 200
"""Characters of what is wrong in the answer."""


def decode(
    exchange: Exchange,
    shape: type[_T],
    body: bytes,
    aliases: Mapping[str, str] = _NO_ALIASES,
    *,
    allows_empty: bool = False,
) -> _T:
    """Decode a body.

    Args:
        exchange: Of the connection.
        shape: A struct, or a list of structs.
        body: The text; white space alone counts as empty.
        aliases: Other names of members, in lower case, each with the name it stands for.
        allows_empty: An empty body, or `null`, means that all members are left out.

    Raises:
        HttpError: 400; 500 where its member `Datacenter` names another one.
    """
    key: Any = shape  # mypy takes a type for not hashable.
    exact = _exact(key)
    if exact is not None:
        try:
            found: _T = exact.decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # A member in other letters, or one that is wrong: the rest finds out which.
        else:
            return found
    if not body.strip():
        if not allows_empty:
            raise refused(400, "Request decode failed: EOF")
        body = b"{}"
    try:
        raw = msgspec.json.decode(body)
        raw = {} if raw is None and allows_empty else raw
        decoded = msgspec.convert(_folded(raw, _kind(key), aliases), shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise refused(400, f"Request decode failed: {str(error)[:_SHOWN]}") from None
    _check_datacenter(exchange, raw)
    return decoded


def _check_datacenter(exchange: Exchange, found: Any) -> None:
    if not isinstance(found, dict):
        return
    for name, value in found.items():
        if name.lower() == "datacenter" and isinstance(value, str):
            check_datacenter(exchange, value)


def duration_ns(value: str | float | None) -> int | None:
    """Return the nanoseconds that a member says: a text as Go writes it, or a number of them.

    None where it is neither. A member that is left out is 0; an empty text is no duration, as in Go.
    """
    if value is None:
        return 0
    if isinstance(value, str):
        return durations.parse(value)
    return int(value) if abs(value) <= durations.NS_MAX else None


def _folded(value: Any, kind: inspect.Type, aliases: Mapping[str, str]) -> Any:
    """Return a decoded value with the members of its objects named as their shapes name them."""
    if isinstance(kind, inspect.UnionType):
        kind = _only_container(kind, value)
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        return _folded_object(value, kind, aliases)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        return [_folded(each, kind.item_type, aliases) for each in value]
    if isinstance(kind, inspect.DictType) and isinstance(value, dict):
        return {name: _folded(each, kind.value_type, aliases) for name, each in value.items()}
    return value


def _folded_object(
    value: dict[str, Any], kind: inspect.StructType, aliases: Mapping[str, str]
) -> dict[str, Any]:
    members = _members(kind.cls)
    folded: dict[str, Any] = {}
    for name, each in value.items():
        lower = name.lower()
        member = members.get(lower) or members.get(aliases.get(lower, "").lower())
        if member is not None and each is not None:
            own_name, within = member
            folded[own_name] = each if within is None else _folded(each, within, aliases)
    return folded


@cache
def _exact(shape: Hashable) -> msgspec.json.Decoder[Any] | None:
    """Return a decoder for bodies whose members are named just as their shapes name them.

    It takes nothing that the other way would not take as the same: it refuses all members that it does
    not know. None: the shape has an object that would ignore them.
    """
    kind = _kind(shape)
    return msgspec.json.Decoder(shape) if _is_exact(kind) else None


def _is_exact(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return all(map(_is_exact, kind.types))
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _is_exact(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return _is_exact(kind.value_type)
    if isinstance(kind, inspect.StructType):
        names = [field.encode_name.lower() for field in kind.fields]
        return (
            kind.forbid_unknown_fields
            and "datacenter" not in names  # Which is looked at.
            and all(_is_exact(field.type) for field in kind.fields)
        )
    return not _has_members(kind)


@cache
def _kind(shape: Hashable) -> inspect.Type:
    # Looked at anew for each body, this was half of what a transaction costs.
    return inspect.type_info(shape)


@cache
def _members(shape: type[msgspec.Struct]) -> dict[str, tuple[str, inspect.Type | None]]:
    """Return by lower-case name each member's own name, and its type if others are within it."""
    kind = inspect.type_info(shape)
    if not isinstance(kind, inspect.StructType):
        raise CoreBug(f"{shape.__name__} has no members")
    return {
        field.encode_name.lower(): (
            field.encode_name,
            field.type if _has_members(field.type) else None,
        )
        for field in kind.fields
    }


def _has_members(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(map(_has_members, kind.types))
    return isinstance(
        kind,
        inspect.StructType | inspect.ListType | inspect.VarTupleType | inspect.DictType,
    )


def _only_container(kind: inspect.UnionType, value: Any) -> inspect.Type:
    """Return the one of several types that an object or a list has to be of."""
    wanted = inspect.StructType | inspect.DictType
    if isinstance(value, list):
        return next(
            (of for of in kind.types if isinstance(of, inspect.ListType | inspect.VarTupleType)),
            kind,
        )
    return next((of for of in kind.types if isinstance(of, wanted)), kind)
