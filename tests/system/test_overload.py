"""Clients that ask for too much at once: the cluster goes on as if they were not there.

Nothing is asserted about how fast this machine is: only that no election happens, that a quiet client
is always answered, that everybody gets all of the right bytes, and what memory is used for it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .cluster import Cluster, Node, eventually, request

MIB = 1024 * 1024
MEMORY_BYTES_MAX = 512 * MIB
_PAUSE_S = 0.01


@contextmanager
def quiet_client(node: Node) -> Iterator[None]:
    """Ask for health all the time; each must be answered with 200."""
    is_over = threading.Event()
    wrong: list[object] = []
    count = 0

    def ask() -> None:
        nonlocal count
        while not is_over.wait(_PAUSE_S):
            answer = node.get("/v1/health")
            if answer.status != 200:
                wrong.append(answer)
            count += 1

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            is_over.set()
            asking.result()
    assert not wrong
    assert count > 5


def connection(node: Node, stack: ExitStack, data: bytes, room: int = 0) -> socket.socket:
    """Send a request; the kernel takes `room` bytes of what comes back."""
    sock = stack.enter_context(socket.socket())
    if room:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.settimeout(60)
    host, port = node.address.rsplit(":", 1)
    sock.connect((host, int(port)))
    sock.sendall(data)
    return sock


def received(sock: socket.socket) -> int:
    """Read to the end; return how many bytes came."""
    count = 0
    while data := sock.recv(MIB):
        count += len(data)
    return count


def get(path: str, *, close: bool = True) -> bytes:
    end = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{end}\r\n".encode()


def memory_bytes_max(node: Node) -> int:
    """The most memory that the node has had since `forget_memory`."""
    for line in Path(f"/proc/{node.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this system does not say how much memory a process had")


def forget_memory(node: Node) -> None:
    Path(f"/proc/{node.pid}/clear_refs").write_text("5")


def test_large_reads_floods_and_clients_that_do_not_read_cost_no_election(three: Cluster) -> None:
    node = three.leader()
    term = node.info().term
    value = bytes(MIB)
    for number in range(40):
        assert node.request("PUT", f"/v1/kv/big{number:02}", value).status == 200
    node.write("small", "v")
    escaped = 6 * MIB
    forget_memory(node)
    with quiet_client(node), ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        watches = [
            connection(node, stack, get("/v1/watch?prefix=big", close=False)) for _ in range(100)
        ]
        for number in range(100):  # They never read.
            connection(node, stack, get(f"/read/big{number % 40:02}", close=False), 4096)
        counts = []
        for number in range(20):
            reader = connection(node, stack, get(f"/read?prefix=big{number:02}"))
            counts.append(pool.submit(received, reader))
        floods = [connection(node, stack, get("/read/small", close=False) * 300) for _ in range(30)]
        assert node.request("PUT", "/v1/kv/big00", value).body == b"true"
        assert all(count.result() > escaped for count in counts)
        for flood in floods:
            answers = b""
            while answers.count(b'"value":"v"') < 300:
                answers += flood.recv(MIB)
        for watch in watches:
            assert watch.recv(64).startswith(b"HTTP/1.1 200")
        assert memory_bytes_max(node) < MEMORY_BYTES_MAX
    assert eventually(lambda: node.info().term, "the node answers") == term
    assert request(three.leader().address, "GET", "/v1/health").status == 200
