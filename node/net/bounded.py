"""Bounds on the answer to a request by httpx: its bytes, and the time until all of it is there.

httpx limits each wait, not their sum, and no size: what pretends to be a node could send for ever, a
byte at a time, or fill the memory. `bounded` has a transport of httpx count what comes out of its
sockets, headers and all. It serves the command line, and a node that asks others before it joins.

Neither httpx nor httpcore is imported here: both are heavy, and the command line imports them in a
way of its own (`cli/client/httpx_alone.py`).
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

ANSWER_BYTES_MAX = 16 << 20
"""No answer of a node is longer: a value has at most 1 MiB, a cluster some hundred bytes a node."""

TOO_LONG = "the answer is longer than that of any node"
"""The text of the `ReadError` about such an answer, so that a caller can tell it from others."""


class Budget:
    """How much the request under way may still take.

    Attributes:
        bytes_left: Bytes of its answer; infinity: no bound.
        ends_at: In seconds of `time.monotonic`; infinity: no end.
    """

    def __init__(self) -> None:
        """Begin without bounds."""
        self.bytes_left = math.inf
        self.ends_at = math.inf

    def begin(self, seconds: float) -> None:
        """Begin a request, whose whole answer has to come within so many seconds."""
        self.bytes_left = ANSWER_BYTES_MAX
        self.ends_at = time.monotonic() + seconds

    def lift(self) -> None:
        """End the bounds: the rest of this answer is a stream, of which the caller bounds each part."""
        self.bytes_left = self.ends_at = math.inf


def bounded(transport: Any, budget: Budget) -> Any:
    """Have every connection that this `httpx.HTTPTransport` makes keep to a budget; return it.

    One request at a time may use the transport. Beyond the budget, reading raises `httpx.ReadError`
    with `TOO_LONG`, or `httpx.ReadTimeout`.
    """
    pool = transport._pool  # noqa: SLF001 - httpx has no way to choose the backend
    pool._network_backend = _Backend(pool._network_backend, budget)  # noqa: SLF001
    return transport


class _Backend:
    """A network backend of httpcore around another one."""

    def __init__(self, inner: Any, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def connect_tcp(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._inner.connect_tcp(*args, **kwargs), self._budget)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream:
    """A network stream of httpcore around another one."""

    def __init__(self, inner: Any, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = self._budget
        left = budget.ends_at - time.monotonic()
        if left <= 0:
            raise _httpcore().ReadTimeout("the answer takes too long")
        if budget.bytes_left <= 0:
            raise _httpcore().ReadError(TOO_LONG)
        data: bytes = self._inner.read(max_bytes, min(timeout or math.inf, left))
        budget.bytes_left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._inner.start_tls(*args, **kwargs), self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _httpcore() -> Any:
    """Return the module: it is imported wherever a stream of it is read. httpx translates its errors."""
    return sys.modules["httpcore"]
