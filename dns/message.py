"""Queries read by hand from bytes, and the fixed parts of replies.

Owns the layout of header, question and OPT record, and of messages over TCP. The parser is our own
for three reasons. It is the hot path, where it takes a tenth of dnslib's time. It keeps the readable
part of a malformed query, so that the error can echo it. Its names are bytes and not text. What a
question means is decided in `answers.py`; records are packed in `wire.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .records import Name, Rcode, RRType

HEADER_SIZE = 12
OPT_SIZE = 11
OWN_UDP_SIZE = 1232
"""Fits into one unfragmented IPv6 packet on any link (DNS flag day 2020). We advertise it, and send
no more by UDP to another machine."""
NEAR_UDP_SIZE = 16384
"""What we send by UDP to a client with a loopback address, if it takes so much. Linux's loopback
carries packets of 64 KiB whole."""
PLAIN_UDP_SIZE = 512
"""RFC 1035 section 4.2.1: the limit for a client without EDNS."""

QR = 0x80
AA = 0x04
TC = 0x02
RD = 0x01
OPCODE = 0x78
RA = 0x80
CD = 0x10

_NAME_SIZE_MAX = 255
_OPT = struct.Struct("!BHHIH")
_COUNTS = struct.Struct("!4H")
_TWO = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_DO = 0x8000


class MalformedError(ValueError):
    """The bytes are not a DNS message."""


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891 section 6.1)."""

    udp_size: int
    version: int
    dnssec_ok: bool


@dataclass(slots=True)
class Query:
    """A query, as far as it could be read.

    Attributes:
        ident: Its id, two bytes.
        flags: Third and fourth byte of the header.
        question: The question section byte for byte; empty when it could not be read.
        name: The name asked for, in lower case.
        edns: None without an OPT record.
        error: FORMERR or NOTIMP for a query that cannot be answered; else None.
    """

    ident: bytes
    flags: tuple[int, int]
    question: bytes = b""
    name: Name = ()
    rtype: int = 0
    rclass: int = 0
    edns: Edns | None = None
    error: Rcode | None = None

    def udp_limit(self, *, is_near: bool) -> int:
        """Return the largest reply, in bytes, that may be sent by UDP.

        Args:
            is_near: Whether the client has a loopback address.
        """
        if self.edns is None:
            return PLAIN_UDP_SIZE
        return udp_limit(self.edns.udp_size, is_near=is_near)


def parse_query(packet: bytes) -> Query | None:
    """Read a query.

    Returns:
        None for a packet that must get no reply at all: a response, or less than a header.
    """
    if len(packet) < HEADER_SIZE or packet[2] & QR:
        return None
    query = Query(packet[:2], (packet[2], packet[3]))
    try:
        _read_sections(packet, query)
    except MalformedError:
        query.error = Rcode.FORMERR
    if query.flags[0] & OPCODE:
        # What follows the header depends on the opcode. If it could be read as a question, the
        # reply echoes it.
        query.error = Rcode.NOTIMP
    return query


def framed_size(buffer: bytes | bytearray) -> int:
    """Return the bytes of the first message of a TCP stream, its length prefix included.

    RFC 1035 section 4.2.2: two bytes of length come first. 0: the message is not complete yet.
    """
    if len(buffer) < 2:
        return 0
    size = 2 + int.from_bytes(buffer[:2], "big")
    return size if len(buffer) >= size else 0


def udp_limit(advertised: int, *, is_near: bool) -> int:
    """Return the UDP limit for a client that advertises a size.

    RFC 6891 section 6.2.3: "Values lower than 512 MUST be treated as equal to 512."
    """
    return max(PLAIN_UDP_SIZE, min(advertised, NEAR_UDP_SIZE if is_near else OWN_UDP_SIZE))


def opt_record(rcode: int = 0, *, dnssec_ok: bool = False) -> bytes:
    """Return our OPT record. RFC 3225 section 3: it has the DO bit of the query."""
    ttl = (rcode >> 4) << 24 | (_DO if dnssec_ok else 0)
    return _OPT.pack(0, RRType.OPT, OWN_UDP_SIZE, ttl, 0)


OPTS = (opt_record(), opt_record(dnssec_ok=True))
"""Those with the usual response codes, by the DO bit."""


def empty_reply(
    query: Query, rcode: int, *, aa: bool = False, tc: bool = False, ra: bool = False
) -> bytes:
    """Return a reply without records, except an OPT if the query has one."""
    opt = b""
    if query.edns is not None:
        is_ok = query.edns.dnssec_ok
        opt = OPTS[is_ok] if rcode < 16 else opt_record(rcode, dnssec_ok=is_ok)
    high = QR | query.flags[0] & (OPCODE | RD) | (AA if aa else 0) | (TC if tc else 0)
    low = (RA if ra else 0) | query.flags[1] & CD | rcode & 15
    counts = _COUNTS.pack(bool(query.question), 0, 0, bool(opt))
    return query.ident + bytes((high, low)) + counts + query.question + opt


def name_bytes(name: Name) -> bytes:
    """Return a name as in a message, uncompressed."""
    return b"".join(bytes((len(label),)) + label for label in name) + b"\0"


def record_bounds(packet: bytes, at: int) -> tuple[int, int]:
    """Return where the type of the record at `at` is, and where it ends; no pointer is followed.

    Raises:
        MalformedError: It does not end within the packet.
    """
    while True:
        if at >= len(packet):
            raise MalformedError("record cut short")
        length = packet[at]
        at += 1
        if not length:
            break
        if length >= 0xC0:
            at += 1
            break
        if length > 63:
            raise MalformedError("unknown label type")
        at += length
    if at + _RECORD.size > len(packet):
        raise MalformedError("record cut short")
    end = at + _RECORD.size + _RECORD.unpack_from(packet, at)[3]
    if end > len(packet):
        raise MalformedError("record cut short")
    return at, end


def _read_sections(packet: bytes, query: Query) -> None:
    questions, answers, authorities, additionals = _COUNTS.unpack_from(packet, 4)
    if questions != 1:
        raise MalformedError("not one question")
    query.name, at = _read_name(packet, HEADER_SIZE)
    if at + 4 > len(packet):
        raise MalformedError("question cut short")
    query.rtype, query.rclass = _TWO.unpack_from(packet, at)
    query.question = packet[HEADER_SIZE : at + 4]
    at += 4
    # Each record takes at least 11 bytes or is an error, so false counts cost nothing.
    for _ in range(answers + authorities):
        _fixed, at = record_bounds(packet, at)
    for _ in range(additionals):
        start = at
        fixed, at = record_bounds(packet, start)
        if _TWO.unpack_from(packet, fixed)[0] == RRType.OPT:
            # RFC 6891 sections 6.1.1 and 6.1.2: a second OPT is FORMERR; the owner is the root.
            if query.edns is not None or packet[start]:
                raise MalformedError("a second OPT, or one with an owner")
            query.edns = _read_opt(packet, start, at)
    if at != len(packet):
        raise MalformedError("bytes after the last record")


def _read_name(packet: bytes, at: int) -> tuple[Name, int]:
    """Read a name without pointers: before the question there is no name to point to."""
    labels = []
    start = at
    while True:
        if at >= len(packet):
            raise MalformedError("name cut short")
        length = packet[at]
        at += 1
        if not length:
            break
        if length > 63:
            raise MalformedError("pointer or unknown label type in the question")
        labels.append(packet[at : at + length].lower())
        at += length
    if at - start > _NAME_SIZE_MAX:
        raise MalformedError("name longer than 255 bytes")
    return tuple(labels), at


def _read_opt(packet: bytes, start: int, end: int) -> Edns:
    """Read the OPT record from `start` to `end`; its options are checked and ignored."""
    _root, _type, size, ttl, _length = _OPT.unpack_from(packet, start)
    at = start + OPT_SIZE
    while at + 4 <= end:
        at += 4 + _TWO.unpack_from(packet, at)[1]
    if at != end:
        raise MalformedError("EDNS option cut short")
    return Edns(size, ttl >> 16 & 0xFF, bool(ttl & _DO))
