"""One new connection to a target of a check, plain or by TLS, on a socket of its own.

Plain ones are non-blocking sockets of the standard library: a check on `trio.socket` costs twice as
much processor time (112 us in place of 59, measured). Nothing is read ahead: the kernel's buffer holds
what a target sends before it is asked for.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Protocol

import trio

from .output import shortened
from .targets import BadTarget, Place

_SHARED_S_MAX = 600.0
"""For all addresses of a name, where the caller has no deadline."""

_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` of a connection that ends with a reset: what is unread is dropped (socket(7))."""


class Connection(Protocol):
    """Bytes to a target and back."""

    async def send_all(self, data: bytes) -> None:
        """Send all of it; raises OSError."""
        ...

    async def receive(self, bytes_max: int) -> bytes:
        """Return the next bytes, empty at the end; raises OSError."""
        ...

    def close(self, *, reset: bool = False) -> None:
        """Close at once. Idempotent.

        Args:
            reset: The target is not read to its end.
        """
        ...


class PlainConnection:
    """A connected TCP socket."""

    __slots__ = ("socket",)

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    async def send_all(self, data: bytes) -> None:
        """Send all of it; raises OSError."""
        sent = 0
        while True:
            try:
                sent += self.socket.send(data[sent:] if sent else data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)
            if sent >= len(data):
                return

    async def receive(self, bytes_max: int) -> bytes:
        """Return the next bytes, empty at the end; raises OSError."""
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return self.socket.recv(bytes_max)
            except BlockingIOError:
                continue

    def close(self, *, reset: bool = False) -> None:
        """Close at once. Idempotent."""
        close_socket(self.socket, reset=reset)


class TlsConnection:
    """TLS over a connected socket."""

    __slots__ = ("_socket", "_stream")

    def __init__(self, sock: socket.socket, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._socket = sock
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        """Send all of it; raises OSError."""
        with _as_os_error():
            await self._stream.send_all(data)

    async def receive(self, bytes_max: int) -> bytes:
        """Return the next bytes, empty at the end; raises OSError."""
        with _as_os_error():
            return bytes(await self._stream.receive_some(bytes_max))

    def close(self, *, reset: bool = False) -> None:
        """Close at once, without TLS's goodbye: nothing is lost with it. Idempotent."""
        close_socket(self._socket, reset=reset)


async def connect(places: Sequence[Place]) -> socket.socket:
    """Connect to the first address that takes a connection.

    Args:
        places: At least one. Each but the last has an equal share of the caller's time that those
            before it have left, so that one that is silent does not take the turn of the others.

    Raises:
        OSError: The last address refused; or one did, and those after it were silent.

    Closes: nothing is left open when it raises; the caller closes the socket.
    """
    if len(places) == 1:
        return await _connect(places[0])
    last: OSError = TimeoutError(errno.ETIMEDOUT, "no answer")
    for at, place in enumerate(places):
        end = min(trio.current_effective_deadline(), trio.current_time() + _SHARED_S_MAX)
        left = (end - trio.current_time()) / (len(places) - at)
        with trio.move_on_after(max(left, 0)):
            try:
                return await _connect(place)
            except OSError as error:
                last = error
    try:
        raise last
    finally:
        del last  # Else it, its traceback and this frame hold each other.


async def _connect(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await _connected(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, place: Place) -> None:
    """Connect a socket; raises OSError."""
    code = sock.connect_ex(place.address)
    if code == errno.EINPROGRESS:
        # To a port of this machine it is over by now, as a rule, and asking again says so
        # (connect(2)): that saves a wake of the loop, which is most of the cost of a run.
        code = sock.connect_ex(place.address)
        if code == errno.EALREADY:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code not in {0, errno.EISCONN}:
        raise OSError(code, os.strerror(code))
    if sock.getsockname()[1] == place.address[1] and sock.getsockname() == sock.getpeername():
        # TCP's simultaneous open: a port from the range of outgoing ones, with no listener, can be
        # connected to itself (RFC 9293 section 3.5).
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens: connected to itself")


class Tls:
    """TLS to targets: what is trusted, read once."""

    def __init__(self) -> None:
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._reading = trio.Lock()

    async def start(self, sock: socket.socket, name: str, *, is_verified: bool) -> TlsConnection:
        """Shake hands on a connected socket.

        Args:
            sock: Closed when this raises.
            name: Whose certificate it has to be, and the name that is sent.
            is_verified: Else any certificate will do.

        Raises:
            OSError: There is no TLS, or not with a certificate that is good.
            BadTarget: No certificate can have that name.
        """
        try:
            context = await self._context(is_verified)
            transport = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            try:
                stream = trio.SSLStream(
                    transport, context, server_hostname=name, https_compatible=True
                )
            except (ValueError, TypeError):  # Not in IDNA, empty labels, a NUL.
                raise BadTarget(f"not a host name for TLS: {shortened(name, 255)!r}") from None
            with _as_os_error():
                await stream.do_handshake()
        except BaseException:
            sock.close()
            raise
        return TlsConnection(sock, stream)

    async def _context(self, is_verified: bool) -> ssl.SSLContext:
        context = self._contexts.get(is_verified)
        if context is not None:
            return context
        async with self._reading:  # Else each of the checks that begin together would read them.
            context = self._contexts.get(is_verified)
            if context is None:
                # It reads some hundred certificates from files: 20 ms that the loop must not wait.
                context = await trio.to_thread.run_sync(ssl.create_default_context)
                if not is_verified:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                self._contexts[is_verified] = context
        return context


def close_socket(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a socket at once. Idempotent."""
    if reset and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def reason_of(error: OSError | BadTarget) -> str:
    """Return why a target could not be reached, in a few words."""
    if isinstance(error, BadTarget):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()


class _as_os_error:  # noqa: N801 - reads as the statement it is
    """Make an OSError of what Trio raises for a connection that broke."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, trio.BrokenResourceError):
            cause = error.__cause__
            if isinstance(cause, OSError):
                raise cause
            raise ConnectionResetError(errno.ECONNRESET, "connection lost") from error
        if isinstance(error, trio.ClosedResourceError | trio.BusyResourceError):
            raise ConnectionResetError(errno.ECONNRESET, "connection lost") from error
        if isinstance(error, ssl.CertificateError) and not isinstance(error, OSError):
            raise OSError(errno.EPROTO, str(error)) from error
