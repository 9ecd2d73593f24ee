"""UDP by the batch: one call of the kernel takes in what waits, and one sends all replies.

Python's own calls take one datagram each. They turn its sender's address into text, and back into
bytes for the reply, which is a tenth of the cost of a cached answer. recvmmsg(2) and sendmmsg(2) of
Linux are called through ctypes. Both use the same buffers: a reply is written over its query, and
goes to the address that the kernel has written beside it. Python reads that address only for the few
queries that a recursor may answer.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Callable, Sequence

_ADDRESS_SIZE = 28
"""Bytes of a `sockaddr_in6`, the larger of the two kinds."""

_LOOPBACK_4 = 127
_LOOPBACK_6 = bytes(15) + b"\1"
_MAPPED_LOOPBACK = bytes(10) + b"\xff\xff\x7f"
"""How 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104 begin; the last is how a socket of both families shows
the first."""


class _Buffer(ctypes.Structure):
    """A `struct iovec`: where the bytes of a datagram are."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """A `struct mmsghdr`: one datagram. `length`: bytes received."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("address_size", ctypes.c_uint32),
        ("buffers", ctypes.c_void_p),
        ("buffers_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("_end", ctypes.c_size_t * 0),  # `struct msghdr` ends aligned.
        ("length", ctypes.c_uint),
    )


_HEADER_SIZE = ctypes.sizeof(_Header)
_LENGTH = slice(_Header.length.offset // 4, None, _HEADER_SIZE // 4)


def can_batch(udp: socket.socket) -> bool:
    """Whether this system has the two calls, and lets this process use them."""
    try:
        receive, send = _calls()
    except AttributeError:
        return False
    fd = udp.fileno()
    return receive(fd, None, 0, 0, None) == 0 and send(fd, None, 0, 0) == 0


class Datagrams:
    """The datagrams of one UDP socket, taken in and answered by the batch.

    Args:
        udp: Bound; must stay open as long as this is used.
        batch: How many in a batch, at most.
        size: Bytes of a datagram. A longer query is cut off; no reply may be longer.
    """

    def __init__(self, udp: socket.socket, batch: int, size: int) -> None:
        """Reserve the buffers; needs Linux (`can_batch`)."""
        self._fd, self._batch, self._size = udp.fileno(), batch, size
        self._contents = ctypes.create_string_buffer(batch * size)
        self._addresses = ctypes.create_string_buffer(batch * _ADDRESS_SIZE)
        self._buffers = (_Buffer * batch)()
        self._headers = (_Header * batch)()
        content, address, buffer, self._at = (
            ctypes.addressof(block)
            for block in (self._contents, self._addresses, self._buffers, self._headers)
        )
        for n in range(batch):
            self._buffers[n] = _Buffer(content + n * size, size)
            self._headers[n] = _Header(
                address=address + n * _ADDRESS_SIZE,
                address_size=_ADDRESS_SIZE,
                buffers=buffer + n * ctypes.sizeof(_Buffer),
                buffers_count=1,
            )
        # A reply sets the size of its buffer to its own, so `take` resets all sizes with this copy.
        self._blank_buffers = bytes(self._buffers)
        self._bytes = memoryview(self._contents).cast("B")
        self._lengths = memoryview(self._headers).cast("B").cast("I")[_LENGTH]
        self._sizes = memoryview(self._buffers).cast("B").cast("L")[1::2]
        self._receive, self._send = _calls()

    def take(self) -> list[bytes]:
        """Return the datagrams that wait in the socket, up to a batch; none after an error.

        Linux reports an ICMP error for an earlier reply here, which concerns no query.
        """
        ctypes.memmove(self._buffers, self._blank_buffers, len(self._blank_buffers))
        count = self._receive(self._fd, self._at, self._batch, socket.MSG_DONTWAIT, None)
        contents, lengths, start = self._bytes, self._lengths, 0
        packets = []
        for n in range(count):
            packets.append(bytes(contents[start : start + lengths[n]]))
            start += self._size
        return packets

    def answer(self, replies: Sequence[bytes | None]) -> int:
        """Send the replies to the datagrams of the last `take`, in their order; None: no reply.

        Returns how many the kernel has taken. The others are lost: the buffer is full, the client
        cannot be reached, or its source port is a forged 0.
        """
        contents, sizes, start = self._bytes, self._sizes, 0
        taken = first = 0
        for n, reply in enumerate(replies):
            if reply is None:
                taken += self._send_all(first, n)
                first = n + 1
            else:
                size = sizes[n] = len(reply)
                contents[start : start + size] = reply
            start += self._size
        return taken + self._send_all(first, len(replies))

    def _send_all(self, first: int, end: int) -> int:
        """Send the replies from `first` up to `end`, which is excluded; skip one that fails."""
        taken = 0
        while first < end:
            at = self._at + first * _HEADER_SIZE
            count = self._send(self._fd, at, end - first, socket.MSG_DONTWAIT)
            if count > 0:
                taken += count
            first += count if count > 0 else 1
        return taken

    def is_from_loopback(self, n: int) -> bool:
        """Tell whether the `n`-th datagram of the last batch came from a loopback address."""
        raw = self._raw_sender(n)
        if int.from_bytes(raw[:2], sys.byteorder) == socket.AF_INET:
            return raw[4] == _LOOPBACK_4
        ip = raw[8:24]
        return ip == _LOOPBACK_6 or ip[:13] == _MAPPED_LOOPBACK

    def sender(self, n: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the sender of the `n`-th datagram of the last batch, as Python's sockets do."""
        raw = self._raw_sender(n)
        port = int.from_bytes(raw[2:4], "big")
        if int.from_bytes(raw[:2], sys.byteorder) == socket.AF_INET:
            return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
        flow = int.from_bytes(raw[4:8], "big")
        scope = int.from_bytes(raw[24:28], sys.byteorder)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow, scope

    def _raw_sender(self, n: int) -> bytes:
        return bytes(memoryview(self._addresses)[n * _ADDRESS_SIZE : (n + 1) * _ADDRESS_SIZE])


def _calls() -> tuple[Callable[..., int], Callable[..., int]]:
    """Return recvmmsg and sendmmsg of the C library; calls of them release the GIL.

    Raises:
        AttributeError: It has none.
    """
    library = ctypes.CDLL(None)
    receive, send = library.recvmmsg, library.sendmmsg
    receive.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    send.argtypes = receive.argtypes[:-1]
    return receive, send
