"""How programs on this machine resolve names: what its configuration files say.

Pure parsers of `/etc/resolv.conf`, `/etc/nsswitch.conf`, `/etc/mdns.allow` and `/etc/hosts` as
glibc and nss-mdns read them, and the reading of those files. No query is sent, and what is wrong is
not decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hstore.dns.ip_literals import is_ip

NAMESERVERS_MAX = 3
"""MAXNS of glibc: it never asks a server after the third of resolv.conf."""

# These files have a few lines; a huge one must not fill our memory.
_FILE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class NameService:
    """What the files say.

    Attributes:
        nameservers: Those of resolv.conf that glibc asks, in its order; without one, 127.0.0.1.
        ignored: Lines of resolv.conf that name a server which glibc never asks.
        sources: Words of the `hosts:` line of nsswitch.conf, such as `files`, `[NOTFOUND=return]`.
        mdns_allow: Entries of mdns.allow; None when there is no such file.
        fixed: Addresses of a name in /etc/hosts, by the name in lower case.
    """

    nameservers: tuple[str, ...] = ("127.0.0.1",)
    ignored: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("files", "dns")
    mdns_allow: tuple[str, ...] | None = None
    fixed: tuple[tuple[str, str], ...] = ()

    @property
    def is_resolved_asked(self) -> bool:
        """Whether systemd-resolved resolves names here."""
        return "resolve" in self.sources or any(map(is_resolved, self.nameservers))


def is_resolved(nameserver: str) -> bool:
    """Whether this is one of the addresses at which systemd-resolved listens."""
    return nameserver in {"127.0.0.53", "127.0.0.54"}


def read(root: Path = Path("/")) -> NameService:
    """Read what the machine (or a folder like its root) has. A file that is not there is empty."""
    etc = root / "etc"
    nameservers, ignored = parse_resolv_conf(_text(etc / "resolv.conf") or "")
    allow = _text(etc / "mdns.allow")
    return NameService(
        nameservers,
        ignored,
        parse_nsswitch(_text(etc / "nsswitch.conf") or ""),
        None if allow is None else tuple(_meant(allow)),
        parse_hosts(_text(etc / "hosts") or ""),
    )


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the servers that are asked, and the lines about servers that are ignored."""
    servers: list[str] = []
    ignored: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or line[0] in "#;" or words[0] not in {"nameserver", "port"}:
            continue
        is_server = words[0] == "nameserver" and len(words) > 1 and is_ip(words[1])
        if is_server and len(servers) < NAMESERVERS_MAX:
            servers.append(words[1])
        else:
            ignored.append(" ".join(words))
    return tuple(servers) or ("127.0.0.1",), tuple(ignored)


def parse_nsswitch(text: str) -> tuple[str, ...]:
    """Return the words of the `hosts:` line; glibc's own default when there is none."""
    for line in _meant(text):
        database, colon, rest = line.partition(":")
        if colon and database.strip() == "hosts":
            return tuple(re.findall(r"\[[^\]]*\]|[^\s\[\]]+", rest))
    return ("files", "dns")


def parse_hosts(text: str) -> tuple[tuple[str, str], ...]:
    """Return (name, address) of each line."""
    return tuple(
        (name.lower().rstrip("."), words[0])
        for words in map(str.split, _meant(text))
        for name in words[1:]
    )


def multicast_keeper(service: NameService, name: str) -> str | None:
    """Return the nss-mdns module that keeps a name from DNS, or None.

    A `minimal` module resolves names of exactly two labels of which the last is `local`. So do the
    other modules, unless /etc/mdns.allow lists other domains. When a module is followed by
    `[NOTFOUND=return]`, a name that it does not find is not asked for by DNS. (Before nss-mdns 0.11
    they resolved all names in `local`.)
    """
    for module, following in zip(service.sources, (*service.sources[1:], ""), strict=True):
        if module in {"dns", "resolve"}:
            return None
        if not re.fullmatch(r"mdns[46]?(_minimal)?", module):
            continue
        allow = None if module.endswith("_minimal") else service.mdns_allow
        stops = "NOTFOUND=RETURN" in following.upper().replace(" ", "")
        if stops and _takes(name, allow):
            return module
    return None


def _takes(name: str, allow: tuple[str, ...] | None) -> bool:
    labels = name.lower().rstrip(".").split(".")
    if allow is None:
        return len(labels) == 2 and labels[-1] == "local"
    full = "." + ".".join(labels)
    return any(
        entry == "*" or full.endswith("." + entry.lower().strip(".")) for entry in allow if entry
    )


def _meant(text: str) -> list[str]:
    """Return the lines without comments, and without empty lines."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None
