"""One query to one DNS server, and its reply.

Owns the matching of replies to queries, the timeout of a query, and the change to TCP. `finder.py`
decides which servers to ask, and what their answers mean.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from dataclasses import dataclass

import trio

from .message import RD, MalformedError, framed_size
from .records import Name, Rcode
from .wire import Reply, pack_question, parse_reply

# A node on this machine answers in a millisecond, a resolver in the network in a few dozen. A slower
# one is asked again in the next round of a search.
ASK_S = 0.5
# For the leader, at a server that has just named nodes: if it knows the leader, it says so at once.
# If not, it holds the question (`held.py`), and the nodes that it has named know no more.
LEADER_S = 0.05
REPLY_MAX = 65535
# Give the server up after so many datagrams that are not the reply: late ones, forged ones.
_STRAY_MAX = 16

_CHUNK = 4096
_NO_SENSE = "replies that do not answer the question"


class NoAnswer(Exception):
    """The server gave no usable answer; the text says what it did instead.

    Attributes:
        rcode: The response code; None when no reply came at all.
    """

    def __init__(self, what: str, rcode: int | None = None) -> None:
        super().__init__(what)
        self.rcode = rcode


async def ask(host: str, port: int, name: Name, rtype: int, within_s: float = ASK_S) -> Reply:
    """Ask one server for `name` and `rtype`, by UDP, and by TCP when that is truncated.

    Raises:
        NoAnswer: No reply within `within_s`, no server, or a response code other than NOERROR.

    Cancellation: Leaves nothing behind.
    """
    try:
        with trio.fail_after(within_s):
            reply = await exchange((host, port), name, rtype)
            if reply.truncated:
                reply = await exchange((host, port), name, rtype, over_tcp=True)
    except trio.TooSlowError:
        raise NoAnswer(f"no answer within {within_s:g} s") from None
    if reply.rcode != Rcode.NOERROR:
        what = _MEANINGS.get(reply.rcode, f"response code {reply.rcode}")
        raise NoAnswer(what, reply.rcode)
    return reply


async def exchange(
    server: tuple[str, int],
    name: Name,
    rtype: int,
    *,
    over_tcp: bool = False,
    is_recursive: bool = False,
) -> Reply:
    """Ask once, by one transport, and return the reply, whatever its response code.

    There is no timeout: the caller sets one.

    Args:
        server: Host and port.
        name: The name to ask for.
        rtype: The type to ask for.
        over_tcp: By TCP, else by UDP.
        is_recursive: Whether recursion is desired.

    Raises:
        NoAnswer: There is no server, or nothing that it sends answers the query.

    Cancellation: Leaves nothing behind.
    """
    question = _Question(name, rtype, random.SystemRandom().randrange(1 << 16), is_recursive)
    try:
        return await (_ask_tcp if over_tcp else _ask_udp)(server, question)
    except (OSError, UnicodeError, trio.BrokenResourceError) as error:
        raise NoAnswer(_reason(error)) from None


@dataclass(frozen=True, slots=True)
class _Question:
    name: Name
    rtype: int
    ident: int
    is_recursive: bool

    def pack(self) -> bytes:
        query = bytearray(pack_question(self.name, self.rtype, self.ident))
        query[2] |= RD if self.is_recursive else 0
        return bytes(query)

    def reply_in(self, packet: bytes) -> Reply | None:
        """Return the reply; None: the bytes do not answer this query (RFC 5452 section 9.1)."""
        try:
            reply = parse_reply(packet)
        except MalformedError:
            return None
        # An error may come without the question, when the server could not read it.
        matches = reply.question == (self.name, self.rtype) or (
            reply.question is None and reply.rcode != Rcode.NOERROR
        )
        return reply if matches and reply.ident == self.ident else None


async def _ask_udp(server: tuple[str, int], question: _Question) -> Reply:
    with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as udp:
        # A connected socket gets datagrams of this server only, and its "port unreachable".
        await udp.connect(server)
        await udp.send(question.pack())
        for _ in range(_STRAY_MAX):
            reply = question.reply_in(await udp.recv(REPLY_MAX))
            if reply is not None:
                return reply
    raise NoAnswer(_NO_SENSE)


async def _ask_tcp(server: tuple[str, int], question: _Question) -> Reply:
    query = question.pack()
    with trio.socket.socket(_family(server), trio.socket.SOCK_STREAM) as tcp:
        await tcp.connect(server)
        try:
            packet = await exchange_framed(trio.SocketStream(tcp), query)
        except MalformedError as error:
            raise NoAnswer(str(error)) from None
    reply = question.reply_in(packet)
    if reply is None:
        raise NoAnswer(_NO_SENSE)
    return reply


async def exchange_framed(stream: trio.abc.Stream, query: bytes) -> bytes:
    """Send a query over TCP, and return the first message that comes back.

    Raises:
        MalformedError: The connection ended before a whole message had come.
        trio.BrokenResourceError: It broke.

    Cancellation: The stream is of no further use.
    """
    await stream.send_all(len(query).to_bytes(2, "big") + query)
    buffer = bytearray()
    while not (size := framed_size(buffer)):
        chunk = await stream.receive_some(_CHUNK)
        if not chunk:
            raise MalformedError("the TCP connection ended before the reply")
        buffer += chunk
    return bytes(buffer[2:size])


def _family(server: tuple[str, int]) -> int:
    return trio.socket.AF_INET6 if ":" in server[0] else trio.socket.AF_INET


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):  # UnicodeError: no possible host name
        return "no such host"
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ECONNREFUSED:
        return "nothing listens there"
    return os.strerror(code).lower() if code else "the connection broke"


_MEANINGS: dict[int, str] = {
    Rcode.FORMERR: "FORMERR: it does not understand the question",
    Rcode.SERVFAIL: "SERVFAIL: it cannot answer now",
    Rcode.NXDOMAIN: "NXDOMAIN: it knows no such name",
    Rcode.NOTIMP: "NOTIMP: it does not answer queries",
    Rcode.REFUSED: "REFUSED: it does not serve this zone",
}
