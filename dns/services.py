"""The names of services and of nodes that are no members: which exist, and what they stand for.

Owns the names of this part below the zone and the alternative domains, and which instances of a
service are shown. The cluster's own names are in `zone.py`, and are looked for first.

`asked_by` reads what the labels of a name mean, without knowing what is registered. The records are
made in `service_records.py`.

    [TAG.]NAME.service      _NAME._tcp[.service]     _NAME._TAG[.service]     the instances of a service
    NAME.node               a node that is no member; a member's name has records in `zone.py`
    HEX.addr                the address that is written in hexadecimal digits

Each of them may be followed by `.DATACENTER` or `.DATACENTER.dc`. The names between these and the
domain exist without data (RFC 8020), so that a resolver that asks for them first goes on.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from .lookup import CRITICAL, WARNING, Instance, Names, Service
from .records import Name, name_of


class Kind(enum.Enum):
    """What a name asks for."""

    NOTHING = enum.auto()
    """It only lies between other names and the domain."""
    SERVICE = enum.auto()
    NODE = enum.auto()
    ADDRESS = enum.auto()


class Asked(NamedTuple):
    """What a name asks for.

    Attributes:
        kind: What kind of thing.
        name: Of the service or node; the digits of an address.
        tag: Instances have to have it; empty: all instances.
    """

    kind: Kind
    name: bytes = b""
    tag: bytes = b""


_NOTHING = Asked(Kind.NOTHING)

_KINDS = frozenset((b"service", b"node", b"addr", b"query", b"lock"))

_LABEL_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def is_label(name: bytes) -> bool:
    """Tell whether DNS can carry a name of a service or node, which is in lower case.

    Others may be registered: their names have dots or spaces, say, and do not exist here.
    """
    return 0 < len(name) <= 63 and _LABEL_BYTES.issuperset(name)


def host_name(text: str) -> Name | None:
    """Return the labels of the name of a host; None: no host has such a name (RFC 1123, section 2.1).

    Addresses are registered as any text, such as `web:80`. Consul answers with each of them as a CNAME
    (agent/dns/dns_address.go, `FQDN`), which a resolver fails at, and with it at all other instances.
    Names of containers have `_`, which is let pass.
    """
    try:
        labels = name_of(text)
    except ValueError:
        return None
    is_written = not text.endswith("..") and all(map(is_label, labels))
    # No top-level domain is a number: this was meant as an address.
    if not is_written or labels[-1].isdigit() or any(one.strip(b"-") != one for one in labels):
        return None
    return labels


def may_ask(last: bytes, datacenter: bytes) -> bool:
    """Tell, by the label next to the domain, whether `asked_by` may find something."""
    return last in _KINDS or last[:1] == b"_" or last in (datacenter, b"dc")


def asked_by(labels: Name, datacenter: bytes) -> Asked | None:
    """Return what the labels below the domain ask for; None: such a name does not exist.

    Args:
        labels: In lower case, leaf first; at least one.
        datacenter: The only one whose names exist.
    """
    asked = _asked_by(labels)
    if asked is not None or not datacenter:
        return asked
    if labels == (b"dc",):
        return _NOTHING
    if labels[-2:] == (datacenter, b"dc"):
        return _asked_by(labels[:-2]) if labels[:-2] else _NOTHING
    if labels[-1] == datacenter:
        return _asked_by(labels[:-1]) if labels[:-1] else _NOTHING
    return None


def _asked_by(labels: Name) -> Asked | None:
    *before, kind = labels
    match kind:
        case b"service":
            return _service(tuple(before))
        case b"node" | b"addr" if len(before) == 1 and is_label(before[0]):
            return Asked(Kind.NODE if kind == b"node" else Kind.ADDRESS, before[0])
        case b"node" | b"addr" | b"query" | b"lock":
            return None if before else _NOTHING
    if kind.startswith(b"_") and len(kind) > 1:
        # A tag may be there in place of `_tcp`, so each such name may have others below it.
        return _srv(labels) if before else _NOTHING
    return None


def _service(before: Name) -> Asked | None:
    if not before:
        return _NOTHING
    if len(before) == 2 and before[0].startswith(b"_") and before[1].startswith(b"_"):
        return _srv(before)
    if not is_label(before[-1]):
        return None
    return Asked(Kind.SERVICE, before[-1], b".".join(before[:-1]))


def _srv(labels: Name) -> Asked | None:
    """Read `_NAME._tcp` and the like (RFC 2782)."""
    name, *others = labels
    if len(others) != 1 or not name.startswith(b"_") or not is_label(name[1:]):
        return None
    protocol = others[0]
    if len(protocol) < 2:
        return None
    tag = b"" if protocol in {b"_tcp", b"_udp"} else protocol[1:]
    return Asked(Kind.SERVICE, name[1:], tag)


class Shown(NamedTuple):
    """The instances that a name shows.

    Attributes:
        exists: Whether the name exists.
        instances: In the order of the catalog; empty: the name has no records now.
        is_known: Whether the service has an instance at all, so that the name is one of few.
    """

    exists: bool
    instances: list[Instance]
    is_known: bool = True


def shown_of(service: Service | None, asked: Asked, names: Names) -> Shown:
    """Return the instances that a name shows, by what it asks for and the settings."""
    if service is None:
        # `_tcp.service` and the like lie between the domain and `_web._tcp.service`.
        return Shown(asked.name.startswith(b"_") and not asked.tag, [], is_known=False)
    tag = asked.tag
    instances = [one for one in service.instances if not tag or tag in one.tags]
    if not instances:
        # The name of a tag with dots has the names of its parts above it.
        ending = b"." + tag
        is_between = any(tag.endswith(ending) for one in service.instances for tag in one.tags)
        return Shown(is_between, [], is_known=is_between)
    beyond = WARNING if names.only_passing else CRITICAL
    shown = [one for one in instances if one.status < beyond]
    return Shown(bool(shown) or not names.empty_is_nxdomain, shown)
