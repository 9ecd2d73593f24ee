"""How values are written as text: addresses, names, durations, sizes of settings; UUIDs.

Parsers from the value of a flag, a variable or a TOML file to what the program works with. Each
raises a `ValueError` whose text says what is allowed; the caller adds the setting and its source. The
settings themselves are in `config/settings.py`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hstore.dns.ip_literals import host_and_port, is_ip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

API_PORT = 8500
"""The default API port of a node."""

_DNS_PORT = 53

# A query is given up after a few seconds, so further recursors would never be asked.
_RECURSORS_MAX = 8

# RFC 1123, section 2.1; in lower case, since DNS does not tell the cases apart.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Each is compared with the address of each connection that a check makes.
_NETWORKS_MAX = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# As Consul's `agent/config/builder.go` has it, and not longer than a DNS label.
_DATACENTER = re.compile(r"[a-z0-9_-]{1,63}")

# `<63 letters>.node.` stands before the zone, and a domain name has 253 characters at most
# (RFC 1035, section 2.3.4, less the length bytes of both ends).
_ZONE_LENGTH_MAX = 253 - 69

# Each has its own names in the DNS server's memory.
_DOMAINS_MAX = 4

_SERVICE_TTL_LENGTH_MAX = 1_000

# No host has such a name, whatever the numbers are (RFC 1123, section 2.1).
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){3,}\.?")

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class Address(NamedTuple):
    """Host and port; the text form is `HOST:PORT`, with an IPv6 literal in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `HOST:PORT`."""
        return host_and_port(self.host, self.port)


class UnknownHostError(ValueError):
    """A host name that resolves to nothing now. It may soon: the resolver may start after this node."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"a host name that is known here, which {host} is not ({why})")


def text(value: object) -> str:
    """Take a text that is not empty, without white space at its ends.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def split_address(value: str, default_port: int = API_PORT) -> Address:
    """Split `HOST:PORT`, `HOST`, `[V6]:PORT` or a bare IPv6 literal.

    Raises:
        ValueError: It is none of these.
    """
    allowed = "HOST:PORT or HOST, with a port from 1 to 65535 and an IPv6 host in brackets"
    host, port = value, str(default_port)
    if value.startswith("["):
        host, bracket, rest = value[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(host):
            raise ValueError(allowed)
        port = rest[1:] if rest else port
    elif value.count(":") == 1:
        host, _, port = value.partition(":")
    elif ":" in value and not _is_ipv6(value):
        raise ValueError(allowed)
    if not re.fullmatch(r"[A-Za-z0-9:._%-]+", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(allowed)
    if not 1 <= int(port) <= 65535 or (_NUMBERS.fullmatch(host) and not is_ip(host)):
        raise ValueError(allowed)
    return Address(host, int(port))


def addresses(written: Iterable[str]) -> list[Address]:
    """Return the addresses among texts that a program has written; what is none is left out."""
    found = []
    for one in written:
        with contextlib.suppress(ValueError):
            found.append(split_address(one))
    return found


def address(value: object) -> Address:
    """Take an address of this machine or of another; host names become IP literals.

    Raises:
        ValueError: It is not an address, or the name is not known.
    """
    host, port = split_address(text(value))
    return Address(_resolve(host), port)


def advertised(value: object) -> str:
    """Take `HOST` or `HOST:PORT` at which others reach the node; the host becomes an IP literal.

    Raises:
        ValueError: It is not an address, or it is a wildcard.
    """
    written = text(value)
    host, port = address(written)
    if is_wildcard(host):
        raise ValueError("an address that others can reach, which a wildcard is not")
    has_port = "]:" in written if written.startswith("[") else written.count(":") == 1
    if has_port:
        return str(Address(host, port))
    return f"[{host}]" if ":" in host else host


def is_address(value: str) -> bool:
    """Whether this can be dialled: `HOST:PORT` with an IP address, in its canonical spelling."""
    try:
        host, port = split_address(value)
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return value == str(Address(host, port))


def is_name(value: str) -> bool:
    """Tell whether a node may have this name: a DNS label in lower case."""
    return _LABEL.fullmatch(value) is not None


def label(value: object) -> str:
    """Take a node's name.

    Raises:
        ValueError: It is not a DNS label in lower case.
    """
    name = value if isinstance(value, str) else ""
    if not is_name(name):
        raise ValueError(
            "1 to 63 of a-z, 0-9 and '-', which neither begin nor end with '-' (a DNS label)"
        )
    return name


def zone(value: object) -> str:
    """Take a DNS domain; it becomes lower case, without a final dot.

    Raises:
        ValueError: It is not a domain, or too long for names to stand before it.
    """
    name = value.lower().removesuffix(".") if isinstance(value, str) else ""
    if len(name) > _ZONE_LENGTH_MAX or not all(map(is_name, name.split("."))):
        raise ValueError(
            f"a DNS domain such as hstore.local, of at most {_ZONE_LENGTH_MAX} characters"
        )
    return name


def domains(value: object) -> str:
    """Take DNS domains, a list of them or one text with commas; the empty text: none.

    Returns:
        One text with commas, in lower case, each domain once.

    Raises:
        ValueError: One of them is not a domain, or there are too many.
    """
    written = value.split(",") if isinstance(value, str) else value
    written = written if isinstance(written, list | tuple) else [written]
    if written in ([""], []):
        return ""
    allowed = f"at most {_DOMAINS_MAX} DNS domains such as consul, as a list or with commas"
    try:
        found = dict.fromkeys(zone(one.strip() if isinstance(one, str) else one) for one in written)
    except ValueError:
        raise ValueError(allowed) from None
    if len(found) > _DOMAINS_MAX:
        raise ValueError(allowed)
    return ",".join(found)


def service_ttl(value: object) -> str:
    """Take the TTLs of services in DNS: `NAME=DURATION`, several with commas; none: 0 s for all.

    A name that ends in `*` stands for all that begin so; a duration alone is that of `*`.

    Returns:
        The same text with a name for each, and without white space around its parts.

    Raises:
        ValueError: It is not such a text.
    """
    return ",".join(f"{name}={ttl_s}s" for name, ttl_s in service_ttls(value))


def service_ttls(value: object) -> tuple[tuple[str, int], ...]:
    """Return what `service_ttl` takes as pairs of a name, or beginning and `*`, and seconds.

    Raises:
        ValueError: As of `service_ttl`.
    """
    allowed = (
        "NAME=DURATION or BEGINNING*=DURATION with whole seconds, such as web=5s or *=0s, several "
        f"with commas, each name once, in at most {_SERVICE_TTL_LENGTH_MAX} characters"
    )
    if not isinstance(value, str) or len(value) > _SERVICE_TTL_LENGTH_MAX:
        raise ValueError(allowed)
    seconds = duration_s("0s", "24h")
    found: dict[str, int] = {}
    for one in value.split(",") if value.strip(" ") else ():
        name, equals, ttl = (part.strip(" ") for part in one.rpartition("="))
        name = name or ("" if equals else "*")
        # Not `isprintable`: all nodes must decide alike, and it depends on the version of Python.
        if not name or min(name) < " " or "*" in name[:-1] or name in found:
            raise ValueError(allowed)
        try:
            found[name] = seconds(ttl)
        except ValueError:
            raise ValueError(allowed) from None
    if sum(len(f",{name}={ttl_s}s") for name, ttl_s in found.items()) > _SERVICE_TTL_LENGTH_MAX:
        raise ValueError(allowed)
    return tuple(found.items())


def datacenter(value: object) -> str:
    """Take the name of a datacenter, as DNS names and clients of Consul have it; in lower case.

    Raises:
        ValueError: It is not such a name.
    """
    name = value.lower() if isinstance(value, str) else ""
    if not _DATACENTER.fullmatch(name):
        raise ValueError("1 to 63 of a-z, 0-9, '-' and '_'")
    return name


def integer(low: int, high: int) -> Callable[[object], int]:
    """Return a parser of whole numbers from `low` to `high`, both included."""

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def duration_ms(low: str, high: str) -> Callable[[object], int]:
    """Return a parser of durations (`500ms`, `1s`, `24h`) from `low` to `high`, in milliseconds."""

    def parse(value: object) -> int:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        ms = _milliseconds(found) if found else 0 if value == "0" else -1
        if not parse_duration_ms(low) <= ms <= parse_duration_ms(high):
            raise ValueError(f"a duration such as 500ms, 1s or 2m, from {low} to {high}")
        return ms

    return parse


def duration_s(low: str, high: str) -> Callable[[object], int]:
    """Return a parser of durations that are whole seconds, in seconds."""
    in_ms = duration_ms(low, high)

    def parse(value: object) -> int:
        ms = in_ms(value)
        if ms % 1000:
            raise ValueError(f"a duration of whole seconds, from {low} to {high}")
        return ms // 1000

    return parse


def parse_duration_ms(value: str) -> int:
    """Return the milliseconds of `500ms`, `1s`, `2m` or `24h`.

    Raises:
        ValueError: It is not written like that.
    """
    found = _DURATION.fullmatch(value)
    if not found:
        raise ValueError("a duration such as 500ms, 1s or 2m")
    return _milliseconds(found)


def duration_text(ms: int) -> str:
    """Return milliseconds as people write them, in the largest unit of which they are whole: `24h`."""
    unit = next((unit for unit, of in _MS.items() if ms >= of and ms % of == 0), "s")
    return f"{ms // _MS[unit]}{unit}"


def choice(*allowed: str) -> Callable[[object], str]:
    """Return a parser that takes one of `allowed`."""

    def parse(value: object) -> str:
        if value not in allowed or not isinstance(value, str):
            raise ValueError("one of " + ", ".join(allowed))
        return value

    return parse


def hosts(value: object) -> tuple[str, ...]:
    """Take host names: a list of them, or one text with commas.

    Raises:
        ValueError: One of them is not a host name.
    """
    names = value.split(",") if isinstance(value, str) else value
    names = names if isinstance(names, list | tuple) else [names]
    found = [name.strip().lower() for name in names if isinstance(name, str)]
    if len(found) != len(names) or not all(re.fullmatch(r"[a-z0-9._:\[\]-]+", n) for n in found):
        raise ValueError(
            "host names without port, such as kv.example.org, as a list or with commas"
        )
    return tuple(found)


def recursors(value: object) -> tuple[Address, ...]:
    """Take the DNS servers for names outside the zone: a list of them, or one text with commas.

    Raises:
        ValueError: One of them is not the address of a server.
    """
    allowed = (
        f"at most {_RECURSORS_MAX} IP addresses with or without a port, such as 192.0.2.53 or "
        "[2001:db8::53]:5353, as a list or with commas"
    )
    written = value.split(",") if isinstance(value, str) else value
    written = written if isinstance(written, list | tuple) else [written]
    found = []
    for one in written:
        try:
            host, port = split_address(one.strip() if isinstance(one, str) else "", _DNS_PORT)
            ip = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(allowed) from None
        if ip.is_unspecified or ip.is_multicast:
            raise ValueError(allowed)
        found.append(Address(str(ip), port))
    if len(found) > _RECURSORS_MAX:
        raise ValueError(allowed)
    return tuple(dict.fromkeys(found))


def networks(value: object) -> tuple[Network, ...]:
    """Take IP addresses and networks: a list of them, or one text with commas. An empty one is none.

    Raises:
        ValueError: One of them is neither.
    """
    allowed = (
        f"at most {_NETWORKS_MAX} IP addresses or networks, such as 10.0.0.0/8 or fd00:ec2::254, "
        "as a list or with commas"
    )
    written = value.split(",") if isinstance(value, str) else value
    written = written if isinstance(written, list | tuple) else [written]
    found: list[Network] = []
    for one in written:
        text = one.strip() if isinstance(one, str) else "none"
        if text:
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(allowed) from None
    if len(found) > _NETWORKS_MAX:
        raise ValueError(allowed)
    return tuple(dict.fromkeys(found))


def peers_to_ask(port: int) -> Callable[[object], tuple[Address, ...]]:
    """Return a parser of addresses, as a list or one text with commas; `port` is the default port.

    Host names are not looked up: they may be unknown now and known later.
    """

    def parse(value: object) -> tuple[Address, ...]:
        given = value.split(",") if isinstance(value, str) else value
        given = given if isinstance(given, list | tuple) else [given]
        allowed = "HOST or HOST:PORT, several with commas or as a list"
        found = []
        for one in given:
            try:
                found.append(split_address(text(one), port))
            except ValueError:
                raise ValueError(allowed) from None
        return tuple(found)

    return parse


def switch(value: object) -> bool:
    """Take `true` or `false`.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, bool):
        return value
    if value in {"true", "false"}:
        return value == "true"
    raise ValueError("true or false")


def path(value: object) -> Path:
    """Take the path of a file or directory; `~` is the user's home; made absolute.

    Raises:
        ValueError: It is not a path.
    """
    written = str(value) if isinstance(value, Path) else text(value)
    try:
        return Path(written).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError("a path whose home directory is known") from error


def uuid_text(uuid: bytes) -> str:
    """Return the usual text of a UUID of 16 bytes."""
    text = uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_wildcard(host: str) -> bool:
    """Tell whether an IP literal stands for all addresses of the machine."""
    return ipaddress.ip_address(host).is_unspecified


def _milliseconds(found: re.Match[str]) -> int:
    return int(found[1]) * _MS[found[2]]


def _is_ipv6(host: str) -> bool:
    return is_ip(host) and ipaddress.ip_address(host).version == 6


def _resolve(host: str) -> str:
    if is_ip(host):
        return str(ipaddress.ip_address(host))
    if host.lower() == "localhost":
        # A look-up may give ::1 first, and a node there would not answer at 127.0.0.1.
        return "127.0.0.1"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise ValueError(
            "HOST:PORT with an IP literal or a host name that is known here"
        ) from error
    except OSError as error:
        raise UnknownHostError(host, error.strerror or str(error)) from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return str(found[0][4][0])
