"""Packets that are lost on the way to sockets of running processes, as on a bad network.

    with Loss([node.pid for node in cluster.nodes], ports, share=0.2):
        ...

A filter on each socket drops a share of the segments that arrive for it, chosen at random by the
kernel, so TCP does what it does when they are lost on the wire. It takes no program and no device;
the sockets of another process are reached by `pidfd_getfd` (Linux 5.6; root, or the same user where
ptrace is allowed). A socket that is new is found within some 10 ms; one that a listener accepts has
the listener's filter from its first segment on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Self

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_LD_RANDOM = 0x20, 0, 0, 0xFFFFF000 + 56  # A := a random number (SKF_AD_OFF + SKF_AD_RANDOM)
_LOOK_S = 0.01

_libc = ctypes.CDLL(None, use_errno=True)


def is_permitted() -> bool:
    """Whether sockets of another process of this user can be reached."""
    if os.geteuid() != 0:
        return False
    try:
        pidfd = _call(_PIDFD_OPEN, os.getpid(), 0)
    except OSError:
        return False
    os.close(pidfd)
    return True


class Loss:
    """A share of segments is lost at the sockets of these ports, until the block ends."""

    def __init__(self, pids: Collection[int], ports: Collection[int], share: float) -> None:
        self._pids = list(pids)
        self._ports = set(ports)
        keep = 0x06, 0, 0, 0xFFFFFFFF
        drop = 0x06, 0, 0, 0
        is_kept = 0x35, 0, 1, int(share * 0xFFFFFFFF)  # A >= share: the next one, else over it
        program = b"".join(struct.pack("=HBBI", *one) for one in (_LD_RANDOM, is_kept, keep, drop))
        self._program = ctypes.create_string_buffer(program)
        self._over = threading.Event()
        self._found: dict[tuple[int, str], socket.socket] = {}
        self._thread = threading.Thread(target=self._look_forever)  # noqa: TID251 - beside a test

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        for sock in self._found.values():
            with sock, contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def _look_forever(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        for pid in self._pids:
            with contextlib.suppress(OSError):
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        pidfd = _call(_PIDFD_OPEN, pid, 0)
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith("socket:") and (pid, target) not in self._found:
                        sock = socket.socket(fileno=_call(_PIDFD_GETFD, pidfd, int(link.name), 0))
                        self._found[pid, target] = sock
                        if self._is_meant(sock):
                            self._attach(sock)
        finally:
            os.close(pidfd)

    def _is_meant(self, sock: socket.socket) -> bool:
        if sock.type != socket.SOCK_STREAM or sock.family == socket.AF_UNIX:
            return False
        ports = {sock.getsockname()[1]}
        with contextlib.suppress(OSError):
            ports.add(sock.getpeername()[1])
        return bool(ports & self._ports)

    def _attach(self, sock: socket.socket) -> None:
        program = struct.pack("HL", 4, ctypes.addressof(self._program))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _call(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
