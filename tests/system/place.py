"""Where nodes of a test run: which ports are theirs, and in which network namespace.

Tests must not meet a developer's own nodes, so they take free ports far from the default ones. The
tests of the default ports themselves run in a network namespace of their own, where all are free.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

DNS_OFFSET = 100
PEER_OFFSET = -200

_LOW, _HIGH = 11_000, 32_000
"""Below the ports that Linux gives to outgoing connections, which may stand in the way."""

_PARTS = 8
"""Of these ports: processes that share out the tests (pytest-xdist) take them from different parts.

A node that is down keeps no port, and another process would find its ports free.
"""

# Brings up the loopback device (SIOCSIFFLAGS with IFF_UP) without a tool for it, says so, and holds
# the namespace until its standard input ends.
_HOLD = """
import fcntl, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 1))
print("up", flush=True)
sys.stdin.read()
"""


def free_base(count: int) -> int:
    """Return an API port from which `count` nodes in a row find all their ports free."""
    chance = random.SystemRandom()
    low, high = part_of_ports(os.environ.get("PYTEST_XDIST_WORKER", ""))
    for _ in range(200):
        base = chance.randrange(low - PEER_OFFSET, high - DNS_OFFSET - count)
        if ports_are_free(base, count):
            return base
    raise AssertionError(f"no {count} nodes in a row find free ports from {low} to {high}")


def part_of_ports(worker: str) -> tuple[int, int]:
    """Return the first port, and the one after the last, of a worker `gw3`; "" is a run without."""
    if not worker:
        return _LOW, _HIGH
    size = (_HIGH - _LOW) // _PARTS
    low = _LOW + int(worker.removeprefix("gw")) % _PARTS * size
    return low, low + size


def ports_are_free(base: int, count: int) -> bool:
    """Tell whether nodes at API ports from `base` could bind all they need."""
    with ExitStack() as stack:
        for offset in (0, PEER_OFFSET, DNS_OFFSET):
            for port in range(base + offset, base + offset + count):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    one = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if kind == socket.SOCK_STREAM:
                        # As the nodes do: what waits in TIME_WAIT does not keep a port.
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        one.bind(("127.0.0.1", port))
                    except OSError:
                        return False
    return True


@contextmanager
def own_network() -> Iterator[list[str] | None]:
    """Give the words that put a command into a network namespace of its own.

    None where this machine does not let us have one.
    """
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        yield None
        return
    new = ["unshare", "--net"]
    enter = ["--net"]
    if os.geteuid() != 0:
        # A user who is no administrator may be one inside a user namespace.
        new += ["--user", "--map-root-user"]
        enter += ["--user", "--preserve-credentials"]
    holder = subprocess.Popen(
        [*new, sys.executable, "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with holder:
        try:
            assert holder.stdout is not None
            is_up = holder.stdout.readline() == "up\n"
            yield ["nsenter", "--target", str(holder.pid), *enter, "--"] if is_up else None
        finally:
            holder.kill()
