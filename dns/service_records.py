"""The records of services, and of nodes that are no members, as packed answers.

Owns what is said of each instance: addresses, SRV records with their hosts, and names in place of
addresses, which are followed as far as they are ours. Which instances a name shows is decided in
`services.py`, how records are packed in `blobs.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from .blobs import (
    QUESTION,
    Part,
    ServiceAnswer,
    address_record,
    apex_pointer,
    cname_record,
    host_below,
    joined,
    srv_record,
    txt_record,
)
from .compiled import Compiled, any_answer, negative, soa_record
from .ip_literals import packed_ip
from .lookup import Instance, Key, Lookup
from .message import name_bytes
from .records import Address, Name, Rcode, RRType
from .services import Asked, Kind, asked_by, host_name, shown_of
from .zone import Node, Zone, Zones

_ADDRESSES = (RRType.A, RRType.AAAA)
_HEX = frozenset(b"0123456789abcdef")
_HEX_DIGITS = (8, 32)
# Resolvers follow at least so many: BIND 16, Unbound 11.
_CHAIN_MAX = 8


class Alias(NamedTuple):
    """A chain of CNAMEs that begins at the question, and ends in a name that is not ours.

    Attributes:
        chain: The records, packed.
        length: How many there are.
        target: The name in the last one.
    """

    chain: bytes
    length: int
    target: Name


class Resolved(NamedTuple):
    """The answer to a question.

    Attributes:
        answer: The answer; None: what is known of services is too old to be told.
        is_kept: Whether the answer may be kept until one of its keys changes.
        alias: Set where the answer ends in a name that is not ours.
    """

    answer: Compiled | None
    is_kept: bool = True
    alias: Alias | None = None


class _Hosts(NamedTuple):
    """The hosts that a name of ours stands for.

    Attributes:
        hosts: Each an IP literal or a name.
        ttl_s: Of their records.
        rcode: What a query for the name would get: `NXDOMAIN`, where there is no such name; `SERVFAIL`,
            where what is known of it is too old; None, where it would be held.
    """

    hosts: list[str]
    ttl_s: int
    rcode: Rcode | None = Rcode.NOERROR


_ABSENT = _Hosts([], 0, Rcode.NXDOMAIN)


def asked_in(name: Name, zone: Zone, lookup: Lookup) -> Asked | None:
    """Return what a name in a zone asks for; None: it does not exist."""
    labels = name[: -len(zone.apex)]
    return asked_by(labels, lookup.names.datacenter) if labels else None


def is_stale(lookup: Lookup) -> bool:
    """Tell whether what is known of services is too old to be told."""
    return lookup.age_s > lookup.names.max_stale_s


class Question:
    """One question, while it is being answered.

    Args:
        name: The name in the question, below the zone's apex.
        rtype: Its type.
        zones: All zones, for names in place of addresses.
        zone: The zone that the name belongs to.
        lookup: Knows what is registered.
        rng: Draws the orders of records.
    """

    def __init__(
        self,
        name: Name,
        rtype: int,
        *,
        zones: Zones,
        zone: Zone,
        lookup: Lookup,
        rng: random.Random,
    ) -> None:
        self._name = name
        self._rtype = rtype
        self._zones = zones
        self._zone = zone
        self._lookup = lookup
        self._random = rng
        self._apex = apex_pointer(name[: -len(zone.apex)])
        self._keys: dict[Key, None] = {}

    def resolve(self, asked: Asked) -> Resolved | None:
        """Return the answer; None: the name does not exist.

        Args:
            asked: What the name asks for.
        """
        match asked.kind:
            case Kind.NOTHING:
                return Resolved(self._whole([]), is_kept=False)
            case Kind.ADDRESS:
                return self._by_digits(asked.name)
            case Kind.NODE:
                return self._by_node(asked.name)
            case Kind.SERVICE:
                return Resolved(None) if is_stale(self._lookup) else self._by_service(asked)

    # -- the kinds of names -----------------------------------------------------------------

    def _by_digits(self, digits: bytes) -> Resolved | None:
        """Answer for an address in hexadecimal digits; there are too many to keep answers."""
        ip = _ip_of_digits(digits)
        if ip is None:
            return None
        parts = [Part(address_record(QUESTION, self._zone.ttl_s, ip))]
        return Resolved(self._whole(parts if _is_of(ip, self._rtype) else []), is_kept=False)

    def _by_node(self, name: bytes) -> Resolved | None:
        """Answer for a node that is no member."""
        found = self._lookup.node(name)
        self._note(found.keys)
        if found.what is None:
            return None
        ttl_s = self._zone.ttl_s
        if self._rtype == RRType.TXT:
            texts = dict.fromkeys(txt_record(QUESTION, ttl_s, one) for one in found.what.texts)
            return Resolved(self._whole([Part(text) for text in texts]))
        return self._hosts([(found.what.address, b"")], ttl_s)

    def _by_service(self, asked: Asked) -> Resolved | None:
        """Answer for a service, or for those of its instances that have a tag."""
        names = self._lookup.names
        found = self._lookup.service(asked.name)
        self._note(found.keys)
        shown = shown_of(found.what, asked, names)
        if found.what is None or not shown.is_known:
            # The names that do not exist are countless: their answers are not kept.
            return Resolved(self._whole([]), is_kept=False) if shown.exists else None
        if not shown.instances:
            rcode = Rcode.NOERROR if shown.exists else Rcode.NXDOMAIN
            return Resolved(negative(self._zone, self._zone.apex, rcode, self._noted()))
        ttl_s = found.what.ttl_s if self._zone.in_contact else 0
        if self._rtype == RRType.SRV:
            return Resolved(self._whole(self._srvs(shown.instances, ttl_s)))
        return self._hosts([(_host_of(one), one.order) for one in shown.instances], ttl_s)

    # -- records ----------------------------------------------------------------------------

    def _hosts(self, hosts: Sequence[tuple[str, bytes]], ttl_s: int) -> Resolved:
        """Answer with the addresses of hosts; where all are names, with the first name.

        Args:
            hosts: Each an IP literal or a name, with what it is told apart by.
            ttl_s: Of the records.
        """
        if self._rtype not in _ADDRESSES:
            return Resolved(self._whole([]))
        parts: dict[bytes, Part] = {}
        names: list[Name | None] = []
        for host, order in hosts:
            ip = packed_ip(host)
            if ip is None:
                names.append(host_name(host))
            elif _is_of(ip, self._rtype):
                record = address_record(QUESTION, ttl_s, ip)
                parts.setdefault(record, Part(record, (), order))
        first = next(filter(None, names), None)
        if first is None or len(names) < len(hosts):
            return Resolved(self._whole(list(parts.values())))
        return self._followed(first, ttl_s)

    def _srvs(self, instances: Iterable[Instance], ttl_s: int) -> list[Part]:
        """Return an SRV record for each port of each host, in the order of the catalog."""
        parts: dict[tuple[bytes, int], Part] = {}
        for one in instances:
            target, glue = self._target(one)
            if target and (target, one.port) not in parts:
                record = srv_record(QUESTION, ttl_s, one.weight, one.port, target)
                parts[target, one.port] = Part(record, glue, one.order)
        return list(parts.values())

    def _target(self, one: Instance) -> tuple[bytes, tuple[bytes, ...]]:
        """Return the host of an instance, packed, and its addresses; no host: it has none."""
        address = _host_of(one)
        ip = packed_ip(address)
        if one.node and not one.address:
            owner = host_below(one.node, b"node", self._apex)
        elif ip is not None:
            owner = host_below(ip.hex().encode(), b"addr", self._apex)
        else:
            name = host_name(address)
            return (b"", ()) if name is None else (name_bytes(name), self._glue(name))
        return owner, () if ip is None else (address_record(owner, self._zone.ttl_s, ip),)

    def _whole(self, parts: Sequence[Part]) -> Compiled:
        """Return an answer with these records; with none, one that says so."""
        if self._rtype == RRType.ANY:
            return any_answer(self._name, self._zone, self._noted())
        if not parts:
            return negative(self._zone, self._zone.apex, Rcode.NOERROR, self._noted())
        return ServiceAnswer(parts, self._random, self._noted())

    def _note(self, keys: Iterable[Key]) -> None:
        self._keys.update(dict.fromkeys(keys))

    def _noted(self) -> tuple[Key, ...]:
        return tuple(self._keys)

    # -- names in place of addresses --------------------------------------------------------

    def _followed(self, target: Name, ttl_s: int) -> Resolved:
        """Answer with a CNAME, and with what the name in it has, as far as it is ours."""
        chain = [cname_record(QUESTION, ttl_s, target)]
        seen = {self._name}
        while target not in seen and len(seen) < _CHAIN_MAX:
            seen.add(target)
            found = self._zones.find(target)
            if found is None:
                alias = Alias(b"".join(chain), len(chain), target)
                return Resolved(self._chained(chain), alias=alias)
            stands_for = self._stands_for(target, found[0])
            if stands_for.rcode is Rcode.SERVFAIL:
                return Resolved(None)
            records, following = self._addresses(target, stands_for, self._rtype)
            if following is None:
                soa = b"" if records else soa_record(*found)
                return Resolved(self._chained(chain, records, stands_for.rcode, soa))
            chain += records
            target = following
        return Resolved(self._chained(chain))

    def _chained(
        self,
        chain: list[bytes],
        addresses: Sequence[bytes] = (),
        rcode: Rcode | None = None,
        soa: bytes = b"",
    ) -> Compiled:
        """Return an answer that begins with CNAMEs.

        Args:
            chain: The CNAMEs.
            addresses: Those of the last name, which come in several orders.
            rcode: Of the last name (RFC 6604 section 3); None: nothing is said of it.
            soa: Says that the last name has no such addresses (RFC 2308 section 2.2).
        """
        if rcode is None:
            soa = b""
        counts = (len(chain) + len(addresses), 1 if soa else 0, 0)
        before = b"".join(chain)
        bodies = [before + one + soa for one in joined(addresses, self._random)]
        answer = Compiled(rcode or Rcode.NOERROR, counts, bodies, self._noted())
        answer.size = sum(map(len, bodies))
        return answer

    def _glue(self, name: Name) -> tuple[bytes, ...]:
        """Return the addresses of a host, if its name is one of ours and leads to no other."""
        found = self._zones.find(name)
        if found is None:
            return ()
        stands_for = self._stands_for(name, found[0])
        both = (self._addresses(name, stands_for, rtype) for rtype in _ADDRESSES)
        return tuple(one for records, following in both if following is None for one in records)

    def _addresses(
        self, name: Name, stands_for: _Hosts, rtype: int
    ) -> tuple[list[bytes], Name | None]:
        """Return the records of a name of ours, and the next name if they end in a CNAME."""
        owner = name_bytes(name)
        hosts, ttl_s, _rcode = stands_for
        ips = [ip for ip in map(packed_ip, hosts) if ip is not None]
        if ips:
            chosen = dict.fromkeys(ip for ip in ips if _is_of(ip, rtype))
            return [address_record(owner, ttl_s, ip) for ip in chosen], None
        following = next(filter(None, map(host_name, hosts)), None)
        if following is None:
            return [], None
        return [cname_record(owner, ttl_s, following)], following

    def _stands_for(self, name: Name, zone: Zone) -> _Hosts:
        """Return the hosts that a name of ours stands for."""
        asked = asked_in(name, zone, self._lookup)
        node = zone.nodes.get(name) or member_asked(asked, zone)
        if node is not None:
            both = (one for rtype in _ADDRESSES for one in node.rrsets.get(rtype, ()))
            ips = [str(one.ip) for one in both if isinstance(one, Address)]
            return _Hosts(ips, zone.ttl_s, Rcode.NOERROR if node.available else None)
        if asked is None:
            return _ABSENT
        if asked.kind is Kind.SERVICE:
            return self._instances_of(asked)
        if asked.kind is Kind.NODE:
            found = self._lookup.node(asked.name)
            self._note(found.keys)
            return _ABSENT if found.what is None else _Hosts([found.what.address], zone.ttl_s)
        if asked.kind is Kind.NOTHING:
            return _Hosts([], 0)
        ip = _ip_of_digits(asked.name)
        return _ABSENT if ip is None else _Hosts([str(ip_address(ip))], zone.ttl_s)

    def _instances_of(self, asked: Asked) -> _Hosts:
        """Return the hosts of a service, or of those of its instances that have a tag."""
        if is_stale(self._lookup):
            return _Hosts([], 0, Rcode.SERVFAIL)
        service = self._lookup.service(asked.name)
        self._note(service.keys)
        shown = shown_of(service.what, asked, self._lookup.names)
        if not shown.exists:
            return _ABSENT
        ttl_s = service.what.ttl_s if service.what and self._zone.in_contact else 0
        return _Hosts([_host_of(one) for one in shown.instances], ttl_s)


def member_asked(asked: Asked | None, zone: Zone) -> Node | None:
    """Return the member's node in a zone that a name asks for, written with a datacenter."""
    if asked is None or asked.kind is not Kind.NODE:
        return None
    return zone.nodes.get((asked.name, b"node", *zone.apex))


def _host_of(one: Instance) -> str:
    return one.address or one.node_address


def _ip_of_digits(digits: bytes) -> bytes | None:
    if len(digits) not in _HEX_DIGITS or not _HEX.issuperset(digits):
        return None
    return bytes.fromhex(digits.decode())


def _is_of(ip: bytes, rtype: int) -> bool:
    return rtype == (RRType.A if len(ip) == 4 else RRType.AAAA)
