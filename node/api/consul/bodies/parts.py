"""What the bodies of registrations have in common: how their members are called, and several values.

Owns what an agent and the catalog are told alike of a service, and the texts of what is refused of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hstore.dns.ip_literals import is_ip

from ....model.services import (
    ADDRESS_BYTES_MAX,
    META_KEY_BYTES_MAX,
    META_MAX,
    META_VALUE_BYTES_MAX,
    PORT_MAX,
    TAGGED_MAX,
    WEIGHT_MAX,
    Service,
)
from ...dialect import bodies
from ...dialect.forms import refused
from ...http.answers import too_large

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....model.services import Pairs, Tagged
    from ...http.answers import HttpError
    from ...http.exchange import Exchange

BODY_BYTES_MAX = 256 * 1024
"""Of a registration."""

_T = TypeVar("_T", bound=msgspec.Struct)
_WORDS = {
    word.lower(): word
    for word in ("ID", "HTTP", "TCP", "TTL", "TLS", "GRPC", "UDP", "OS", "H2PING")
}
_META_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
# Consul's agent/structs/structs.go: `metaKeyReservedPrefix`.
_RESERVED = "consul-"
# Consul's ipaddr/detect.go: `IsAny`.
_ANY = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 (refused)

_OWN_IPV4, _OWN_IPV6 = ("lan_ipv4", "wan_ipv4"), ("lan_ipv6", "wan_ipv6")
"""How an address that is an IP is a tagged one by itself."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHOWN = 64
"""Characters of a wrong value in the answer."""


def go_name(attribute: str) -> str:
    """Return the name that Go's encoder gives to an attribute: `tls_skip_verify` is `TLSSkipVerify`."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in attribute.split("_"))


def aliases(*shapes: type[msgspec.Struct], **others: str) -> dict[str, str]:
    """Return the second spellings of members, in lower case: with `_` between the words, and `others`."""
    found = {
        attribute: name
        for shape in shapes
        for attribute, name in zip(
            shape.__struct_fields__, shape.__struct_encode_fields__, strict=True
        )
        if attribute != name.lower()
    }
    return {**found, **others}


def decode(exchange: Exchange, shape: type[_T], body: bytes, aliases: Mapping[str, str]) -> _T:
    """Decode the body of a registration (`api/dialect/bodies.py`).

    Raises:
        HttpError: 400, 413, 500.
    """
    if len(body) > BODY_BYTES_MAX:
        raise too_large("the body is too large", len(body), BODY_BYTES_MAX)
    return bodies.decode(exchange, shape, body, aliases)


class AddressPort(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """A tagged address of a service."""

    address: str = ""
    port: int = 0


class WeightsBody(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """The weights of a service in DNS."""

    passing: int = 1
    warning: int = 1


class ServiceFields(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """What an agent and the catalog are told alike of a service."""

    id: str = ""
    tags: tuple[str, ...] = ()
    port: int = 0
    address: str = ""
    tagged_addresses: dict[str, AddressPort] = {}
    meta: dict[str, str] = {}
    weights: WeightsBody | None = None
    enable_tag_override: bool = False
    # Of the mesh, and of things that there is one of.
    kind: str = ""
    namespace: str = ""
    partition: str = ""


def service_of(
    found: ServiceFields, service_id: str, name: str, weights: WeightsBody | None
) -> Service:
    """Return the service that these fields make, without a node.

    Args:
        found: The fields.
        service_id: Its ID.
        name: Its name.
        weights: As they count: the catalog takes two zeros for none.

    Raises:
        HttpError: 400, for what the caller has not looked at: weights, meta, tagged addresses, kind.
    """
    passing, warning = weights_of(weights)
    meta = meta_of(found.meta, "Service")
    tagged = tagged_of(found.tagged_addresses, found.address, found.port)
    if found.kind:
        raise no_mesh()
    return Service(
        0,
        service_id,
        name,
        found.tags,
        found.address,
        found.port,
        tagged,
        meta,
        passing,
        warning,
        found.enable_tag_override,
    )


def no_mesh() -> HttpError:
    """Return the refusal of what belongs to a mesh."""
    return refused(400, "mesh is not supported")


def weights_of(given: WeightsBody | None) -> tuple[int, int]:
    """Return the weights for passing and for warning.

    Raises:
        HttpError: 400.
    """
    if given is None:
        return 1, 1
    # Consul's agent/structs/structs.go, `ValidateWeights`.
    if given.passing < 1:
        raise refused(400, "Invalid Weights: Passing must be greater than 0")
    if given.warning < 0:
        raise refused(400, "Invalid Weights: Warning must be greater or equal than 0")
    for name, weight in (("Passing", given.passing), ("Warning", given.warning)):
        if weight > WEIGHT_MAX:
            raise refused(400, f"Invalid Weights: {name} must be at most {WEIGHT_MAX}")
    return given.passing, given.warning


def check_port(port: int) -> None:
    """Refuse the port of a service that does not exist.

    Raises:
        HttpError: 400.
    """
    if not 0 <= port <= PORT_MAX:
        raise refused(400, f"Invalid service port: {cut(str(port))} is not from 0 to {PORT_MAX}")


def check_address(address: str) -> None:
    """Refuse the address of a service that nobody can reach.

    Raises:
        HttpError: 400.
    """
    if address in _ANY:
        raise refused(400, "Invalid service address")
    if is_longer(address, ADDRESS_BYTES_MAX):
        raise refused(400, f"Invalid service address: it has more than {ADDRESS_BYTES_MAX} bytes")


def tagged_of(given: dict[str, AddressPort], address: str, port: int) -> Tagged:
    """Return the tagged addresses of a service, with those that its own address is by itself.

    Raises:
        HttpError: 400.
    """
    own: tuple[str, ...] = ()
    if address and is_ip(address):
        own = _OWN_IPV6 if ":" in address else _OWN_IPV4
    if not given:  # As most: what there is of its own has been looked at.
        return tuple((key, address, port) for key in own)
    found = {key: (one.address, one.port) for key, one in given.items()}
    for key in own:
        found.setdefault(key, (address, port))
    for key, (host, number) in found.items():
        if not 0 <= number <= PORT_MAX:
            raise _invalid_tagged(f"the port {cut(str(number))} is not from 0 to {PORT_MAX}")
        _check_tagged(key, host)
    _count_tagged(len(found))
    return tuple((key, host, number) for key, (host, number) in sorted(found.items()))


def tagged_hosts_of(given: dict[str, str]) -> Pairs:
    """Return the tagged addresses of a node.

    Raises:
        HttpError: 400.
    """
    for key, host in given.items():
        _check_tagged(key, host)
    _count_tagged(len(given))
    return tuple(sorted(given.items()))


def _check_tagged(key: str, host: str) -> None:
    if is_longer(key, META_KEY_BYTES_MAX):
        raise _invalid_tagged(f"a key has more than {META_KEY_BYTES_MAX} bytes")
    if is_longer(host, ADDRESS_BYTES_MAX):
        raise _invalid_tagged(f"an address has more than {ADDRESS_BYTES_MAX} bytes")


def _count_tagged(count: int) -> None:
    if count > TAGGED_MAX:
        raise _invalid_tagged(f"there are {count}, and may be {TAGGED_MAX}")


def _invalid_tagged(text: str) -> HttpError:
    return refused(400, f"Invalid TaggedAddresses: {text}")


def meta_of(given: dict[str, str], what: str, *, allows_reserved: bool = False) -> Pairs:
    """Return pairs of meta, sorted.

    Args:
        given: As the body has them.
        what: Whose they are, `Service` or `Node`, for the texts.
        allows_reserved: Keys may begin with `consul-`.

    Raises:
        HttpError: 400.
    """
    if not given:
        return ()
    if len(given) > META_MAX:
        raise refused(
            400, f"Invalid {what} Meta: it has {len(given)} pairs, and may have {META_MAX}"
        )
    for key, value in given.items():
        fault = _pair_fault(key, value, allows_reserved=allows_reserved)
        if fault:
            raise refused(400, f"Invalid {what} Meta: {fault} ('{cut(key)}', '{cut(value)}')")
    return tuple(sorted(given.items()))


def _pair_fault(key: str, value: str, *, allows_reserved: bool) -> str:
    # The texts are those of Consul's agent/structs/structs.go, `validateMetaPair`.
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > META_KEY_BYTES_MAX:
        return f"Key is too long (limit: {META_KEY_BYTES_MAX} characters)"
    if key.startswith(_RESERVED) and not allows_reserved:
        return f"Key prefix '{_RESERVED}' is reserved for internal use"
    if is_longer(value, META_VALUE_BYTES_MAX):
        return f"Value is too long (limit: {META_VALUE_BYTES_MAX} bytes)"
    return ""


def is_longer(text: str, bytes_max: int) -> bool:
    """Whether a text has more bytes in UTF-8 than that. A character has four at most."""
    return 4 * len(text) > bytes_max and len(text.encode()) > bytes_max


def cut(text: str) -> str:
    """Return as much of a wrong value as an answer shows, on one line."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", shown)
