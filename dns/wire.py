"""Records to bytes and replies from bytes: the one typed door to dnslib.

Owns the translation between `records.py` and dnslib's objects, and of dnslib's errors into
`MalformedError`. No other module imports dnslib: it has no types, its names are text, and some of its
helpers are wrong for a server (`truncate()` drops the question).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dnslib
from dnslib.label import DNSBuffer, DNSLabel, DNSLabelError

from .message import HEADER_SIZE, OWN_UDP_SIZE, TC, MalformedError, name_bytes
from .records import (
    CLASS_IN,
    Address,
    Cname,
    Hinfo,
    Name,
    Ns,
    Ptr,
    Rdata,
    Record,
    RRType,
    Soa,
    Srv,
    Txt,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as a client reads it, without records of types that this package does not know.

    Attributes:
        ident: Its id.
        question: Name (in lower case) and type; None unless there is exactly one question.
        rcode: The response code, without EDNS's upper bits.
        truncated: Whether TC was set.
        answers: Records of the answer section.
        additional: Records of the additional section.
    """

    ident: int
    question: tuple[Name, int] | None
    rcode: int
    truncated: bool
    answers: tuple[Record, ...]
    additional: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A record as `dig` shows it: all of it text, but for `ttl_s`."""

    name: str
    ttl_s: int
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A whole reply for a person: records of every type, and the flags.

    Attributes:
        rcode: The response code, without EDNS's upper bits.
        flags: Such as `aa`, in the order of `dig`.
        question: Name and type as text; empty unless there is exactly one question.
        answer: Records of the answer section; likewise `authority`, and `additional` without OPT.
    """

    rcode: int
    flags: tuple[str, ...]
    question: str
    answer: tuple[Line, ...]
    authority: tuple[Line, ...]
    additional: tuple[Line, ...]


def pack_sections(
    name: Name, rtype: int, answers: Iterable[Record], additional: Iterable[Record]
) -> bytes:
    """Return the sections that follow the question `name rtype`, compressed against it.

    Their names point to the question, so the same bytes serve every spelling of the name: owners
    have the case of the question.
    """
    message = dnslib.DNSRecord(
        dnslib.DNSHeader(),
        q=dnslib.DNSQuestion(DNSLabel(name), int(rtype), CLASS_IN),
        rr=[_packable(record) for record in answers],
        ar=[_packable(record) for record in additional],
    )
    return bytes(message.pack()[HEADER_SIZE + len(name_bytes(name)) + 4 :])


def pack_anywhere(record: Record) -> bytes:
    """Return one record without compression: the same bytes serve after every question."""
    buffer = _UncompressedBuffer()
    _packable(record).pack(buffer)
    return bytes(buffer.data)


def pack_question(name: Name, rtype: int, ident: int) -> bytes:
    """Return a query for class IN, with EDNS and RD, since the server may be a resolver."""
    message = dnslib.DNSRecord(
        dnslib.DNSHeader(id=ident, bitmap=0, rd=1),
        q=dnslib.DNSQuestion(DNSLabel(name), int(rtype), CLASS_IN),
        ar=[dnslib.EDNS0(udp_len=OWN_UDP_SIZE)],
    )
    return bytes(message.pack())


def parse_reply(packet: bytes) -> Reply:
    """Read a reply.

    Raises:
        MalformedError: It is none.
    """
    try:
        message = dnslib.DNSRecord.parse(packet)
        header = message.header
        if not header.qr:
            raise MalformedError("a query, not a reply")
        question = None
        if len(message.questions) == 1:
            (asked,) = message.questions
            question = (_name(asked.qname), int(asked.qtype))
        return Reply(
            ident=int(header.id),
            question=question,
            rcode=int(header.rcode),
            truncated=bool(packet[2] & TC),
            answers=_records(message.rr),
            additional=_records(message.ar),
        )
    # dnslib follows chains of pointers by recursion, and some of its range checks are ValueErrors.
    except (dnslib.DNSError, DNSLabelError, ValueError, RecursionError) as error:
        raise MalformedError(f"not a DNS reply: {error}") from error


def show_reply(packet: bytes) -> Shown:
    """Read a reply for a person.

    Raises:
        MalformedError: It is none.
    """
    try:
        message = dnslib.DNSRecord.parse(packet)
        header = message.header
        names = [name for name in _FLAGS if getattr(header, name)]
        asked = message.questions
        return Shown(
            rcode=int(header.rcode),
            flags=tuple(names),
            question=f"{asked[0].qname} {_type_name(asked[0].qtype)}" if len(asked) == 1 else "",
            answer=_lines(message.rr),
            authority=_lines(message.auth),
            additional=_lines(message.ar),
        )
    except (dnslib.DNSError, DNSLabelError, ValueError, RecursionError) as error:
        raise MalformedError(f"not a DNS reply: {error}") from error


_FLAGS = ("qr", "aa", "tc", "rd", "ra", "ad", "cd")


def _lines(rrs: Iterable[Any]) -> tuple[Line, ...]:
    return tuple(
        Line(str(rr.rname), int(rr.ttl), _type_name(rr.rtype), _data(rr))
        for rr in rrs
        if rr.rtype != RRType.OPT
    )


def _data(rr: Any) -> str:
    match rr.rtype:
        case RRType.TXT:
            return " ".join(map(_quoted, rr.rdata.data))
        case RRType.HINFO:
            # dnslib does not know the type, and has its bytes: two texts, each with its length.
            data = bytes(rr.rdata.data)
            cpu, rest = data[1 : 1 + data[0]], data[1 + data[0] :]
            return f"{_quoted(cpu)} {_quoted(rest[1:])}"
        case _:
            return str(rr.rdata)


def _quoted(text: bytes) -> str:
    """Return a character string as master files have it (RFC 1035 section 5.1), as `dig` does."""
    return '"' + "".join(_ESCAPED.get(byte, f"\\{byte:03}") for byte in text) + '"'


_ESCAPED = {byte: chr(byte) for byte in range(0x20, 0x7F)} | {0x22: '\\"', 0x5C: "\\\\"}


def _type_name(rtype: int) -> str:
    return str(dnslib.QTYPE.get(rtype))


def type_named(text: str) -> int:
    """Return the number of a type by its name, or by a number as in `TYPE65` (RFC 3597 section 5).

    Raises:
        ValueError: There is no such type, or none that is asked for by one question (IXFR, OPT).
    """
    plain = text.upper()
    number = plain.removeprefix("TYPE")
    is_number = number != plain and number.isascii() and number.isdigit()
    rtype = int(number[:6]) if is_number else int(dnslib.QTYPE.reverse.get(plain, 0))
    if not 0 < rtype <= _TYPE_MAX or rtype in _NO_QUESTION:
        raise ValueError(f"not a type to ask for: {text!r}")
    return rtype


_TYPE_MAX = 0xFFFF
# OPT, TKEY, TSIG, IXFR and AXFR: RFC 6895 section 3.1.
_NO_QUESTION = {41, 249, 250, 251, 252}


@dataclass(frozen=True, slots=True)
class MulticastQuery:
    """A query of multicast DNS (RFC 6762 section 18).

    Attributes:
        ident: Its id, of use only for a legacy querier.
        questions: Name (in lower case), type and class of each; the top bit of the class asks for
            a unicast reply.
        known: Records that the querier has already.
    """

    ident: int
    questions: tuple[tuple[Name, int, int], ...]
    known: tuple[Record, ...]


def parse_multicast_query(packet: bytes) -> MulticastQuery:
    """Read a query of multicast DNS, which may hold many questions, with pointers in their names.

    Raises:
        MalformedError: It is none, or gets no reply: it has another opcode, or a response code.
    """
    try:
        message = dnslib.DNSRecord.parse(packet)
        header = message.header
        # RFC 6762 sections 18.3 and 18.11: those with another opcode or a code are ignored.
        if header.qr or header.opcode or header.rcode:
            raise MalformedError("not a query")
        return MulticastQuery(
            int(header.id),
            tuple((_name(q.qname), int(q.qtype), int(q.qclass)) for q in message.questions),
            _records(message.rr),
        )
    except (dnslib.DNSError, DNSLabelError, ValueError, RecursionError) as error:
        raise MalformedError(f"not a query of multicast DNS: {error}") from error


class _UncompressedBuffer(DNSBuffer):  # type: ignore[misc]  # its base is Any
    """A buffer that writes names without compression."""

    def encode_name(self, name: Any) -> None:
        self.encode_name_nocompress(name)


def _packable(record: Record) -> Any:
    return dnslib.RR(
        DNSLabel(record.owner), int(record.rtype), CLASS_IN, record.ttl_s, _contents(record.rdata)
    )


def _contents(rdata: Rdata) -> Any:
    match rdata:
        case Address(ip):
            return dnslib.A(tuple(ip.packed)) if ip.version == 4 else dnslib.AAAA(tuple(ip.packed))
        case Srv(port, target):
            return dnslib.SRV(0, 1, port, DNSLabel(target))
        case Txt(strings):
            return dnslib.TXT(list(strings))
        case Ns(target):
            return dnslib.NS(DNSLabel(target))
        case Cname(target):
            return dnslib.CNAME(DNSLabel(target))
        case Ptr(target):
            return dnslib.PTR(DNSLabel(target))
        case Hinfo(cpu, os):
            return dnslib.RD(bytes((len(cpu),)) + cpu + bytes((len(os),)) + os)
        case Soa():
            times = (
                rdata.serial,
                rdata.refresh_s,
                rdata.retry_s,
                rdata.expire_s,
                rdata.minimum_s,
            )
            return dnslib.SOA(DNSLabel(rdata.mname), DNSLabel(rdata.rname), times)


def _records(rrs: Iterable[Any]) -> tuple[Record, ...]:
    records = []
    for rr in rrs:
        rdata = _known(rr)
        if rdata is not None and rr.rclass == CLASS_IN:
            records.append(Record(_name(rr.rname), int(rr.rtype), int(rr.ttl), rdata))
    return tuple(records)


def _known(rr: Any) -> Rdata | None:
    """Return the contents of a record; None: its type is of no use to a client of this zone."""
    match rr.rtype:
        case RRType.A | RRType.AAAA:
            return Address(ipaddress.ip_address(bytes(rr.rdata.data)))
        case RRType.SRV:
            return Srv(int(rr.rdata.port), _name(rr.rdata.target))
        case RRType.TXT:
            return Txt(tuple(rr.rdata.data))
        case RRType.NS:
            return Ns(_name(rr.rdata.label))
        case RRType.CNAME:
            return Cname(_name(rr.rdata.label))
        case RRType.PTR:
            return Ptr(_name(rr.rdata.label))
        case _:
            return None


def _name(label: Any) -> Name:
    return tuple(bytes(part).lower() for part in label.label)
