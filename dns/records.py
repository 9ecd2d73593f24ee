"""The vocabulary of DNS data here: names, types, codes and record contents as plain values.

Owns the numbers of the protocol and the typed contents of records. `message.py` reads queries from
bytes, `wire.py` packs records.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Name: TypeAlias = tuple[bytes, ...]
"""Labels from the leaf to the root, in lower case, without the empty root label. Labels are bytes, and
may contain any byte, such as a dot or NUL, so names are compared as tuples, never as text."""

CLASS_IN = 1


class RRType(enum.IntEnum):
    """The record and question types that this server knows (RFC 1035, 3596, 2782)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


class Rcode(enum.IntEnum):
    """Response codes (RFC 1035 section 4.1.1; BADVERS: RFC 6891 section 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


@dataclass(frozen=True, slots=True)
class Address:
    """Contents of an A or AAAA record, by the family of `ip`."""

    ip: IPv4Address | IPv6Address

    @property
    def rtype(self) -> RRType:
        """A for IPv4, AAAA for IPv6."""
        return RRType.A if self.ip.version == 4 else RRType.AAAA


@dataclass(frozen=True, slots=True)
class Srv:
    """Contents of an SRV record (RFC 2782). All members are alike: priority 0, weight 1.

    Weight 0 would mean the same among them (RFC 2782, "Weight"), but HAProxy takes it for a server
    that shall get no traffic.
    """

    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class Txt:
    """Contents of a TXT record: strings of at most 255 bytes each."""

    strings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ns:
    """Contents of an NS record."""

    target: Name


@dataclass(frozen=True, slots=True)
class Cname:
    """Contents of a CNAME record."""

    target: Name


@dataclass(frozen=True, slots=True)
class Ptr:
    """Contents of a PTR record."""

    target: Name


@dataclass(frozen=True, slots=True)
class Hinfo:
    """Contents of an HINFO record (RFC 1035 section 3.3.2)."""

    cpu: bytes
    os: bytes


@dataclass(frozen=True, slots=True)
class Soa:
    """Contents of an SOA record (RFC 1035 section 3.3.13); times in seconds."""

    mname: Name
    rname: Name
    serial: int
    refresh_s: int
    retry_s: int
    expire_s: int
    minimum_s: int


Rdata: TypeAlias = Address | Srv | Txt | Ns | Cname | Ptr | Hinfo | Soa


def type_of(rdata: Rdata) -> RRType:
    """Return the type of a record with these contents."""
    return rdata.rtype if isinstance(rdata, Address) else _TYPES[type(rdata)]


_TYPES: dict[type, RRType] = {
    Srv: RRType.SRV,
    Txt: RRType.TXT,
    Ns: RRType.NS,
    Cname: RRType.CNAME,
    Ptr: RRType.PTR,
    Soa: RRType.SOA,
    Hinfo: RRType.HINFO,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN."""

    owner: Name
    rtype: int
    ttl_s: int
    rdata: Rdata


def name_of(text: str) -> Name:
    """Return the labels of a name written with dots; a final dot makes no difference.

    Raises:
        ValueError: A label is empty, longer than 63 bytes or not ASCII, or the name is too long.
    """
    labels = tuple(label.encode("ascii").lower() for label in text.rstrip(".").split("."))
    if any(not 1 <= len(label) <= 63 for label in labels) or wire_length(labels) > 255:
        raise ValueError(f"not a domain name: {text!r}")
    return labels


def wire_length(name: Name) -> int:
    """Return the bytes of an uncompressed name in a message; RFC 1035 section 2.3.4 allows 255."""
    return sum(len(label) + 1 for label in name) + 1
