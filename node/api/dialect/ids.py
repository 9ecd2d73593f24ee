"""UUIDs that clients send: 36 characters of text, 16 bytes in commands and records.

The other way is `model/values.py:uuid_text`.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)
_LENGTH = 36


def new() -> bytes:
    """Return a random UUID (RFC 9562, version 4)."""
    random = bytearray(os.urandom(16))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    return bytes(random)


def parse(text: str) -> bytes | None:
    """Return the bytes of a UUID, in letters of either case; None: it is none."""
    return _parse(text) if len(text) == _LENGTH else None


@lru_cache(maxsize=2048)  # Sessions are renewed, and locks taken, again and again.
def _parse(text: str) -> bytes | None:
    return bytes.fromhex(text.replace("-", "")) if _UUID.fullmatch(text) else None
