"""Views and queries for the tests of the DNS rooms, made without the code under test where it counts.

Replies are read with dnslib directly, so that a mistake in our own reader cannot hide one in our
own writer.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import dnslib

from hstore.dns.answers import Answers
from hstore.dns.message import Query
from hstore.dns.view import ClusterView, Member

ZONE = "hstore.local"

TYPES = {
    "A": 1, "NS": 2, "SOA": 6, "PTR": 12, "HINFO": 13, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33,
    "DS": 43, "HTTPS": 65, "IXFR": 251, "AXFR": 252, "ANY": 255, "TYPE65280": 65280,
}  # fmt: skip


def member(number: int, host: str | None = None, **changes: object) -> Member:
    """Member `n<number>`, live and a voter, at 10.0.0.<number> unless said otherwise."""
    facts: dict[str, object] = {
        "name": f"n{number}",
        "node_id": f"{number:016x}",
        "host": host or f"10.0.{number // 256}.{number % 256}",
        "api_port": 8499 + number,
        "peer_port": 8299 + number,
        "live": True,
        "voter": True,
    }
    return Member(**(facts | changes))  # type: ignore[arg-type]  # facts of mixed types


def view(members: Iterable[Member] | int = 3, **changes: object) -> ClusterView:
    """A cluster of these members, or of so many; n1 leads and answers."""
    if isinstance(members, int):
        members = [member(number) for number in range(1, members + 1)]
    facts: dict[str, object] = {
        "zone": ZONE,
        "ttl_s": 1,
        "serial": 42,
        "term": 7,
        "leader": "n1",
        "self_name": "n1",
        "members": tuple(members),
    }
    return ClusterView(**(facts | changes))  # type: ignore[arg-type]  # facts of mixed types


def answers_from(seen: ClusterView | None = None) -> Answers:
    answers = Answers(random.Random(1))
    answers.view = seen
    return answers


def wire_name(name: str) -> bytes:
    labels = [part.encode() for part in name.rstrip(".").split(".") if part]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def opt(size: int = 1232, version: int = 0, flags: int = 0, options: bytes = b"") -> bytes:
    return struct.pack("!BHHBBHH", 0, 41, size, 0, version, flags, len(options)) + options


def query(
    name: str = "leader.hstore.local",
    rtype: str | int = "A",
    *,
    ident: int = 0x1234,
    flags: int = 0x0100,
    counts: tuple[int, int, int, int] | None = None,
    rclass: int = 1,
    additional: bytes = b"",
) -> bytes:
    """The bytes of a query; `additional` is one record, counted unless `counts` says otherwise."""
    number = TYPES[rtype] if isinstance(rtype, str) else rtype
    header = struct.pack("!HH4H", ident, flags, *(counts or (1, 0, 0, 1 if additional else 0)))
    return header + wire_name(name) + struct.pack("!HH", number, rclass) + additional


def reply_of(
    answers: Answers, packet: bytes, *, over_tcp: bool = False, is_near: bool = False
) -> bytes:
    """The reply to a packet that has to get one; if it is held, that after holding it in vain."""
    reply = answers.reply(packet, over_tcp=over_tcp, is_near=is_near)
    if isinstance(reply, Query):
        reply = answers.unavailable(reply)
    assert reply is not None
    return reply


def is_held(answers: Answers, packet: bytes, *, over_tcp: bool = False) -> bool:
    """Whether a server would hold the packet."""
    return isinstance(answers.reply(packet, over_tcp=over_tcp), Query)


def asked(answers: Answers, name: str, rtype: str | int = "A", **how: object) -> dnslib.DNSRecord:
    """Ask for a name under the zone (`@` is the zone itself), with EDNS; give the parsed reply."""
    whole = ZONE if name == "@" else f"{name}.{ZONE}"
    packet = query(whole, rtype, **({"additional": opt()} | how))  # type: ignore[arg-type]
    return dnslib.DNSRecord.parse(reply_of(answers, packet, over_tcp=True))


def texts(records: Iterable[dnslib.RR]) -> set[str]:
    """Records as `OWNER TYPE CONTENTS`, OPT left out."""
    return {
        f"{str(rr.rname)[:-1]} {dnslib.QTYPE[rr.rtype]} {rr.rdata}"
        for rr in records
        if rr.rtype != dnslib.QTYPE.OPT
    }


def contents(records: Iterable[dnslib.RR]) -> list[str]:
    """Contents only, in order."""
    return [str(rr.rdata) for rr in records if rr.rtype != dnslib.QTYPE.OPT]
