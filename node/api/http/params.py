"""What users write into paths, queries and bodies, taken strictly.

Owns percent-decoding, query strings, keys, numbers, durations and JSON bodies; every refusal says
which value is wrong and what is allowed. Nothing here knows what a value is used for.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from ...model import commands
from .answers import HttpError

KEY_BYTES_MAX = commands.KEY_BYTES_MAX
VALUE_BYTES_MAX = commands.VALUE_BYTES_MAX
TIMEOUT_S_DEFAULT = 5.0
TIMEOUT_S_MAX = 300.0
UNSIGNED_64_MAX = 2**64 - 1

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)

Query = dict[str, str]
_NO_QUERY: Query = {}

_T = TypeVar("_T")


def _unescape(raw: bytes) -> bytes:
    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise HttpError(400, "% must be followed by two hex digits; write % itself as %25")
        return bytes.fromhex(match[1].decode())

    return _ESCAPE.sub(byte, raw)


def _checked_key(key: bytes) -> bytes:
    if not key:
        raise HttpError(400, "the key is empty: it must have 1 to 4,096 bytes")
    if len(key) > KEY_BYTES_MAX:
        raise HttpError(413, f"the key has {len(key):,} bytes: at most {KEY_BYTES_MAX:,} are kept")
    return key


def prefix_from_path(raw: bytes) -> bytes:
    """Decode the end of a path as the start of keys, which may be empty.

    Raises:
        HttpError: 400 for a bad escape or bad UTF-8, 413 when no key is that long.
    """
    if b"%" in raw:
        raw = _unescape(raw)
        try:
            raw.decode()
        except UnicodeDecodeError:
            raise HttpError(400, "the key is not UTF-8") from None
    return _checked_key(raw) if raw else raw


def key_from_path(raw: bytes) -> bytes:
    """Decode the end of a path as a key; as `prefix_from_path`, and 400 when it is empty."""
    return prefix_from_path(raw) or _checked_key(raw)


def key_from_text(text: str) -> bytes:
    """Encode and check a key from JSON or from a query."""
    return _checked_key(text.encode())


def checked_value(value: bytes) -> bytes:
    """Return the value, or raise 413 when it is too large to be kept."""
    if len(value) > VALUE_BYTES_MAX:
        raise HttpError(413, f"the value has {len(value):,} bytes: at most 1 MiB is kept")
    return value


def parse_query(raw: bytes) -> Query:
    """Take a query string apart; of a repeated name the first counts.

    `+` is a space here, as HTML forms and most client libraries write it.

    Raises:
        HttpError: 400 for a bad escape or bad UTF-8.
    """
    if not raw:
        return _NO_QUERY
    query: Query = {}
    try:
        for part in raw.replace(b"+", b" ").split(b"&"):
            name, _, value = part.partition(b"=")
            query.setdefault(_unescape(name).decode(), _unescape(value).decode())
    except UnicodeDecodeError:
        raise HttpError(400, "the query is not UTF-8") from None
    return query


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
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0 < seconds <= TIMEOUT_S_MAX:
        raise HttpError(
            400, f"?timeout={text[:40]}: expected a duration up to 5m, such as 500ms, 1s or 2m"
        )
    return seconds


def decode_json(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Decode a JSON body of a known shape.

    Raises:
        HttpError: 400, with what is wrong and where.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise HttpError(400, f"the body is not the JSON expected here: {error}") from None
