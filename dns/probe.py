"""One question to one server by one transport, and all that can be said of the reply.

Where `client.py` wants an answer and is content with either transport, this is for who looks for
what is wrong: UDP and TCP are asked apart, a response code is a result and no error, and it is
said how long it took. Recursion is desired, as a program's resolver would ask: some forwarders
refuse questions that do not.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import trio

from .message import HEADER_SIZE, RD, MalformedError
from .records import Address, Name, Rcode, RRType
from .wire import Reply, pack_question, parse_reply

PROBE_S = 2.0
"""For one name at one server. A forwarder may first have to notice that one of its servers is down;
glibc waits 5 s, which is more than who waits for all of this would."""

# As in `client.py`.
_REPLY_MAX = 65535
_STRAY_MAX = 16


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one question.

    Attributes:
        rcode: The response code; None when there was no reply.
        hosts: The addresses in the answer.
        problem: Why there is no reply, in words; empty when there is one.
        truncated: Whether the reply says that it is not all.
        took_s: Seconds until it was clear.
    """

    rcode: int | None = None
    hosts: frozenset[str] = frozenset()
    problem: str = ""
    truncated: bool = False
    took_s: float = 0.0

    @property
    def said(self) -> str:
        """What came back, in a word or a few."""
        if self.rcode is None:
            return self.problem
        if self.rcode != Rcode.NOERROR:
            return rcode_name(self.rcode)
        return ", ".join(sorted(self.hosts)) or "no address"


def rcode_name(rcode: int) -> str:
    """The name of a response code."""
    try:
        return Rcode(rcode).name
    except ValueError:
        return f"response code {rcode}"


async def addresses(server: tuple[str, int], name: Name, *, over_tcp: bool = False) -> Told:
    """Ask one server for the addresses of a name: A, and AAAA where it has none of those.

    No network error is raised; at most `PROBE_S` seconds pass.

    Cancellation: Leaves nothing behind.
    """
    began = trio.current_time()
    told = Told(problem=f"no answer within {PROBE_S:g} s")
    with trio.move_on_after(PROBE_S):
        for rtype in (RRType.A, RRType.AAAA):
            told = await _ask(server, name, rtype, over_tcp=over_tcp)
            if told.rcode != Rcode.NOERROR or told.hosts or told.truncated:
                break
    took_s = trio.current_time() - began
    return Told(told.rcode, told.hosts, told.problem, told.truncated, took_s)


async def _ask(server: tuple[str, int], name: Name, rtype: RRType, *, over_tcp: bool) -> Told:
    ident = random.SystemRandom().randrange(1 << 16)
    query = bytearray(pack_question(name, rtype, ident))
    query[2] |= RD
    try:
        exchange = _over_tcp if over_tcp else _over_udp
        reply = await exchange(server, bytes(query), (name, rtype), ident)
    except (OSError, trio.BrokenResourceError) as error:
        return Told(problem=_reason(error))
    if reply is None:
        return Told(problem="replies that do not answer the question")
    hosts = frozenset(str(r.rdata.ip) for r in reply.answers if isinstance(r.rdata, Address))
    return Told(reply.rcode, hosts, truncated=reply.truncated)


async def _over_udp(
    server: tuple[str, int], query: bytes, question: tuple[Name, int], ident: int
) -> Reply | None:
    with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as udp:
        # Connected, so that only this server is heard, and "port unreachable" too.
        await udp.connect(server)
        await udp.send(query)
        for _ in range(_STRAY_MAX):
            reply = _matching(await udp.recv(_REPLY_MAX), question, ident)
            if reply is not None:
                return reply
    return None


async def _over_tcp(
    server: tuple[str, int], query: bytes, question: tuple[Name, int], ident: int
) -> Reply | None:
    with trio.socket.socket(_family(server), trio.socket.SOCK_STREAM) as tcp:
        await tcp.connect(server)
        stream = trio.SocketStream(tcp)
        await stream.send_all(len(query).to_bytes(2, "big") + query)
        buffer = bytearray()
        while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
            chunk = await stream.receive_some()
            if not chunk:
                raise trio.BrokenResourceError
            buffer += chunk
    return _matching(bytes(buffer[2:]), question, ident)


def _matching(packet: bytes, question: tuple[Name, int], ident: int) -> Reply | None:
    """The reply, or None when the bytes do not answer this question (RFC 5452 section 9.1)."""
    if len(packet) < HEADER_SIZE:
        return None
    try:
        reply = parse_reply(packet)
    except MalformedError:
        return None
    # An error may come without the question, when the server could not read it.
    is_ours = reply.question == question or (
        reply.question is None and reply.rcode != Rcode.NOERROR
    )
    return reply if is_ours and reply.ident == ident else None


def _family(server: tuple[str, int]) -> int:
    return trio.socket.AF_INET6 if ":" in server[0] else trio.socket.AF_INET


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code).lower() if code else "the connection ended before the reply"
