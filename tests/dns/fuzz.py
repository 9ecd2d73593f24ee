"""A mutation fuzz of the DNS server: real-looking packets, spoilt, by UDP and by TCP.

    await run(seed, 20_000)

drives a whole `DnsServer` without sockets: datagrams go through its own drain, with clients near
and far; TCP goes through its own connections over streams in memory, in pieces and with length
prefixes that lie. Every other server has recursors, whose replies are spoilt likewise. Each reply
is held against rules that are written here anew, and what may grow is looked at in the end. All is
drawn from the seed, and time is virtual, so a failure can be had again.
"""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from collections.abc import Callable

import dnslib
import trio
import trio.testing

from hstore.dns.cache import COMPILED_MAX, SERVICES_SIZE_MAX
from hstore.dns.held import HOLD_S
from hstore.dns.lookup import HostNode
from hstore.dns.message import MalformedError
from hstore.dns.ratelimit import NETWORKS_MAX
from hstore.dns.recursor import ForgedError, Recursor, is_reply
from hstore.dns.server import DnsServer
from hstore.dns.view import ClusterView
from tests.fakes.lookup import FakeLookup, instance

from .kit import TYPES, ZONE, member, opt, query, view, wire_name
from .test_recursor import answer
from .test_server import bound
from .test_server_beyond import MemorySocket

BATCH = 64
PER_CONNECTION = 24
GROWTH_MAX = 4 << 20
"""Bytes by which the memory may have grown between the first tenth and the end: tables that fill."""

_NAMES = [
    ZONE, "leader.hstore.local", "LeAdEr.HSTORE.local", "nodes.hstore.local", "voters.hstore.local",
    "n1.node.hstore.local", "_hstore._tcp.hstore.local", "_hstore-leader._tcp.hstore.local",
    "_services._dns-sd._udp.hstore.local", "n2._hstore._tcp.hstore.local", "absent.hstore.local",
    "1.0.0.10.in-addr.arpa", "x.2.0.0.10.in-addr.arpa", "9.9.9.9.in-addr.arpa", "ip6.arpa",
    "example.com", "WwW.ExAmPlE.cOm", "local", "", ".".join(["x" * 61] * 4),
    "web.service.hstore.local", "WeB.service.consul", "_web._tcp.consul", "v1.web.service.dc1.consul",
    "large.service.consul", "alias.service.hstore.local", "0a000001.addr.consul", "w1.node.consul",
    "absent.service.consul", "leader.consul", "service.consul", "consul",
]  # fmt: skip
_TYPES = [*TYPES.values(), *[1, 12, 16, 28, 33] * 3]
_OPTIONS = [
    b"", b"\0\x0a\0\x08\1\2\3\4\5\6\7\x08", b"\0\3\0\0", b"\0\x08\0\x07\0\1\x18\0\x0a\0\0",
    b"\0\x0c\0\x10" + bytes(16), b"\0\x0a\0\xff", b"\0",
]  # fmt: skip
_CLIENTS = ["127.0.0.1", "::1", "10.0.0.5", "fd00::5", "192.0.2.5", "2001:db8::5", "198.51.100.7"]
_SOA = wire_name(ZONE) + b"\0\x06\0\1\0\0\0\0\0\x16\0\0" + bytes(20)
_TSIG = wire_name("key") + b"\0\xfa\0\xff\0\0\0\0\0\2ab"
_BYTES = [0, 1, 0x0C, 0x29, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xC1, 0xFF]

Mutation = Callable[[random.Random, bytearray], None]


class Packets:
    """Packets drawn from one generator."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._replies: list[bytes] = [query(flags=0x8400)]

    def draw(self) -> bytes:
        """One packet: nearly half as a client would send it, the rest spoilt."""
        rng = self._rng
        packet = bytearray(rng.choice(self._replies) if rng.random() < 0.05 else self._sound())
        for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 6))):
            rng.choice(_MUTATIONS)(rng, packet)
        return bytes(packet)

    def keep(self, reply: bytes) -> None:
        """Have a reply among what is sent back to the server."""
        if len(self._replies) < 64:
            self._replies.append(reply)
        else:
            self._replies[self._rng.randrange(64)] = reply

    def _sound(self) -> bytes:
        rng = self._rng
        extra, counts = b"", None
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                size = rng.choice((0, 511, 512, 513, 700, 1232, 4096, 65535))
                extra = opt(size, int(rng.random() < 0.05), rng.choice((0, 0x8000, 1)))
                if rng.random() < 0.3:
                    extra = opt(size, options=rng.choice(_OPTIONS))
            case 4:
                extra, counts = _SOA + opt(), (1, 0, 1, 1)
            case 5:
                extra, counts = opt() + _TSIG, (1, 0, 0, 2)
        rtype = rng.choice(_TYPES) if rng.random() < 0.9 else rng.randrange(1 << 16)
        flags = rng.choice((*[0x0100, 0x0120, 0x0110, 0] * 3, 0x8180, 0x2100, 0x2800))
        return query(
            rng.choice(_NAMES),
            rtype,
            ident=rng.randrange(1 << 16),
            flags=flags,
            counts=counts,
            rclass=1 if rng.random() < 0.95 else rng.choice((3, 254, 255)),
            additional=extra,
        )


def _flip(rng: random.Random, packet: bytearray) -> None:
    if packet:
        packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, packet: bytearray) -> None:
    if packet:
        packet[rng.randrange(len(packet))] = rng.choice(_BYTES)


def _point(rng: random.Random, packet: bytearray) -> None:
    """A pointer: backwards, forwards, to itself, into the header, beyond the end."""
    at = rng.randrange(len(packet) + 1)
    target = rng.choice((0, 12, at, at + 2, rng.randrange(1 << 14)))
    packet[at : at + 2] = struct.pack("!H", 0xC000 | target & 0x3FFF)


def _insert(rng: random.Random, packet: bytearray) -> None:
    at = rng.randrange(len(packet) + 1)
    packet[at:at] = rng.randbytes(rng.choice((1, 1, 2, 11, 64)))


def _repeat(rng: random.Random, packet: bytearray) -> None:
    at = rng.randrange(len(packet) + 1)
    packet[at:at] = packet[at : at + rng.choice((1, 5, 11, 40))] * rng.choice((1, 2, 30))
    del packet[4000:]


def _cut(rng: random.Random, packet: bytearray) -> None:
    at = rng.randrange(len(packet) + 1)
    del packet[at : at + rng.choice((1, 2, 4, 12, 4000))]


def _count(rng: random.Random, packet: bytearray) -> None:
    at = rng.choice((4, 6, 8, 10))
    if len(packet) >= 12:
        packet[at : at + 2] = struct.pack("!H", rng.choice((0, 1, 2, 3, 255, 256, 65535)))


def _append_opt(rng: random.Random, packet: bytearray) -> None:
    packet += opt(rng.randrange(1 << 16), options=rng.choice(_OPTIONS))
    if len(packet) > 11 and rng.random() < 0.7:
        packet[11] = packet[11] + 1 & 0xFF


_MUTATIONS: list[Mutation] = [
    _flip, _flip, _overwrite, _point, _insert, _repeat, _cut, _count, _append_opt,
]  # fmt: skip


class Wrong(AssertionError):
    """A reply that should not be, or none that should."""


def check(
    packet: bytes,
    reply: bytes | None,
    *,
    over_tcp: bool,
    may_be_silent: bool,
    is_near: bool = False,
) -> None:
    """Hold a reply against the packet that it is for.

    Raises:
        Wrong: It breaks a rule.
    """
    if len(packet) < 12 or packet[2] & 0x80:
        if reply is not None:
            raise Wrong("a reply to what must get none")
        return
    if reply is None:
        if not may_be_silent:
            raise Wrong("no reply to a query")
        return
    if reply[:2] != packet[:2] or reply[2] & 0xF9 != 0x80 | packet[2] & 0x79:
        raise Wrong("not a reply to this packet: by id, opcode, RD or QR")
    limit = 65535 if over_tcp else _udp_limit(packet, 16384 if is_near else 1232)
    if len(reply) > limit:
        raise Wrong(f"{len(reply)} bytes where {limit} are allowed")
    if reply[4:6] == b"\0\1":
        if reply[12 : _question_end(reply)] != packet[12 : _question_end(reply)]:
            raise Wrong("another question")
    elif reply[4:6] != b"\0\0" or len(reply) > 12 + 11:
        raise Wrong("records without a question")


def _question_end(reply: bytes) -> int:
    at = 12
    while at < len(reply) and reply[at]:
        at += 1 + reply[at]
    return at + 5


def _is_reply_to(packet: bytes, reply: bytes) -> bool:
    """Whether it is, by its id and question; replies over TCP come in any order."""
    try:
        check(packet, reply, over_tcp=True, may_be_silent=False)
    except Wrong:
        return False
    return True


def _is_for_dnslib(reply: bytes) -> bool:
    """Whether it can be read there: ours (recursors say what they like), and no strange name."""
    is_ours = not reply[3] & 0x80
    return (
        is_ours
        and re.fullmatch(rb"[\0-\x3fA-Za-z_]*", reply[12 : _question_end(reply)]) is not None
    )


def _udp_limit(packet: bytes, most: int) -> int:
    """The most that the client can have allowed: by the largest OPT that may be seen in it."""
    sizes = [512]
    at = packet.find(b"\0\0\x29", 12)
    while at >= 0:
        sizes.append(int.from_bytes(packet[at + 3 : at + 5], "big"))
        at = packet.find(b"\0\0\x29", at + 1)
    return min(most, max(sizes))


class Fuzz:
    """One server, and what is thrown at it."""

    def __init__(self, seed: int, *, with_recursors: bool) -> None:
        self._rng = random.Random(f"{seed} {with_recursors}")
        self.packets = Packets(self._rng)
        recursor = None
        if with_recursors:
            servers = [(f"192.0.2.{number}", 53) for number in (1, 2)]
            recursor = Recursor(servers, udp=self._upstream_udp, tcp=self._upstream_tcp)
            recursor._random = self._rng  # type: ignore[assignment]  # drawn from the seed, too
        udp, tcp = bound()
        udp.close()
        tcp.close()
        self.recursor = recursor
        self._lookup = FakeLookup()
        self.server = DnsServer(udp, tcp, lookup=self._lookup, recursor=recursor)
        self.datagrams = MemorySocket()
        self.server._udp = self.datagrams  # type: ignore[assignment]  # a stand-in
        self._views = self._draw_views()
        self.server.view = self._views[0]
        self._port = 0
        self._owed: dict[int, tuple[bytes, bool]] = {}

    async def hold(self) -> None:
        """Let go what the server holds, as its `run` does."""
        await self.server._dispatch.held.run()

    async def batch(self, nursery: trio.Nursery) -> int:
        """Throw some packets, and check what comes back; return how many."""
        if self._rng.random() < 0.05:
            self.server.view = self._rng.choice(self._views)
        if self._rng.random() < 0.3:
            self._change()
        self.server._nursery = nursery
        if self._rng.random() < 0.25:
            return await self._by_tcp(nursery)
        return await self._by_udp()

    def _change(self) -> None:
        """Change some service, or a node."""
        rng = self._rng
        tags = rng.choice(((), (b"v1",), (b"v1.2", b"v1")))
        addresses = ("", "", "10.9.9.9", "fd00::9", "far.example", "alias.service.consul")
        for name, most in ((b"web", 5), (b"large", 120), (b"alias", 1)):
            count = rng.randrange(most + 1)
            self._lookup.put(
                name,
                [
                    instance(
                        number, tags=tags, address=rng.choice(addresses), status=rng.randrange(3)
                    )
                    for number in range(1, count + 1)
                ],
            )
        self._lookup.age_s = rng.choice((0.0, 0.0, 299.0, 400.0))
        self._lookup.put_node(b"w1", HostNode(rng.choice(("10.1.0.1", "far.example")), (b"k=v",)))

    async def _by_udp(self) -> int:
        packets = [self.packets.draw() for _ in range(BATCH)]
        clients = [self._rng.choice(_CLIENTS) for _ in packets]
        for packet, client in zip(packets, clients, strict=True):
            self._port += 1
            self.datagrams.came.append((packet, (client, self._port)))
            self._owed[self._port] = packet, client in {"127.0.0.1", "::1"}
        first = self._port - BATCH
        self.server._drain_singly()
        await trio.testing.wait_all_tasks_blocked()
        self._check_udp()
        for port in [port for port in self._owed if port > first]:
            packet, is_near = self._owed[port]
            # What is held is still owed.
            if not self._may_hold or len(packet) < 12 or packet[2] & 0x80:
                del self._owed[port]
                self._check(packet, None, may_be_silent=not is_near)
        return len(packets)

    @property
    def _may_hold(self) -> bool:
        seen = self.server.view
        return seen is None or seen.leader is None

    def _check_udp(self) -> None:
        """Check the datagrams that were sent, in the last batch or for what was held."""
        for reply, (_host, port) in self.datagrams.sent:
            if port not in self._owed:
                raise Wrong("two replies to one packet")
            packet, is_near = self._owed.pop(port)
            self._check(packet, reply, is_near=is_near)
        self.datagrams.sent.clear()

    async def _by_tcp(self, nursery: trio.Nursery) -> int:
        rng = self._rng
        packets = [self.packets.draw() for _ in range(PER_CONNECTION)]
        stream = bytearray()
        for packet in packets:
            length = len(packet) if rng.random() < 0.98 else rng.randrange(1 << 16)
            stream += length.to_bytes(2, "big") + packet
        theirs, ours = trio.testing.memory_stream_pair()
        nursery.start_soon(self.server.serve_stream, ours)
        rest = bytes(stream)
        while rest:
            size = rng.choice((1, 2, 3, 40, 500, 1 << 16))
            await theirs.send_all(rest[:size])
            rest = rest[size:]
        await theirs.send_eof()
        came = bytearray()
        while chunk := await theirs.receive_some():
            came += chunk
        await theirs.aclose()
        replies = _frames(came)
        for message in _frames(stream):
            reply = next((one for one in replies if _is_reply_to(message, one)), None)
            if reply is not None:
                replies.remove(reply)
            self._check(message, reply, over_tcp=True, may_be_silent=self._may_hold)
        if replies:
            raise Wrong("more replies than queries by TCP")
        return len(packets)

    def _check(self, packet: bytes, reply: bytes | None, **how: bool) -> None:
        rules = {"over_tcp": False, "may_be_silent": False} | how
        try:
            check(packet, reply, **rules)
            if reply is not None and self._rng.random() < 0.02 and _is_for_dnslib(reply):
                dnslib.DNSRecord.parse(reply)
        except (Wrong, dnslib.DNSError) as error:
            said = "nothing" if reply is None else reply.hex()
            raise Wrong(f"{error}; to {packet.hex()} came {said}; {rules}") from error
        if reply is not None:
            self.packets.keep(reply)

    async def _upstream_udp(self, _server: object, question: bytes) -> bytes:
        for _ in range(3):
            reply = self._spoilt_answer(question)
            if is_reply(reply, question):
                return reply
        raise self._rng.choice((ForgedError(), OSError()))

    async def _upstream_tcp(self, _server: object, question: bytes) -> bytes:
        reply = self._spoilt_answer(question)
        if not is_reply(reply, question):
            raise MalformedError("not the reply")
        return reply

    def _spoilt_answer(self, question: bytes) -> bytes:
        rng = self._rng
        size = rng.choice((0, 0, 256, 1024, 8192))
        reply = bytearray(answer(question, size=size, flags=rng.choice((0x80, 0x82, 0x84))))
        for _ in range(rng.choice((0, 1, 2, 4))):
            rng.choice(_MUTATIONS)(rng, reply)
        return bytes(reply)

    def _draw_views(self) -> list[ClusterView | None]:
        some = [member(1), member(2, "2001:db8::2", live=False), member(3, voter=False)]
        return [
            view(12),
            view(3),
            view(some),
            view(40),
            view(40),
            view(3, leader=None),
            view(1),
            None,
        ]

    def check_bounds(self) -> None:
        """What may grow has not, and nothing met a bug.

        Raises:
            Wrong: It is not so.
        """
        server, recursor = self.server, self.recursor
        if server.stats.failures:
            raise Wrong(f"{server.stats.failures} packets met a bug; the log has the first")
        cache = server._answers._cache
        if cache._of_cluster > COMPILED_MAX or cache._services_size > SERVICES_SIZE_MAX:
            raise Wrong("compiled answers are left over")
        if server._connections:
            raise Wrong("connections are left over")
        self._check_udp()
        lost = sum(is_near for _, is_near in self._owed.values())
        if server.held or lost > server.stats.unheld:
            raise Wrong("what was held is still held, or was lost")
        if len(server._limit._buckets) > NETWORKS_MAX:
            raise Wrong("the rate limit knows too many networks")
        if recursor is not None and (recursor._flights or recursor._waiting):
            raise Wrong("forwarded queries are left over")


def _frames(stream: bytes | bytearray) -> list[bytes]:
    """The whole messages in it."""
    found, at = [], 0
    while at + 2 <= len(stream):
        end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
        if end > len(stream):
            break
        found.append(bytes(stream[at + 2 : end]))
        at = end
    return found


def run(seed: int, count: int) -> None:
    """Throw `count` packets drawn from `seed`.

    Raises:
        Wrong: A reply or a bound is not as it should be; the text has the seed.
    """
    clock = trio.testing.MockClock()
    rng = random.Random(seed)
    thrown = 0

    async def throw() -> None:
        nonlocal thrown
        subjects = [Fuzz(seed, with_recursors=flag) for flag in (False, True)]
        settled = 0
        async with trio.open_nursery() as nursery:
            for subject in subjects:
                nursery.start_soon(subject.hold)
            while thrown < count:
                for subject in subjects:
                    thrown += await subject.batch(nursery)
                # Seldom more than this, so that the far networks get beyond their rate.
                clock.jump(rng.choices((0.001, HOLD_S), (99, 1))[0])
                if not settled and thrown >= count / 10:
                    settled = tracemalloc.get_traced_memory()[0]
            clock.jump(HOLD_S + 1)
            await trio.testing.wait_all_tasks_blocked()
            for subject in subjects:
                subject.check_bounds()
            nursery.cancel_scope.cancel()
        grown = tracemalloc.get_traced_memory()[0] - settled
        if grown > GROWTH_MAX:
            raise Wrong(f"the memory grew by {grown} bytes")

    tracemalloc.start()
    try:
        trio.run(throw, clock=clock)
    except BaseExceptionGroup as group:
        raise Wrong(f"HSTORE_SEED={seed}, around packet {thrown}: {_first(group)!r}") from group
    except Wrong as error:
        raise Wrong(f"HSTORE_SEED={seed}: {error}") from error
    finally:
        tracemalloc.stop()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
