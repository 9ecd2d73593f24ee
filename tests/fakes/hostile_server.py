"""An HTTP server on loopback that answers as no node does: for ever, in drips, with what steers a terminal."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

HEAD = b"HTTP/1.1 200 OK\r\nX-Hstore-Index: 1\r\nContent-Type: application/json\r\n"

Answer = Callable[[socket.socket, threading.Event], None]


def flood(client: socket.socket, over: threading.Event) -> None:
    """Send without end."""
    client.sendall(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    while not over.is_set():
        client.sendall(bytes(1 << 16))


def drip_body(client: socket.socket, over: threading.Event) -> None:
    """Send a byte of a body now and then."""
    client.sendall(HEAD + b"Content-Length: 99999\r\n\r\n")
    while not over.wait(0.05):
        client.sendall(b" ")


def drip_head(client: socket.socket, over: threading.Event) -> None:
    """Send a byte of a header now and then."""
    client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        client.sendall(b"x")


def saying(body: bytes, head: bytes = HEAD) -> Answer:
    """Return what sends one body."""

    def say(client: socket.socket, _over: threading.Event) -> None:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return say


def _start(run: Callable[..., None], *args: object) -> None:
    threading.Thread(target=run, args=args, daemon=True).start()  # noqa: TID251 - beside a test


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve on loopback until the block ends; yield `HOST:PORT`."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            while client.recv(65536):
                answer(client, over)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                _start(serve, client)

    _start(accept)
    try:
        yield "{}:{}".format(*listener.getsockname()[:2])
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
