"""What users write into paths, queries and bodies, taken strictly.

Owns percent-decoding, query strings, keys, numbers, durations and JSON bodies; every refusal says
which value is wrong and what is allowed. Nothing here knows what a value is used for.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeVar

import msgspec

from ...model import commands, durations
from .answers import HttpError, too_large

KEY_BYTES_MAX = commands.KEY_BYTES_MAX
VALUE_BYTES_MAX = commands.VALUE_BYTES_MAX
TIMEOUT_S_DEFAULT = 5.0
TIMEOUT_S_MAX = 300.0
UNSIGNED_64_MAX = 2**64 - 1

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)

Query = dict[str, str]
_T = TypeVar("_T")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _unescape(raw: bytes) -> bytes:
    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise HttpError(400, "% must be followed by two hex digits; write % itself as %25")
        return bytes.fromhex(match[1].decode())

    return _ESCAPE.sub(byte, raw)


def _unescaped(raw: bytes, what: str) -> bytes:
    found = _unescape(raw)
    try:
        found.decode()
    except UnicodeDecodeError:
        raise HttpError(400, f"the {what} is not UTF-8") from None
    return found


def _checked_key(key: bytes) -> bytes:
    if not key:
        # Consul's agent/kvs_endpoint.go.
        text = "the key is empty: it must have 1 to 4,096 bytes"
        raise HttpError(400, text, plain="Missing key name")
    if len(key) > KEY_BYTES_MAX:
        raise HttpError(413, f"the key has {len(key):,} bytes: at most {KEY_BYTES_MAX:,} are kept")
    return key


def prefix_from_path(raw: bytes) -> bytes:
    """Decode the end of a path as the start of keys, which may be empty.

    Raises:
        HttpError: 400 for a bad escape or bad UTF-8, 413 when no key is that long.
    """
    if b"%" in raw:
        raw = _unescaped(raw, "key")
    return _checked_key(raw) if raw else raw


def text_from_path(raw: bytes, what: str) -> str:
    """Decode the end of a path as a name or an ID, which may be empty.

    Args:
        raw: The end of the path.
        what: What it is, for an error: `service ID`.

    Raises:
        HttpError: 400 for a bad escape or bad UTF-8, 413 when it is longer than any of them.
    """
    if b"%" in raw:
        raw = _unescaped(raw, what)
    if len(raw) > KEY_BYTES_MAX:
        text = f"the {what} has {len(raw):,} bytes: a path takes at most {KEY_BYTES_MAX:,}"
        raise HttpError(413, text)
    return raw.decode()


def key_from_path(raw: bytes) -> bytes:
    """Decode the end of a path as a key; as `prefix_from_path`, and 400 when it is empty."""
    return prefix_from_path(raw) or _checked_key(raw)


def key_from_text(text: str) -> bytes:
    """Encode and check a key from JSON or from a query."""
    return _checked_key(text.encode())


def checked_value(value: bytes) -> bytes:
    """Return the value, or raise 413 when it is too large to be kept."""
    if len(value) > VALUE_BYTES_MAX:
        text = f"the value has {len(value):,} bytes: at most 1 MiB is kept"
        raise too_large(text, len(value), VALUE_BYTES_MAX)
    return value


# The gate and the handlers of a request ask for the same one.
@lru_cache(maxsize=32)
def parse_query(raw: bytes) -> Query:
    """Take a query string apart; of a repeated name the first counts. Not to be changed.

    `+` is a space here, as HTML forms and most client libraries write it.

    Raises:
        HttpError: 400 for a bad escape or bad UTF-8.
    """
    query: Query = {}
    for part in raw.split(b"&") if raw else ():
        name, _, value = part.partition(b"=")
        query.setdefault(_query_text(name), _query_text(value))
    return query


def names_in(raw: bytes) -> list[str]:
    """Return all names in a query string, in order; as `parse_query`."""
    return [_query_text(part.partition(b"=")[0]) for part in raw.split(b"&")]


def values_of(raw: bytes, name: str) -> list[str]:
    """Return all values of a name that may be there several times, in order; as `parse_query`."""
    parts = [part.partition(b"=") for part in raw.split(b"&")] if raw else []
    return [_query_text(value) for part, _, value in parts if _query_text(part) == name]


def _query_text(raw: bytes) -> str:
    try:
        if b"%" not in raw and b"+" not in raw:
            return raw.decode()  # Nearly always.
        return _unescape(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the query is not UTF-8") from None


def number(query: Query, name: str) -> int | None:
    """Return an unsigned 64-bit number from the query, or None when it is not there."""
    text = query.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > UNSIGNED_64_MAX:
        raise HttpError(
            400, f"?{name}={text[:40]}: expected a whole number from 0 to {UNSIGNED_64_MAX}"
        )
    return int(text)


def key_start(query: Query, name: str) -> bytes | None:
    """Return what `?prefix=`, `?after=` or `?separator=` says, or None when it is not there."""
    text = query.get(name)
    if text is None:
        return None
    return key_from_text(text) if text else b""


def timeout_s(query: Query) -> float:
    """Return the seconds a request may take: `?timeout=`, else 5."""
    text = query.get("timeout")
    if text is None:
        return TIMEOUT_S_DEFAULT
    seconds = (durations.parse(text) or 0) / 1e9
    if not 0 < seconds <= TIMEOUT_S_MAX:
        raise HttpError(
            400, f"?timeout={text[:40]}: expected a duration up to 5m, such as 500ms, 1s or 2m"
        )
    return seconds


def decode_json(
    decoder: msgspec.json.Decoder[_T], body: bytes, *, checks_members: bool = True
) -> _T:
    """Decode a JSON body of a known shape, an object.

    Args:
        decoder: Of that shape.
        body: The text.
        checks_members: Refuse a member that is there twice. False: the caller does that, by
            `refuse_repeated_members`.

    Raises:
        HttpError: 400, with what is wrong and where.
    """
    found = _decoded(decoder, body)
    if checks_members:
        refuse_repeated_members(body)
    return found


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise HttpError(400, f"the body is not the JSON expected here: {error}") from None


def refuse_repeated_members(body: bytes, quotes: int = 0) -> None:
    """Refuse an object that has a member twice: of two programs that read it, each may take another.

    The decoder takes the last one, and does not say so (RFC 8259 section 4 leaves it open). But each
    member has a name, in quotes: if there are more quotes than the distinct members have, one is there
    twice. Members of members are not looked at: no body has any.

    Args:
        body: An object that was decoded without an error.
        quotes: How many quotes there are without any further member, where that is known.

    Raises:
        HttpError: 400, naming the member.
    """
    count = _quotes_in(body)
    if count == quotes:
        return
    members = _decoded(_members, body)
    if count == sum(2 + _quotes_in(bytes(member)) for member in members.values()):
        return
    # Most likely it is one whose name is there twice in the same letters.
    names = [name for name in members if body.count(msgspec.json.encode(name)) > 1] or list(members)
    which = ", ".join(repr(name[:40]) for name in names[:10])
    raise HttpError(400, f"a member of the body is there more than once ({which}): send it once")


def _quotes_in(text: bytes) -> int:
    """Count the quotes that begin and end strings in a JSON text."""
    count = text.count(b'"')
    if count and b"\\" in text:
        # A backslash that none precedes makes a pair with what follows.
        return text.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
    return count
