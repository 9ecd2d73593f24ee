"""Clients that ask for more than their share, as a program of its own: `abuse.py` runs it.

    python -m tests.bench.attacks NAME HOST:PORT SECONDS

It ends when its attack is over: when all answers have come, or after so many seconds where the attack
is to hold something. What the node does to a connection is no error here.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import trio

from hstore.dns.records import RRType, name_of
from hstore.dns.wire import pack_question
from tests.system.place import DNS_OFFSET, PEER_OFFSET

from . import client
from .systems import http

BIG = "abuse/big"
"""A key with 1 MiB of NULs, each of which is six bytes in JSON."""
BIG_VALUE = bytes(1 << 20)

_SMALL = "abuse/small"
_DONE_S_MAX = 120.0
_REOPEN_S = 0.05
_OPENING_AT_ONCE = 64
_QUESTIONS_PER_S = 20_000
_PIPELINED = 4_000
_READ_BYTES = 64 * 1024

Attack = Callable[[str, float], Awaitable[None]]


async def _large_reads(count: int, address: str, _seconds: float) -> None:
    """All at once read a prefix with one value of 1 MiB of NULs, and take it as fast as they can."""
    asked = http("GET", address, f"/read?prefix={BIG}")
    await _at_once(count, partial(_ask_once, address, asked))


async def _ask_once(address: str, asked: bytes) -> None:
    async with client.connected(address) as one:
        await one.ask(asked)


async def _write_under_watches(address: str, seconds: float) -> None:
    """1,000 watches that read nothing after their heads; then 1 MiB is written."""
    asked = http("GET", address, f"/v1/watch?prefix={BIG}")
    async with _held(address, 1_000, asked, first_bytes=True):
        await _ask_once(address, http("PUT", address, f"/v1/kv/{BIG}", BIG_VALUE))
        await trio.sleep(seconds)


async def _pipelined_reads(address: str, _seconds: float) -> None:
    """60 clients send 4,000 reads each in one piece, and read the answers."""
    await _ask_once(address, http("PUT", address, f"/v1/kv/{_SMALL}", b"x"))
    asked = http("GET", address, f"/v1/kv/{_SMALL}") * _PIPELINED

    async def one() -> None:
        stream = await trio.open_tcp_stream(*_split(address))
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, asked)
            answers = 0
            rest = b""
            while answers < _PIPELINED:
                data = await stream.receive_some(_READ_BYTES)
                if not data:
                    break
                rest += data
                answers += rest.count(_STATUS_LINE)
                rest = rest[-len(_STATUS_LINE) + 1 :]
            nursery.cancel_scope.cancel()

    await _at_once(60, one)


_STATUS_LINE = b"HTTP/1.1 2"


async def _large_writes(address: str, _seconds: float) -> None:
    """64 clients write 1 MiB three times each."""

    async def one() -> None:
        async with client.connected(address) as connection:
            for number in range(3):
                key = f"abuse/written/{number}"
                await connection.ask(http("PUT", address, f"/v1/kv/{key}", BIG_VALUE))

    await _at_once(64, one)


async def _many_headers(address: str, _seconds: float) -> None:
    """300 clients send five requests each that have 2,500 headers of 4 bytes."""
    asked = http("GET", address, "/v1/health").replace(
        b"\r\n\r\n", b"\r\n" + b"a:\r\n" * 2_500 + b"\r\n"
    )

    async def one() -> None:
        for _ in range(5):
            with contextlib.suppress(*client.GONE):
                await _ask_once(address, asked)

    await _at_once(300, one)


async def _slow_readers(address: str, seconds: float) -> None:
    """300 clients ask for the value of 1 MiB of NULs four times each, and read nothing."""
    asked = http("GET", address, f"/read?prefix={BIG}") * 4
    async with _held(address, 300, asked):
        await trio.sleep(seconds)


async def _idle(sent: bytes, address: str, seconds: float) -> None:
    """768 connections that say so much and no more."""
    async with _held(address, 768, sent):
        await trio.sleep(seconds)


async def _idle_again(address: str, seconds: float) -> None:
    """768 connections that say nothing, each made anew soon after it was ended."""
    await _made_anew(768, address, b"", seconds)


async def _strangers(address: str, seconds: float) -> None:
    """300 connections to the port for other nodes, half silent and half with garbage, made anew."""
    host, port = _split(address)
    peer = f"{host}:{port + PEER_OFFSET}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_made_anew, 150, peer, b"", seconds)
        nursery.start_soon(_made_anew, 150, peer, b"GET / HTTP/1.1\r\n\r\n" * 50, seconds)


async def _questions(address: str, seconds: float) -> None:
    """20,000 questions a second for the leader by UDP, from 64 ports."""
    host, port = _split(address)
    question = pack_question(name_of("leader.hstore.local"), RRType.A, 1)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(64)]
        for sock in socks:
            sock.setblocking(False)
            sock.connect((host, port + DNS_OFFSET))
        began_at, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < began_at + seconds:
            while sent < (now - began_at) * _QUESTIONS_PER_S:
                with contextlib.suppress(OSError):
                    socks[sent % len(socks)].send(question)
                sent += 1
            await trio.sleep(0.001)


ATTACKS: dict[str, Attack] = {
    "50 large reads": partial(_large_reads, 50),
    "300 large reads": partial(_large_reads, 300),
    "1 MiB under 1,000 watches": _write_under_watches,
    "60 pipelines of 4,000 reads": _pipelined_reads,
    "192 writes of 1 MiB": _large_writes,
    "1,500 requests of 2,500 headers": _many_headers,
    "300 slow readers": _slow_readers,
    "768 idle connections": partial(_idle, b""),
    "768 idle connections, made anew": _idle_again,
    "768 half requests": partial(_idle, b"PUT /v1/kv/half HTTP/1.1\r\nHost: localhost\r\n"),
    "300 strangers at the peer port": _strangers,
    "20,000 questions a second": _questions,
}


# -- how they connect -----------------------------------------------------------------------


async def _at_once(count: int, one: Callable[[], Awaitable[None]]) -> None:
    async def guarded() -> None:
        with contextlib.suppress(*client.GONE):
            await one()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(guarded)


@contextlib.asynccontextmanager
async def _held(
    address: str, count: int, sent: bytes, *, first_bytes: bool = False
) -> AsyncIterator[None]:
    """Have so many connections on which `sent` was sent; with `first_bytes` an answer began, too."""
    opening = trio.Semaphore(_OPENING_AT_ONCE)
    socks: list[trio.SocketStream] = []

    async def one() -> None:
        async with opening:
            stream = await trio.open_tcp_stream(*_split(address))
            socks.append(stream)
            if sent:
                await stream.send_all(sent)
            if first_bytes:
                await stream.receive_some(1)

    try:
        await _at_once(count, one)
        yield
    finally:
        for stream in socks:
            stream.socket.close()


async def _made_anew(count: int, address: str, sent: bytes, seconds: float) -> None:
    """Keep so many connections for so long; each that ends is made anew after a short pause."""

    async def one() -> None:
        while True:
            with contextlib.suppress(*client.GONE):
                async with await trio.open_tcp_stream(*_split(address)) as stream:
                    if sent:
                        await stream.send_all(sent)
                    while await stream.receive_some(_READ_BYTES):
                        pass
            await trio.sleep(_REOPEN_S)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def main() -> int:
    """Run the attack that the command line names."""
    name, address, seconds = sys.argv[1:]

    async def attack() -> None:
        with trio.fail_after(_DONE_S_MAX):
            await ATTACKS[name](address, float(seconds))

    trio.run(attack)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
