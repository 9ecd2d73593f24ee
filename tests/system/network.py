"""Nodes on machines of their own, as far as the network goes: a namespace each, and a bridge.

    with Network(3) as network, network.inside():
        network.isolate(1)

Each node's namespace has one interface with the address `network.hosts[k]`, wired to a bridge in a
namespace that is the room of the test itself; nothing of the machine's own network is touched.
Links are cut in three ways, as real ones fail in more than one:

- `unplug`: the interface goes down; the node reaches nobody, its clients included.
- `separate`: routes into a black hole, on both sides; clients reach everybody.
- `mute`: what one side sends goes to a hardware address that nobody has. Nothing is refused, it
  is lost, and only in this direction: the other side is still heard.

It takes root, or to be it inside `unshare -rn`. Who is neither has `relay.Relay`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:ff"

# Says that it is there, and holds the namespace until its standard input ends.
_HOLD = "import sys; print('up', flush=True); sys.stdin.read()"


def is_permitted() -> bool:
    """Whether there can be namespaces here: it takes root, and a machine that lets it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return os.geteuid() == 0  # whoever needs the program says so
    tried = subprocess.run(
        ["unshare", "--net", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return tried.returncode == 0


class Network:
    """One namespace for each of `size` nodes, and one for the test. Closes: all, with `with`.

    Attributes:
        hosts: The address of each node.
    """

    def __init__(self, size: int) -> None:
        self.hosts = [f"10.213.7.{number}" for number in range(1, size + 1)]
        self._stack = ExitStack()
        self._pids: list[int] = []
        self._room = 0

    def __enter__(self) -> Self:
        """Make it."""
        with self._stack as stack:
            self._room, *self._pids = [self._hold(stack) for _ in range(len(self.hosts) + 1)]
            self._wire()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        """Namespaces end with the processes that hold them, and with them all that is in them."""
        self._stack.close()

    def prefix(self, node: int) -> list[str]:
        """Return the words that put a command where a node is."""
        return _enter(self._pids[node])

    def listening(self, _node: int) -> str:
        """Return the address that a node must listen at, if it is not the one it is reached at."""
        return ""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the room of the test: this thread, and the threads and processes it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            set_namespace(Path(f"/proc/{self._room}/ns/net"))
            yield
        finally:
            set_namespace(Path(f"/proc/self/fd/{before}"))
            os.close(before)

    def move(self, node: int, host: str) -> None:
        """Give a node's machine another address in place of the one it has."""
        # In this order: with the first address of a network, Linux drops those that came later.
        self._ip(self._pids[node], f"addr del {self.hosts[node]}/24 dev eth0")
        self._ip(self._pids[node], f"addr add {host}/24 dev eth0")
        self.hosts[node] = host

    # -- faults -----------------------------------------------------------------------------

    def unplug(self, node: int) -> None:
        """Take the link of a node down."""
        self._ip(self._pids[node], "link set eth0 down")

    def plug(self, node: int) -> None:
        """Bring it up again."""
        self._ip(self._pids[node], "link set eth0 up")

    def separate(self, one: int, other: int) -> None:
        """Let two nodes reach each other no more."""
        for here, there in ((one, other), (other, one)):
            self._ip(self._pids[here], f"route add blackhole {self.hosts[there]}/32")

    def join(self, one: int, other: int) -> None:
        """End that."""
        for here, there in ((one, other), (other, one)):
            self._ip(self._pids[here], f"route del blackhole {self.hosts[there]}/32")

    def mute(self, one: int, other: int) -> None:
        """Lose what the first sends to the other."""
        self._ip(
            self._pids[one],
            f"neigh replace {self.hosts[other]} lladdr {_NOBODY} dev eth0 nud permanent",
        )

    def unmute(self, one: int, other: int) -> None:
        """End that."""
        self._ip(self._pids[one], f"neigh del {self.hosts[other]} dev eth0")

    def isolate(self, node: int) -> None:
        """Separate a node from all others, and not from clients."""
        for other in range(len(self.hosts)):
            if other != node:
                self.separate(node, other)

    def reunite(self, node: int) -> None:
        """End that."""
        for other in range(len(self.hosts)):
            if other != node:
                self.join(node, other)

    def heal(self) -> None:
        """End all faults, whatever they were."""
        for pid in self._pids:
            self._ip(
                pid,
                "link set eth0 up",
                "route flush type blackhole",
                "neigh flush dev eth0 nud permanent",
            )

    # -- how --------------------------------------------------------------------------------

    def _hold(self, stack: ExitStack) -> int:
        holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(holder.communicate)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        return holder.pid

    def _wire(self) -> None:
        room = ["link set lo up", "link add br0 type bridge", "link set br0 up"]
        room.append("addr add 10.213.7.254/24 dev br0")
        for number, pid in enumerate(self._pids):
            room.append(f"link add port{number} type veth peer name eth0 netns {pid}")
            room.append(f"link set port{number} master br0 up")
        self._ip(self._room, *room)
        for host, pid in zip(self.hosts, self._pids, strict=True):
            self._ip(pid, "link set lo up", f"addr add {host}/24 dev eth0", "link set eth0 up")

    def _ip(self, pid: int, *lines: str) -> None:
        ip = shutil.which("ip") or "/sbin/ip"
        subprocess.run(
            [*_enter(pid), ip, "-batch", "-"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            check=True,
            text=True,
            timeout=20,
        )


def _enter(pid: int) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net", "--"]


def set_namespace(path: Path) -> None:
    """Move this thread; `os.setns` came with Python 3.12."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(fd)
