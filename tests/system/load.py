"""Clients that write at the same time, and know of each write what they were told.

What was acknowledged has to be there afterwards. What was not may be there or not, and nothing
else may be: so each client keeps what it tried as well.
"""

from __future__ import annotations

import http.client
import itertools
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .cluster import Node, eventually

_TIMEOUT_S = 10.0
_PAUSE_S = 0.02

_runs = itertools.count(1)
"""Several loads on one cluster write to keys of their own."""


class Client:
    """One of them; writes keys of its own, one after the other, to one node after the other.

    Every second write goes to the same key, so that a write that is lost behind a later one, or
    takes effect after it, is seen as well.

    Attributes:
        acknowledged: Value by key: the last that was acknowledged.
        tried: All values by key, in order.
        times: When each acknowledged write was begun and when its answer came.
    """

    def __init__(self, prefix: str, number: int, nodes: Sequence[Node]) -> None:
        self.prefix = f"{prefix}{number}/"
        self.acknowledged: dict[str, str] = {}
        self.tried: dict[str, list[str]] = {}
        self.times: list[tuple[float, float]] = []
        self.statuses: dict[int, int] = {}
        self._nodes = [*nodes[number % len(nodes) :], *nodes[: number % len(nodes)]]

    def run(self, stop: threading.Event) -> None:
        """Write until `stop`."""
        count = 0
        while not stop.is_set():
            node = self._nodes[count % len(self._nodes)]
            connection = http.client.HTTPConnection(node.address, timeout=_TIMEOUT_S)
            try:
                while not stop.is_set():
                    count += 1
                    if not self._write(connection, count):
                        break
            except (OSError, http.client.HTTPException):
                # Down, or died under us: what was tried has an unknown outcome. On to the next.
                stop.wait(_PAUSE_S)
            finally:
                connection.close()

    def _write(self, connection: http.client.HTTPConnection, count: int) -> bool:
        key = self.prefix + ("same" if count % 2 else str(count))
        value = str(count)
        self.tried.setdefault(key, []).append(value)
        begun = time.monotonic()
        connection.request("PUT", f"/v1/kv/{key}", value.encode())
        response = connection.getresponse()
        body = response.read()
        self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        if response.status == 200:
            assert body == b"true", body
            self.acknowledged[key] = value
            self.times.append((begun, time.monotonic()))
            return True
        assert response.status in {500, 503}, (response.status, body)
        return False

    def check(self, found: dict[str, str]) -> None:
        """Fail when an acknowledged write is not in `found`, or what nobody wrote is."""
        mine = {key: value for key, value in found.items() if key.startswith(self.prefix)}
        for key, value in self.acknowledged.items():
            later = self.tried[key][self.tried[key].index(value) :]
            assert mine.get(key) in later, f"{key}: {mine.get(key)} is found, {value} acknowledged"
        for key, value in mine.items():
            assert value in self.tried.get(key, []), f"{key}: {value} was never written"


class Load:
    """All clients of a test."""

    def __init__(self, prefix: str, clients: Sequence[Client]) -> None:
        self.prefix = prefix
        self.clients = clients

    @property
    def count(self) -> int:
        """How many writes have been acknowledged."""
        return sum(len(client.times) for client in self.clients)

    def wait_more(self, more: int) -> None:
        """Wait until so many more writes have been acknowledged."""
        goal = self.count + more
        eventually(lambda: self.count >= goal, f"{more} more writes are acknowledged")

    def first_begun_after(self, moment: float) -> float | None:
        """Return when the first write that was begun after `moment` was acknowledged."""
        ends = [end for one in self.clients for begun, end in one.times[-200:] if begun >= moment]
        return min(ends, default=None)

    def check(self, nodes: Sequence[Node]) -> None:
        """Read all back from each node."""
        for node in nodes:
            found = node.read_all(self.prefix)
            for client in self.clients:
                client.check(found)


@contextmanager
def load(nodes: Sequence[Node], clients: int = 4) -> Iterator[Load]:
    """Have clients write to `nodes` until the end of `with`."""
    stop = threading.Event()
    prefix = f"load/{next(_runs)}/"
    all_clients = [Client(prefix, number, nodes) for number in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client.run, stop) for client in all_clients]
        try:
            yield Load(prefix, all_clients)
        finally:
            stop.set()
        for one in running:
            one.result(2 * _TIMEOUT_S)


def kill_and_measure(leader: Node, running: Load) -> float:
    """SIGKILL the leader; return the seconds until a write begun after that is acknowledged."""
    before = time.monotonic()
    leader.signal(signal.SIGKILL)
    after = time.monotonic()
    leader.wait_end()
    end: float = eventually(lambda: running.first_begun_after(after), "a write after the kill")
    return end - before
