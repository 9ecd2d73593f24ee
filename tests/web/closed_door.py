"""A door before a node that lets nobody in without its token, as a node with access tokens will.

Owns what it says to whom it refuses, in the words of Consul, and what it has seen of tokens and streams. All
else that reads it hands on.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UNKNOWN = "ACL not found"
MISSING = "Permission denied: anonymous token lacks permission 'node:read'"
CHUNK = 65536


class Door(ThreadingHTTPServer):
    """The door.

    Attributes:
        token: The one that opens it; another takes its place when it is revoked.
        streams: How many streams are open now.
        seen: The path and the token of each request for what is not a file.
    """

    daemon_threads = True

    def __init__(self, node: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.node, self.token = node, token
        self.streams = 0
        self.seen: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def count(self, more: int) -> None:
        """Count a stream that begins or ends."""
        with self.lock:
            self.streams += more

    def handle_error(self, *_args: Any) -> None:
        """Say nothing: a browser closes connections as it likes."""


class _Handler(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        door, token = self.server, self.headers.get("X-Consul-Token", "")
        if self.path.startswith("/v1/"):
            door.seen.append((self.path, token))
            if token != door.token:
                self._refuse(UNKNOWN if token else MISSING)
                return
        node = http.client.HTTPConnection(door.node)
        headers = {**self.headers, "Connection": "close"}
        node.request("GET", self.path, headers=headers)
        is_stream = self.path == "/v1/ui/stream"
        door.count(is_stream)
        try:
            self._hand_on(node.getresponse(), token if is_stream else None)
        finally:
            door.count(-is_stream)
            node.close()

    def _hand_on(self, answer: http.client.HTTPResponse, token: str | None) -> None:
        """Hand on an answer: a stream as long as its token is good, any other whole."""
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.end_headers()
        while data := answer.read1(CHUNK):
            if token not in {None, self.server.token}:
                return
            self.wfile.write(data)

    def _refuse(self, text: str) -> None:
        self.send_response_only(403)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def closed_door(node: str, token: str) -> Iterator[Door]:
    """Keep a door open before the API at `node`, until the end of `with`."""
    with Door(node, token) as door:
        thread = threading.Thread(target=door.serve_forever, args=(0.05,))  # noqa: TID251 - no trio here
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
            thread.join()
