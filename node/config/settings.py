"""The settings of a node, and where they come from.

Two disjoint sets. *Node settings* (addresses, directory, cache, log) belong to one process and are
read at each start. *Cluster settings* (`[cluster]`, see `ClusterSettings`) belong to all nodes; they
are read here too, but count only when a cluster is created: afterwards they live in the log. `given`
tells which were set on purpose, so that one that differs from the cluster's can be warned about.

For each setting the first of these that has it wins: a flag, an `HSTORE_*` variable, the TOML file,
the default. Opening sockets and asking clusters is no business of this module.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hstore.dns.ip_literals import is_loopback

from ..errors import ConfigError
from ..model import values
from ..model.commands import ClusterSettings
from ..model.values import API_PORT, Address
from . import cluster_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PEER_OFFSET = -200
DNS_OFFSET = 100

EXPECT_MAX = 99
"""Nodes that a new cluster can be told to wait for: as many as `join` finds ports for on one
machine. Beyond single digits a cluster only gets slower."""

DNS_PORT = 53
"""Of a DNS server that is named without one."""

VARIABLE_PREFIX = "HSTORE_"

# Read by other parts of the program, so they are known although they are no settings of a node.
_OTHER_VARIABLES = ("HSTORE_CONFIG", "HSTORE_DEBUG", "HSTORE_HOST")

# Kubernetes and Docker links set these for a service called "hstore"; they say nothing to us.
_FOREIGN_VARIABLE = re.compile(r"HSTORE_(SERVICE_.*|PORT|PORT_\d+_.*)")


class Discovery(msgspec.Struct, frozen=True):
    """Where a cluster is looked for beside the places that need no telling (contract, section 6).

    Attributes:
        hosts: API addresses of nodes; of each the DNS and peer ports are where the API's put them.
        dns: DNS servers.
        mdns: Whether multicast DNS is used: asked, and answered where the node listens beyond
            loopback.
    """

    hosts: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    mdns: bool = True


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
        http_hosts: `Host` headers that its API accepts beside its own names.
        recursors: DNS servers that its own asks for names outside the zone; none: it refuses them.
        learner: It joins as a learner for good.
        expect: Voters that a cluster which this node creates waits for; 0: none.
        discovery: Where it looks for its cluster.
        cluster: Settings for a cluster that this node creates.
        given: The keys, as in the file (`cluster.zone`), that were set and not left to defaults.
    """

    data_dir: Path
    listen: Address
    peer_port: int
    dns_port: int
    advertise: str | None = None
    name: str = ""
    cache_mb: int = 64
    log_level: str = "info"
    http_hosts: tuple[str, ...] = ()
    recursors: tuple[Address, ...] = ()
    learner: bool = False
    expect: int = 0
    discovery: Discovery = Discovery()
    cluster: ClusterSettings = ClusterSettings()
    given: frozenset[str] = frozenset()

    @property
    def advertised_host(self) -> str:
        """The IP literal, without brackets, under which others reach this node."""
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
            `config` is the path of the file, `learner` is a flag only.
        env: The process's environment.

    Raises:
        ConfigError: A key is unknown, a value is bad, or values do not fit together.
    """
    sources = _Sources(flags, env)
    listen = sources.take("listen", values.address, Address("127.0.0.1", API_PORT))
    port = values.integer(1, 65535)
    settings = NodeSettings(
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
        http_hosts=sources.take("http.hosts", values.hosts, ()),
        recursors=sources.take("recursors", values.recursors, ()),
        learner=flags.get("learner") is True,
        expect=sources.take("expect", values.integer(1, EXPECT_MAX), 0),
        discovery=_discovery(sources),
        cluster=_cluster_settings(sources),
        given=frozenset(sources.given),
    )
    sources.refuse_unknown()
    if "data_dir" not in settings.given:
        settings = _with(settings, data_dir=default_data_dir(env, listen.port))
    _check(settings)
    return settings


class SearchSettings(msgspec.Struct, frozen=True):
    """What a command needs to know that looks for a cluster and is no node.

    Attributes:
        zone: The DNS domain of the cluster.
        discovery: Where else to look.
        data_dir: Of the node that would be started here; None: there is no home directory.
    """

    zone: str
    discovery: Discovery
    data_dir: Path | None


def load_search(flags: Mapping[str, object], env: Mapping[str, str]) -> SearchSettings:
    """Gather the settings of a search; those of a node are not looked at.

    Raises:
        ConfigError: A value is bad.
    """
    sources = _Sources(flags, env)
    data_dir = sources.take("data_dir", values.path, None)
    with contextlib.suppress(ConfigError):
        data_dir = data_dir or default_data_dir(env, API_PORT)
    return SearchSettings(
        zone=sources.take("cluster.zone", values.zone, ClusterSettings().zone),
        discovery=_discovery(sources),
        data_dir=data_dir,
    )


def at_port(settings: NodeSettings, port: int, env: Mapping[str, str]) -> NodeSettings:
    """Return the settings for another API port; what was not given on purpose moves with it."""
    given = settings.given
    return _with(
        settings,
        listen=Address(settings.listen.host, port),
        peer_port=settings.peer_port if "peer_port" in given else port + PEER_OFFSET,
        dns_port=settings.dns_port if "dns_port" in given else port + DNS_OFFSET,
        data_dir=settings.data_dir if "data_dir" in given else default_data_dir(env, port),
    )


def refuse_own_dns_among_recursors(settings: NodeSettings) -> None:
    """Refuse recursors that are the node's own DNS server, which would ask itself.

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
        # The base directory specification: a relative path in the variable is to be ignored.
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


def _discovery(sources: _Sources) -> Discovery:
    none: tuple[Address, ...] = ()
    hosts = sources.take("discovery.hosts", values.peers_to_ask(API_PORT), none)
    return Discovery(
        hosts=(*sources.named_host(), *hosts),
        dns=sources.take("discovery.dns", values.peers_to_ask(DNS_PORT), none),
        mdns=sources.take("discovery.mdns", values.switch, True),
    )


def _cluster_settings(sources: _Sources) -> ClusterSettings:
    default = ClusterSettings()
    taken = {
        one.field: sources.take(f"cluster.{one.key}", one.parse, getattr(default, one.field))
        for one in cluster_settings.SETTINGS
    }
    return msgspec.convert(taken, ClusterSettings)


def _check(settings: NodeSettings) -> None:
    """Refuse what is wrong only in combination."""
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
    if values.is_wildcard(settings.listen.host) and settings.advertise is None:
        raise ConfigError(
            f"listen: '{settings.listen}' is every address of this machine; say with "
            "--advertise ADDR which of them others shall use"
        )
    wrong = cluster_settings.misfit(settings.cluster, prefix="cluster.")
    if wrong:
        raise ConfigError(wrong)


class _Sources:
    """Flags, variables and file, asked for one setting after the other.

    What was never asked for is unknown, so there is no second list of settings to keep.
    """

    def __init__(self, flags: Mapping[str, object], env: Mapping[str, str]) -> None:
        self._flags = flags
        self._env = env
        self._path = self._config_path()
        self._file = _flat(_read_toml(self._path)) if self._path else {}
        self._known: list[str] = []
        self.given: set[str] = set()

    def take(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """Return the value of `key` from the first source that has it.

        Raises:
            ConfigError: The value is bad.
        """
        self._known.append(key)
        if self._flags.get(key) is not None:
            value, where = self._flags[key], "on the command line"
        elif self._env.get(_variable(key)):  # empty counts as not set, as with XDG_DATA_HOME
            value, where = self._env[_variable(key)], f"in {_variable(key)}"
        elif key in self._file:
            value, where = self._file[key], f"in {self._path}"
        else:
            return default
        self.given.add(key)
        try:
            return parse(value)
        except ValueError as error:
            raise ConfigError(
                f"{key}: {value!r} {where} is not allowed; allowed: {error}"
            ) from None

    def named_host(self) -> tuple[Address, ...]:
        """Return what `HSTORE_HOST` names, where that is an address and no node's name."""
        value = self._env.get("HSTORE_HOST", "")
        with contextlib.suppress(ValueError):
            if value and not values.is_name(value):
                return (values.split_address(value),)
        return ()

    def refuse_unknown(self) -> None:
        """Refuse keys of the file and variables that no `take` asked for.

        Raises:
            ConfigError: There is one.
        """
        for key in self._file:
            if key not in self._known:
                raise ConfigError(
                    f"{key}: unknown key in {self._path} (its value is {self._file[key]!r}); "
                    + _allowed(key, self._known)
                )
        variables = [*map(_variable, self._known), *_OTHER_VARIABLES]
        for name in sorted(self._env):
            if not name.startswith(VARIABLE_PREFIX) or _FOREIGN_VARIABLE.fullmatch(name):
                continue
            if name not in variables:
                raise ConfigError(
                    f"{name}: unknown variable (its value is {self._env[name]!r}); "
                    + _allowed(name, variables)
                )

    def _config_path(self) -> Path | None:
        value = self._flags.get("config") or self._env.get("HSTORE_CONFIG")
        return values.path(value) if value else None


def _variable(key: str) -> str:
    if key == "discovery.dns":
        return "HSTORE_DNS"  # the contract's name for it
    return VARIABLE_PREFIX + key.removeprefix("cluster.").replace(".", "_").upper()


def _allowed(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"perhaps {close[0]} was meant; " if close else ""
    return f"{hint}allowed: {', '.join(sorted(known))}"


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
    except OSError as error:
        raise ConfigError(f"config: {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not valid TOML: {error}") from None


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a table's values by dotted key. An empty table has none, and so is no error."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat.update(_flat(value, f"{key}."))
        else:
            flat[key] = value
    return flat
