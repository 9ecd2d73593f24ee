"""Large values in answers, made piece by piece while the client takes them.

A value of 1 MiB is up to 6 MiB as JSON. Such an answer is never made as a whole: its length is
counted first, then its pieces are made one after the other, each when the client can take it and the
connection has its turn (`net/turn.py`). The bytes are those that a whole rendering would have.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from ...net.turn import SLICE_BYTES

if TYPE_CHECKING:
    from .answers import Send

PieceAt = Callable[[bytes, int], tuple[bytes, int]]
"""Makes the piece of a value that begins at an offset; returns where the next one begins, too."""

_encode = msgspec.json.encode

WHOLE_BYTES_MAX = 10 * 1024
"""Values up to this size are rendered as a whole: with six bytes for each it is one slice."""

GATHERED_BYTES = SLICE_BYTES // 2
"""Pieces are gathered up to this size. No piece of a large value is larger than that."""

_TEXT_BYTES = GATHERED_BYTES // 6
_BASE64_BYTES = GATHERED_BYTES // 4 * 3


def _bytes_that_grow_by(count: int) -> bytes:
    """Return the characters of ASCII that JSON makes longer by `count` bytes."""
    return bytes(c for c in range(128) if len(_encode(chr(c))) - 2 - 1 == count)


_SHORT_ESCAPES = _bytes_that_grow_by(1)
_LONG_ESCAPES = _bytes_that_grow_by(5)


def base64(value: bytes) -> bytes:
    """Encode a value that need not be text."""
    return binascii.b2a_base64(value, newline=False)


def base64_length(value: bytes) -> int:
    """Return how long `base64` is."""
    return (len(value) + 2) // 3 * 4


def text_length(value: bytes) -> int:
    """Return how long UTF-8 text is as a JSON string, without the quotes."""
    size = len(value)
    grown = size - len(value.translate(None, _SHORT_ESCAPES))
    return size + grown + 5 * (size - len(value.translate(None, _LONG_ESCAPES)))


def is_text(value: bytes) -> bool:
    """Whether a value is UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_piece(value: bytes, start: int) -> tuple[bytes, int]:
    """Render a piece of UTF-8 text as JSON, without quotes; return where the next one begins, too."""
    end, size = start + _TEXT_BYTES, len(value)
    while end < size and value[end] & 0xC0 == 0x80:  # Not within a character.
        end -= 1
    return _encode(value[start:end].decode())[1:-1], end


def base64_piece(value: bytes, start: int) -> tuple[bytes, int]:
    """Render a piece in base64; return where the next one begins, too."""
    end = start + _BASE64_BYTES
    return base64(value[start:end]), end


def _raw_piece(value: bytes, start: int) -> tuple[bytes, int]:
    end = start + GATHERED_BYTES
    return value[start:end], end


class Large:
    """Something large to be sent in pieces. It can be gone through once.

    Attributes:
        value: What the pieces are made from.
    """

    def __init__(
        self,
        value: bytes,
        length_of: Callable[[bytes], int],
        piece_at: PieceAt,
        start: bytes = b"",
        end: bytes = b"",
    ) -> None:
        self.value = value
        self._length_of = length_of
        self._piece_at = piece_at
        self._start = start
        self._end = end

    def length(self) -> int:
        """Return the bytes of all pieces together. It looks at the whole value."""
        return len(self._start) + self._length_of(self.value) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        yield self._start
        at = 0
        while at < len(self.value):
            piece, at = self._piece_at(self.value, at)
            yield piece
        yield self._end

    def between(self, start: bytes, end: bytes) -> Large:
        """Return it with something before and behind it."""
        start, end = start + self._start, self._end + end
        return Large(self.value, self._length_of, self._piece_at, start, end)


def large_text(value: bytes) -> Large:
    """Return UTF-8 text as a JSON string, without the quotes."""
    return Large(value, text_length, text_piece)


def large_base64(value: bytes) -> Large:
    """Return a value in base64."""
    return Large(value, base64_length, base64_piece)


def large_raw(value: bytes) -> Large:
    """Return a value as it is."""
    return Large(value, len, _raw_piece)


class LargeAnswer:
    """An answer of known length, made while it is sent (`answers.Streaming`)."""

    is_endless = False

    def __init__(self, head: bytes, body: Large) -> None:
        self.head = head
        self.length: int | None = body.length()
        self._body = body

    async def run(self, send: Send) -> None:
        """Send it all."""
        with send.holding((self._body.value,)):
            await send_pieces(self._body, send)

    def close(self) -> None:
        """Do nothing: the value goes with this object."""


async def send_pieces(pieces: Iterable[bytes], send: Send) -> None:
    """Send pieces of at most `GATHERED_BYTES`, in slices, waiting before all but the first is made.

    Cancellation: an unknown part was sent.
    """
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size >= GATHERED_BYTES:
            await send_whole(b"".join(pending), send)
            pending, size = [], 0
            await send.ready()
    await send_whole(b"".join(pending), send)


async def send_whole(whole: bytes, send: Send) -> None:
    """Send what is made already, in slices where it is more than one (it may be nothing).

    Cancellation: an unknown part was sent.
    """
    if len(whole) <= SLICE_BYTES:
        if whole:
            await send(whole)
        return
    for start in range(0, len(whole), SLICE_BYTES):
        if start:
            await send.ready()
        await send(whole[start : start + SLICE_BYTES])
