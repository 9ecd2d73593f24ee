"""How many file descriptors a node may have, and how they are divided among its parts.

A process that has none left cannot open the next file of its database, and ends. So connections from
outside must never take the last one: each part has a share, and the clients of the HTTP API get what
is left. Only the figures are here; each part limits itself to its share.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from ..api.http.server import CONNECTIONS_MAX, REFUSALS_MAX, STREAMS_MAX
from ..config.settings import NodeSettings
from ..errors import ConfigError

NEEDED = 256
"""With fewer the node does not start: the shares would be too small to work with."""

FEW = 1_024
"""With fewer it warns. Many systems set this limit by default."""

_WANTED = 24_576
"""It raises its limit to this, if the hard limit allows: then each part has all that it can use."""

_OWN = 48
"""Standard input, output and error, the lock, logs, listeners, epoll, multicast (an idle node has 24)."""

_TABLES_MAX = 256
_BESIDE_TABLES = 40
"""Of RocksDB: WALs, the manifest, its log, and tables in a compaction beyond those it keeps open."""

_PEERS_MAX = 128
_DNS_MAX = 128
_RECURSORS_MAX = 256


class Shares(NamedTuple):
    """File descriptors by use. Together they are at most the limit.

    Attributes:
        limit: Of this process (RLIMIT_NOFILE).
        own: Of the process itself.
        database: RocksDB; of these it keeps `tables` open.
        peers: Connections from other nodes, and as many to them.
        dns: DNS by TCP.
        recursors: Questions that are forwarded at the same time.
        requests: Connections that bring requests.
        streams: Connections that have an answer without end, or whose reads wait for changes.
        refused: Connections that get 503, and as many that are accepted and not served yet.
    """

    limit: int
    own: int
    tables: int
    peers: int
    dns: int
    recursors: int
    requests: int
    streams: int
    refused: int

    @property
    def database(self) -> int:
        """Of RocksDB: the tables, and what it has open beside them."""
        return self.tables + _BESIDE_TABLES

    def by_use(self) -> dict[str, int]:
        """Return what each use may take at most."""
        return {
            "own": self.own,
            "database": self.database,
            "peers": 2 * self.peers,
            "dns": self.dns,
            "recursors": self.recursors,
            "requests": self.requests,
            "streams": self.streams,
            "refused": 2 * self.refused,
        }


def raise_limit() -> None:
    """Raise the soft limit of this process to what it can use, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shares_of(settings: NodeSettings) -> Shares:
    """Return how the present limit of this process is divided.

    Raises:
        ConfigError: It is too low for a node.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _WANTED if soft == resource.RLIM_INFINITY else soft
    return divide(limit, is_forwarding=bool(settings.recursors))


def divide(limit: int, *, is_forwarding: bool) -> Shares:
    """Return the shares of a limit. What does not depend on clients comes first.

    Raises:
        ConfigError: The limit is below `NEEDED`.
    """
    if limit < NEEDED:
        raise ConfigError(
            f"this process may open {limit} files at once, and a node needs {NEEDED}: raise its limit "
            "(`ulimit -n`, or LimitNOFILE= of its service)"
        )
    sixteenth = limit // 16
    tables = min(_TABLES_MAX, limit // 8)
    peers, dns = min(_PEERS_MAX, sixteenth), min(_DNS_MAX, sixteenth)
    recursors = min(_RECURSORS_MAX, sixteenth) if is_forwarding else 0
    rest = limit - _OWN - tables - _BESIDE_TABLES - 2 * peers - dns - recursors
    refused = min(REFUSALS_MAX, rest // 8)
    rest -= 2 * refused
    requests = min(CONNECTIONS_MAX, rest // 2)
    streams = min(STREAMS_MAX, rest - requests)
    return Shares(limit, _OWN, tables, peers, dns, recursors, requests, streams, refused)
