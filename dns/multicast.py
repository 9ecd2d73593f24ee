"""Multicast DNS: the records with which a node makes itself known on its network (RFC 6762, 6763).

Owns the records and the form of packets. `responder.py` answers with them, `browser.py` asks for
them, and `multicast_sockets.py` opens the sockets of both.

A node is an instance of the service `_hstore._tcp.local`, named by its id, with its cluster, zone
and addresses in a TXT record: its own *current* addresses, whatever the cluster still believes. It
answers for itself only. Its unique names contain its id, 64 random bits that are never used again, so
no other host can have them, and it does not probe for conflicts (RFC 6762 section 8.1). Names below
`.local` belong to multicast DNS. So for a zone there, the node also answers for its name in the zone,
for `nodes`, and for `leader` while it leads. Two clusters may have the same zone, so these are shared
records, which need no probing and do not replace the records of others.

Left out: NSEC records and the suppression of duplicate answers (RFC 6762 sections 6.1 and 7.4). A
query whose known answers continue in further packets is answered without those.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from .ip_literals import host_and_port
from .message import name_bytes
from .records import CLASS_IN, Address, Name, Ptr, Rdata, Record, Srv, Txt, name_of, type_of
from .wire import pack_anywhere

PORT = 5353
GROUP4 = "224.0.0.251"
GROUP6 = "ff02::fb"

SERVICE = name_of("_hstore._tcp.local")
_SERVICE_TYPES = name_of("_services._dns-sd._udp.local")

# RFC 6762 section 10: for records with a host name. All records of a node change together.
TTL_S = 120
# RFC 6762 section 17.
PACKET_MAX = 9000
TOP_BIT = 0x8000
"""Of a class: a question asks for a unicast reply, a record has caches drop older records."""
_HEADER = struct.Struct("!6H")
_RESPONSE = 0x8400
_QUESTION = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class Announced:
    """The facts that a node publishes about itself.

    Attributes:
        cluster_id: 16 hex digits; likewise `node_id`.
        zone: The domain of the cluster.
        name: Its name; empty while it has none.
        ip: Its current address.
        api_port: Its HTTP port.
        peer_port: Its port for other nodes.
        protocol: The version of the protocol between nodes.
        leads: Whether it leads, with a majority in contact.
        ttl_s: TTL of names in the zone.
    """

    cluster_id: str
    node_id: str
    zone: str
    name: str
    ip: IPv4Address | IPv6Address
    api_port: int
    peer_port: int
    protocol: int
    leads: bool = False
    ttl_s: int = 1


@dataclass(frozen=True, slots=True)
class Offer:
    """One record, and whether its owner's name is this node's alone."""

    record: Record
    is_unique: bool = False


def offers(announced: Announced) -> list[Offer]:
    """Return all records that a node publishes."""
    instance = (announced.node_id.encode("ascii"), *SERVICE)
    host = name_of(f"hstore-{announced.node_id}.local")
    address = Address(announced.ip)

    def shared(owner: Name, rdata: Rdata, ttl_s: int = TTL_S) -> Offer:
        return Offer(Record(owner, type_of(rdata), ttl_s, rdata))

    def unique(owner: Name, rdata: Rdata) -> Offer:
        return Offer(Record(owner, type_of(rdata), TTL_S, rdata), is_unique=True)

    found = [
        shared(_SERVICE_TYPES, Ptr(SERVICE)),
        shared(SERVICE, Ptr(instance)),
        unique(instance, Srv(announced.api_port, host)),
        unique(instance, _facts(announced)),
        unique(host, address),
    ]
    zone = name_of(announced.zone)
    if zone[-1] == b"local" and len(zone) > 1:
        names = [b"nodes", *([b"leader"] if announced.leads else [])]
        found += [shared((name, *zone), address, announced.ttl_s) for name in names]
        if announced.name:
            own = (announced.name.encode("ascii"), b"node", *zone)
            found.append(shared(own, address, announced.ttl_s))
    return found


def pack_query(name: Name, rtype: int, ident: int) -> bytes:
    """Return a one-shot query (RFC 6762 section 5.1)."""
    return _HEADER.pack(ident, 0, 1, 0, 0, 0) + name_bytes(name) + _QUESTION.pack(rtype, CLASS_IN)


def pack_response(
    answers: Sequence[Offer],
    additional: Sequence[Offer] = (),
    *,
    ident: int = 0,
    legacy: Sequence[tuple[Name, int]] | None = None,
    ttl_s_max: int = TTL_S,
) -> bytes:
    """Pack a response.

    Args:
        answers: Records of the answer section.
        additional: Records of the additional section.
        ident: The id.
        legacy: For a legacy querier (RFC 6762 section 6.7), the questions to repeat; else None.
        ttl_s_max: The most that a TTL may be.
    """
    questions = legacy or ()
    head = _HEADER.pack(ident, _RESPONSE, len(questions), len(answers), 0, len(additional))
    asked = [name_bytes(name) + _QUESTION.pack(rtype, CLASS_IN) for name, rtype in questions]
    records = []
    for one in (*answers, *additional):
        record = one.record
        ttl_s = min(record.ttl_s, ttl_s_max)
        # Without compression: a legacy querier does not expect it in an SRV (section 18.14).
        packed = bytearray(pack_anywhere(Record(record.owner, record.rtype, ttl_s, record.rdata)))
        if one.is_unique and legacy is None:
            # Section 10.2: the top bit of the class has caches drop older records.
            packed[len(name_bytes(record.owner)) + 2] |= TOP_BIT >> 8
        records.append(bytes(packed))
    return b"".join([head, *asked, *records])


def _facts(announced: Announced) -> Txt:
    """RFC 6763 section 6.4: keys of at most 9 characters; section 6.7: the version first."""
    host = str(announced.ip)
    facts = (
        "txtvers=1",
        f"cluster={announced.cluster_id}",
        f"id={announced.node_id}",
        f"zone={announced.zone}",
        f"name={announced.name}",
        f"api={host_and_port(host, announced.api_port)}",
        f"peer={host_and_port(host, announced.peer_port)}",
        f"protocol={announced.protocol}",
    )
    return Txt(tuple(fact.encode("ascii") for fact in facts))
