"""A relay between a client and a node that writes down each request: what a client asks, and how often.

    python -m tests.clients.counting PORT HOST:PORT FILE

Each line of the file is a time in seconds, the method and the target. Only the first line of a request
is looked for, at the beginning of what the client sent at once.
"""

from __future__ import annotations

import re
import sys
import time
from functools import partial
from typing import TextIO

import trio

_FIRST_LINE = re.compile(rb"^(GET|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_READ_BYTES = 64 * 1024
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


async def serve(target: str, file: TextIO, client: trio.SocketStream) -> None:
    """Pass one connection on, both ways, until one side ends."""
    host, _, port = target.rpartition(":")
    async with client:
        try:
            node = await trio.open_tcp_stream(host, int(port))
        except OSError:
            return
        async with node, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, client, node, file, nursery.cancel_scope)
            nursery.start_soon(_pass_on, node, client, None, nursery.cancel_scope)


async def _pass_on(
    source: trio.SocketStream, sink: trio.SocketStream, file: TextIO | None, scope: trio.CancelScope
) -> None:
    try:
        while data := await source.receive_some(_READ_BYTES):
            found = _FIRST_LINE.match(data) if file else None
            if file and found:
                words = " ".join(part.decode("ascii", "replace") for part in found.groups())
                file.write(f"{time.time():.3f} {words}\n")
                file.flush()
            await sink.send_all(data)
    except _GONE:
        pass
    finally:
        scope.cancel()


async def main(port: int, target: str, path: str) -> None:
    """Serve until killed."""
    with open(path, "a") as file:  # noqa: ASYNC230, PTH123 - a few short lines a second
        await trio.serve_tcp(partial(serve, target, file), port, host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3])
