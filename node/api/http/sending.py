"""How the body of one streaming answer leaves: as chunks where its length is not known before."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class _Holding(Protocol):
    def __call__(
        self, values: Sequence[bytes], beside: int = 0
    ) -> AbstractContextManager[None]: ...


class Sending:
    """Sends the body of one streaming answer (`answers.Send`).

    Attributes:
        ready, holding: The connection's, as in `answers.Send`.
        is_between: Of an answer without end, which is of events or lines: the last one was sent to its
            end.

    Args:
        send_piece: Sends bytes to the client as they are.
        ready: Waits until a further piece may be made.
        holding: Counts what the answer is made from as unsent.
        is_chunked: Frame each piece as a chunk (RFC 9112, section 7.1).
    """

    def __init__(
        self,
        send_piece: Callable[[bytes], Coroutine[Any, Any, None]],
        ready: Callable[[], Coroutine[Any, Any, None]],
        holding: _Holding,
        *,
        is_chunked: bool,
    ) -> None:
        self.ready = ready
        self.holding = holding
        self.is_between = True
        self._send_piece = send_piece
        self._is_chunked = is_chunked

    async def __call__(self, piece: bytes) -> None:
        """Send one piece, waiting while the client is slow; an empty one sends what is before it."""
        # Within an event of a watch no piece ends with a newline: its data is JSON.
        self.is_between = piece.endswith(b"\n") or not piece
        if self._is_chunked and piece:  # An empty chunk would be the end (RFC 9112, section 7.1).
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        await self._send_piece(piece)
