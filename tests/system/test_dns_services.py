"""HAProxy finds the instances of a service by SRV records, while these come, fail and go.

The DNS server is a real one on loopback sockets; what is registered is in a dictionary. Each instance
has a loopback address of its own, at one listener that says which address was asked.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hstore.dns.server import DnsServer
from tests.dns.kit import view
from tests.dns.test_server import bound
from tests.fakes.lookup import FakeLookup, instance

from .place import free_base

WITHIN_S = 10

CONFIG = """
global
    maxconn 200
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    retries 2
    option redispatch 1
resolvers hstore-dns
    nameserver n1 127.0.0.1:{dns}
    accepted_payload_size 8192
    timeout resolve 100ms
    timeout retry 100ms
    hold valid 100ms
    hold obsolete 100ms
frontend front
    bind 127.0.0.1:{front}
    default_backend web
backend web
    server-template web 60 _web._tcp.service.hstore.local resolvers hstore-dns init-addr none
"""


class World:
    """A service behind HAProxy."""

    def __init__(self, lookup: FakeLookup, front: int, port: int) -> None:
        self._lookup = lookup
        self._front = front
        self._port = port
        self.failed = 0

    def show(self, *numbers: int, critical: int = 0) -> None:
        """Register these instances, and no others."""
        self._lookup.put(
            b"web",
            [
                instance(
                    number,
                    address=f"127.0.1.{number}",
                    port=self._port,
                    status=2 if number == critical else 0,
                )
                for number in numbers
            ],
        )

    async def ask(self) -> str:
        """Make one request through HAProxy; return the address of the instance that answered it."""
        async with await trio.open_tcp_stream("127.0.0.1", self._front) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            said = b""
            while chunk := await stream.receive_some(4096):
                said += chunk
        if not said.startswith(b"HTTP/1.1 200 "):
            self.failed += 1
            return ""
        return said.rpartition(b"\r\n")[2].decode()

    async def until(self, numbers: set[int]) -> None:
        """Make requests until exactly these instances have answered a round of them."""
        expected = {f"127.0.1.{number}" for number in numbers}
        while {await self.ask() for _ in range(2 * len(numbers) + 2)} != expected:
            pass


async def say_who(stream: trio.SocketStream) -> None:
    """Answer one request with the address that it came to."""
    async with stream:
        await stream.receive_some(4096)
        host = stream.socket.getsockname()[0].encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(host)
        await stream.send_all(head + host)


def start(haproxy: str, config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [haproxy, "-db", "-f", str(config)], cwd=config.parent, stderr=subprocess.DEVNULL
    )


@asynccontextmanager
async def behind_haproxy(folder: Path, haproxy: str) -> AsyncIterator[World]:
    lookup = FakeLookup()
    server = DnsServer(*bound(), lookup=lookup)
    server.view = view()
    front = free_base(1)
    async with trio.open_nursery() as nursery:
        _host, dns = await nursery.start(server.run)
        listeners = await trio.open_tcp_listeners(0, host="0.0.0.0")  # all of 127.0.0.0/8
        nursery.start_soon(trio.serve_listeners, say_who, listeners)
        world = World(lookup, front, listeners[0].socket.getsockname()[1])
        config = folder / "haproxy.cfg"
        config.write_text(CONFIG.format(dns=dns, front=front))
        process = start(haproxy, config)
        try:
            with trio.fail_after(WITHIN_S):
                yield world
        finally:
            process.kill()
            process.wait(5)
        nursery.cancel_scope.cancel()


async def test_instances_come_fail_and_go_and_no_request_fails(
    tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    async with behind_haproxy(tmp_path, require_tool("haproxy")) as world:
        world.show(1, 2, 3)
        while True:  # HAProxy has to come up, and to ask for the first time
            try:
                if await world.ask():
                    break
            except OSError:
                await trio.sleep(0.02)
        world.failed = 0
        await world.until({1, 2, 3})
        world.show(1, 2, 3, critical=2)
        await world.until({1, 3})
        world.show(1, 3, 4)
        await world.until({1, 3, 4})
        everything = range(1, 61)
        world.show(*everything)
        await world.until({*everything})
        world.show(7, 8)
        await world.until({7, 8})
        assert world.failed == 0


def test_the_configuration_is_the_one_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/dns.md").read_text()
    for line in (
        "accepted_payload_size 8192",
        "server-template web 60 _web._tcp.service.hstore.local",
    ):
        assert line in page
        assert line in CONFIG
