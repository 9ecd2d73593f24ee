"""The settings of a node: their names, defaults and limits.

There are two disjoint sets. *Node settings* (addresses, directory, cache, log) belong to one process,
which reads them at each start. *Cluster settings* (`[cluster]`, see `ClusterSettings`) belong to all
nodes. They are read here too, but take effect only when a cluster is created: afterwards they live in
the log. `given` has the settings that the user set, so that the node can warn about one that differs
from the cluster's.

Where a value comes from is decided in `sources.py`. This module opens no sockets and asks no cluster.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hstore.dns.ip_literals import is_loopback

from ..errors import ConfigError
from ..model import values
from ..model.commands import ClusterSettings
from ..model.values import API_PORT, Address, Network
from . import cluster_settings
from .sources import Sources

if TYPE_CHECKING:
    from collections.abc import Mapping

ZONE = "cluster.zone"
"""The key of the zone."""

PEER_OFFSET = -200
DNS_OFFSET = 100

EXPECT_MAX = 99
"""The most voters that `--expect` takes: as many nodes as `join` finds ports for on one machine.
Beyond single digits, more voters only make a cluster slower."""

DNS_PORT = 53
"""The port of a DNS server that is given without one."""

CHECKS_DENY = values.networks("169.254.169.254,fd00:ec2::254")
"""Where machines of clouds are told their secrets: a check, which others may register, must not ask
there."""


class Discovery(msgspec.Struct, frozen=True):
    """Where to search for a cluster, beside the places that need no setting (contract, section 6).

    Attributes:
        hosts: API addresses of nodes; their DNS and peer ports follow from the API's.
        dns: DNS servers.
        mdns: Whether multicast DNS is used. A search asks; a node that listens beyond loopback
            answers.
        listed: Those of `hosts` that `discovery.hosts` has, in its order.
    """

    hosts: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    mdns: bool = True
    listed: tuple[Address, ...] = ()


class NodeSettings(msgspec.Struct, frozen=True):
    """What one node runs with.

    Attributes:
        data_dir: Its directory, absolute. It need not exist.
        listen: IP literal and port of its HTTP API.
        peer_port: Port for other nodes, on the same host.
        dns_port: Port of its DNS server, UDP and TCP, on the same host.
        advertise: `HOST` or `HOST:PORT` under which others reach it, if not `listen`'s.
        name: Its name; empty: the leader gives it one.
        cache_mb: RocksDB's block cache, in MiB.
        log_level: `debug`, `info`, `warning` or `error`.
        log_format: `json`, `text` or `journal`; empty: text, for a person where it goes to a terminal.
        http_hosts: `Host` headers that its API accepts beside its own names.
        recursors: DNS servers that its DNS server asks for names outside the zone; none: REFUSED.
        learner: It joins as a permanent learner.
        replace: Name, API address or id of the member whose place it takes as it joins; empty: none.
        new_cluster: It creates a cluster even where another one counts its address among its
            members', or is live on this machine.
        expect: If this node creates a cluster, the voters that the cluster waits for; 0: none.
        checks_script: Whether it runs checks that are programs of this machine.
        checks_deny: Addresses that none of its checks may connect to.
        discovery: Where it searches for its cluster.
        cluster: Settings for a cluster that this node creates.
        given: The keys, as in the file (`cluster.zone`), that the user set.
    """

    data_dir: Path
    listen: Address
    peer_port: int
    dns_port: int
    advertise: str | None = None
    name: str = ""
    cache_mb: int = 64
    log_level: str = "info"
    log_format: str = ""
    http_hosts: tuple[str, ...] = ()
    recursors: tuple[Address, ...] = ()
    learner: bool = False
    replace: str = ""
    new_cluster: bool = False
    expect: int = 0
    checks_script: bool = False
    checks_deny: tuple[Network, ...] = CHECKS_DENY
    discovery: Discovery = Discovery()
    cluster: ClusterSettings = ClusterSettings()
    given: frozenset[str] = frozenset()

    @property
    def advertised_host(self) -> str:
        """The IP literal, without brackets, at which others reach this node."""
        return values.split_address(self.advertise).host if self.advertise else self.listen.host

    @property
    def api_address(self) -> str:
        """`HOST:PORT` of the API, as others reach it."""
        if self.advertise and re.search(r"(^[^:]+|\]):\d+$", self.advertise):
            return self.advertise
        return str(Address(self.advertised_host, self.listen.port))

    @property
    def peer_address(self) -> str:
        """`HOST:PORT` for other nodes, as they reach it."""
        return str(Address(self.advertised_host, self.peer_port))

    @property
    def dns_address(self) -> str:
        """`HOST:PORT` of the DNS server, as others reach it."""
        return str(Address(self.advertised_host, self.dns_port))


def load_settings(flags: Mapping[str, object], env: Mapping[str, str]) -> NodeSettings:
    """Gather the settings of a node.

    Args:
        flags: Values from the command line by key, as in the file; None counts as not given.
            `config` is the path of the file; `learner`, `replace` and `new_cluster` exist as flags
            only.
        env: The process's environment.

    Raises:
        ConfigError: A key is unknown, a value is bad, or values do not fit together.
    """
    sources = Sources(flags, env)
    settings = _taken(sources, flags)
    sources.refuse_unknown()
    if "data_dir" not in settings.given:
        settings = _with(settings, data_dir=default_data_dir(env, settings.listen.port))
    _check(settings)
    return settings


def unknown_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return the `HSTORE_*` that hstore does not know, each with the name that was perhaps meant."""
    sources = Sources({}, {})
    _taken(sources, {})
    return sources.unknown_variables(env)


def _taken(sources: Sources, flags: Mapping[str, object]) -> NodeSettings:
    listen = sources.take("listen", values.address, Address("127.0.0.1", API_PORT))
    port = values.integer(1, 65535)
    return NodeSettings(
        data_dir=sources.take("data_dir", values.path, Path()),
        listen=listen,
        peer_port=sources.take("peer_port", port, listen.port + PEER_OFFSET),
        dns_port=sources.take("dns_port", port, listen.port + DNS_OFFSET),
        advertise=sources.take("advertise", values.advertised, None),
        name=sources.take("name", values.label, ""),
        cache_mb=sources.take("cache_mb", values.integer(1, 1_048_576), 64),
        log_level=sources.take(
            "log_level", values.choice("debug", "info", "warning", "error"), "info"
        ),
        log_format=sources.take("log_format", values.choice("json", "text", "journal"), ""),
        http_hosts=sources.take("http.hosts", values.hosts, ()),
        recursors=sources.take("recursors", values.recursors, ()),
        learner=flags.get("learner") is True,
        replace=_replaced(flags.get("replace")),
        new_cluster=flags.get("new_cluster") is True,
        expect=sources.take("expect", values.integer(1, EXPECT_MAX), 0),
        checks_script=sources.take("checks.script", values.switch, False),
        checks_deny=sources.take("checks.deny", values.networks, CHECKS_DENY),
        discovery=_discovery(sources),
        cluster=_cluster_settings(sources),
        given=frozenset(sources.given),
    )


class SearchSettings(msgspec.Struct, frozen=True):
    """The settings of a command that searches for a cluster and is no node.

    Attributes:
        zone: The DNS domain of the cluster.
        is_zone_given: Whether the user set it, so that a cluster of another zone is not meant.
        discovery: Where to search, beside the places that need no setting.
        data_dir: Directory of the node that `start` would run; None: there is no home directory.
    """

    zone: str
    is_zone_given: bool
    discovery: Discovery
    data_dir: Path | None


def load_search(flags: Mapping[str, object], env: Mapping[str, str]) -> SearchSettings:
    """Gather the settings of a search; those of a node are ignored.

    Raises:
        ConfigError: A value is bad.
    """
    sources = Sources(flags, env)
    data_dir = sources.take("data_dir", values.path, None)
    with contextlib.suppress(ConfigError):
        data_dir = data_dir or default_data_dir(env, API_PORT)
    zone = sources.take(ZONE, values.zone, ClusterSettings().zone)
    return SearchSettings(
        zone=zone,
        is_zone_given=ZONE in sources.given,
        discovery=_discovery(sources),
        data_dir=data_dir,
    )


def at_port(settings: NodeSettings, port: int, env: Mapping[str, str]) -> NodeSettings:
    """Return the settings for another API port; ports and directory follow unless the user set them."""
    return _listening_at(settings, Address(settings.listen.host, port), env)


def at_address(settings: NodeSettings, listen: Address, env: Mapping[str, str]) -> NodeSettings:
    """Return the settings for this address, as if the user had given it."""
    placed = _listening_at(settings, listen, env)
    return _with(placed, given=settings.given | {"listen"})


def is_listed(settings: NodeSettings) -> bool:
    """Whether the settings name all nodes of a new cluster: `expect` of them, in `discovery.hosts`."""
    return settings.expect > 1 and bool(settings.discovery.listed)


def _listening_at(settings: NodeSettings, listen: Address, env: Mapping[str, str]) -> NodeSettings:
    given, port = settings.given, listen.port
    return _with(
        settings,
        listen=listen,
        peer_port=settings.peer_port if "peer_port" in given else port + PEER_OFFSET,
        dns_port=settings.dns_port if "dns_port" in given else port + DNS_OFFSET,
        data_dir=settings.data_dir if "data_dir" in given else default_data_dir(env, port),
    )


def refuse_own_dns_among_recursors(settings: NodeSettings) -> None:
    """Refuse the node's own DNS server as a recursor: it would forward to itself.

    Raises:
        ConfigError: One of them is.
    """
    own = {settings.listen.host, settings.advertised_host}
    for host, port in settings.recursors:
        is_own = host in own or (values.is_wildcard(settings.listen.host) and is_loopback(host))
        if port == settings.dns_port and is_own:
            raise ConfigError(
                f"recursors: '{Address(host, port)}' is this node's own DNS server; "
                "allowed: servers that resolve names outside the zone"
            )


def default_data_dir(env: Mapping[str, str], port: int) -> Path:
    """Return `hstore/<API port>` under the user's data folder (XDG base directories).

    Raises:
        ConfigError: The user has no home directory.
    """
    folder = Path(env.get("XDG_DATA_HOME") or "")
    if not folder.is_absolute():
        # XDG Base Directory Specification: a relative path in the variable is to be ignored.
        home = env.get("HOME")
        if not home:
            raise ConfigError(
                "HOME is not set, so there is no default data directory; "
                "name one with --data-dir DIR"
            )
        folder = Path(home) / ".local" / "share"
    return folder / "hstore" / str(port)


def _with(settings: NodeSettings, **changes: object) -> NodeSettings:
    return msgspec.structs.replace(settings, **changes)


def _replaced(said: object) -> str:
    """Return what a cluster calls the member that a newcomer is to replace: its name or address."""
    if not isinstance(said, str) or not said or values.is_name(said):
        return str(said or "")
    try:
        return str(values.address(said))
    except ValueError as error:
        raise ConfigError(
            f"replace: {said!r} on the command line is not allowed; allowed: a node's name, {error}"
        ) from None


def _discovery(sources: Sources) -> Discovery:
    none: tuple[Address, ...] = ()
    hosts = sources.take("discovery.hosts", values.peers_to_ask(API_PORT), none)
    return Discovery(
        hosts=(*sources.named_host(), *hosts),
        dns=sources.take("discovery.dns", values.peers_to_ask(DNS_PORT), none),
        mdns=sources.take("discovery.mdns", values.switch, True),
        listed=hosts,
    )


def _cluster_settings(sources: Sources) -> ClusterSettings:
    default = ClusterSettings()
    taken = {
        one.field: sources.take(f"cluster.{one.key}", one.take, getattr(default, one.field))
        for one in cluster_settings.SETTINGS
    }
    return msgspec.convert(taken, ClusterSettings)


def _check(settings: NodeSettings) -> None:
    """Refuse values that are wrong only in combination."""
    port, ports = settings.listen.port, (settings.peer_port, settings.dns_port)
    for key, derived in (("peer_port", ports[0]), ("dns_port", ports[1])):
        if not 1 <= derived <= 65535:
            raise ConfigError(
                f"listen: with the API port {port} the default {key} would be {derived}; "
                f"set {key} (1 to 65535), or take an API port from 201 to 65435"
            )
    if len({port, *ports}) != 3:
        raise ConfigError(
            f"listen, peer_port and dns_port must be three different ports, "
            f"but are {port}, {ports[0]} and {ports[1]}"
        )
    is_placed = settings.advertise is not None or is_listed(settings)
    if values.is_wildcard(settings.listen.host) and not is_placed:
        raise ConfigError(
            f"listen: '{settings.listen}' is every address of this machine; name with "
            "--advertise ADDR the one that others are to use"
        )
    wrong = cluster_settings.misfit(
        settings.cluster, prefix="cluster."
    ) or cluster_settings.misplaced(settings.cluster, prefix="cluster.")
    if wrong:
        raise ConfigError(wrong)
