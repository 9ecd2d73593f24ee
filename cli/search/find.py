"""Which node a command talks to: given by address, given by name, or found by a search.

Owns the proof that an address belongs to a live cluster, and the rule that two clusters are an
error. `sources.py` lists where a search looks; `hstore.dns.finder` asks them. A search needs Trio,
which is slow to import, so it is imported only for a search and not for `-h ADDR`.
"""

from __future__ import annotations

import functools
import socket
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hstore.dns.ip_literals import host_and_port
from hstore.node.errors import ConfigError, HstoreError, Refused
from hstore.node.model import values

from ..client.api import NodeClient
from ..client.errors import NothingListens, Unreachable
from .clock import Clock

if TYPE_CHECKING:
    import trio

    from hstore.dns import finder
    from hstore.node.discovery.run_record import RunRecord
    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

WAIT_FOR_NODE_S = 3.0
"""How long to wait for a given node that may be about to start; as long as a search."""

_PAUSE_S = 0.2

LEADERLESS_S = 1.0
"""How long a search waits for a leader after a cluster without one has answered. An election takes
about as long. After that the search takes the cluster, and its nodes say what they cannot do."""

# A node that is stopping may accept and not answer; another node of its cluster will.
_PROBE_TIMEOUT_S = 1.0

_PROBES_AT_ONCE = 16


class Found(NamedTuple):
    """A live cluster, and the API address of the node that answered for it."""

    address: str
    info: ClusterInfo


_Sources: TypeAlias = "Sequence[finder.Source]"

Connect = Callable[[str, float], NodeClient]
"""Make a client for an address, with a timeout in seconds."""


def connect(address: str, timeout_s: float) -> NodeClient:
    """Make a client for an address."""
    return NodeClient(address, timeout_s=timeout_s)


class Finder:
    """Finds the cluster of a zone.

    Args:
        zone: The DNS domain of the cluster.
        is_zone_given: Whether the user named the zone. Then a cluster of another zone is no answer;
            the default zone excludes nothing.
        sources: Where a search looks, or a function that returns it when a search begins; by
            default the DNS servers of nodes on this machine.
        named: Returns the addresses that the user named and that need no look-up. They have the
            best rank, so when a node there answers for a cluster, no search is needed.
        connector: Makes clients.
        clock: The time for waits.
        trio_clock: The time of a search.
        recorded: Returns the records of nodes of this machine that run, or that can be started
            again, for advice.
    """

    def __init__(
        self,
        zone: str,
        *,
        is_zone_given: bool = False,
        sources: _Sources | Callable[[], _Sources] | None = None,
        named: Callable[[], list[str]] | None = None,
        connector: Connect = connect,
        clock: Clock | None = None,
        trio_clock: trio.abc.Clock | None = None,
        recorded: Callable[[], Sequence[RunRecord]] = tuple,
    ) -> None:
        self.zone = zone
        self.is_zone_given = is_zone_given
        self.clock = clock or Clock()
        self.connect = connector
        self._given = sources
        self._named = named
        self._trio_clock = trio_clock
        self._recorded = recorded

    @functools.cached_property
    def _sources(self) -> _Sources:
        from hstore.dns import finder

        if self._given is None:
            return [finder.local_nodes()]
        return self._given() if callable(self._given) else self._given

    def find(self, cluster_id: str | None = None) -> Found:
        """Return the one live cluster of the zone; the search is repeated for 3 s.

        Args:
            cluster_id: The wanted cluster, if it is known; others are ignored.

        Raises:
            Refused: There are two.
            Unreachable: There is none; the message lists what was tried.
        """
        at_once = self._at_once(cluster_id)
        if at_once:
            return at_once
        import trio

        from hstore.dns import finder

        proof = _Proof(self, cluster_id)
        findings = trio.run(finder.find, self.zone, self._sources, proof, clock=self._trio_clock)
        if not proof.found:
            raise Unreachable(_nothing(self.zone, findings, proof.failures, self._recorded()))
        return _the_one(self.zone, proof.found)

    def find_at(self, host: str | None) -> Found:
        """Return the cluster of the node at `ADDR|NAME`; None: the one that `find` finds.

        Raises:
            ConfigError: `host` is neither an address nor a name.
            Refused: There are two clusters, no node has that name, or it is of another zone than the
                user named.
            Unreachable: The node does not answer, or no cluster was found.
        """
        if host is None:
            return self.find()
        return self.wait_for(self.address_of(host), wait_s=0)

    def address_at(self, host: str | None) -> str:
        """Return the API address of the node that a command shall talk to.

        Raises:
            As `find_at`, but a node that is named is asked only where the user named a zone.
        """
        if host is None:
            return self.find().address
        address = self.address_of(host)
        return self.find_at(address).address if self.is_zone_given else address

    def find_if_any(self) -> Found | None:
        """Return the live cluster of the zone if a single round of the search finds it.

        Raises:
            Refused: There are two.
        """
        return self._at_once() or self._look(self._sources)

    def _at_once(self, cluster_id: str | None = None) -> Found | None:
        """Return the cluster at the named addresses, if it has a leader.

        Raises:
            Refused: There are two.
        """
        said = self._ask_all(self._named()[:_PROBES_AT_ONCE]).values() if self._named else ()
        found = [
            one
            for one in said
            if isinstance(one, Found)
            and one.info.zone == self.zone
            and self.is_meant(one.info, cluster_id)
        ]
        if all(one.info.leader is None for one in found):
            return None  # a search asks other sources too, and waits for an election
        return _the_one(self.zone, found)

    def named_addresses(self) -> list[str]:
        """Return the addresses that the user named and that need no look-up."""
        return self._named() if self._named else []

    def find_here(self) -> Found | None:
        """Return the cluster of the zone that is live on this machine, if one round finds it.

        Raises:
            Refused: There are two.
        """
        from hstore.dns.finder import Rank

        return self._look([one for one in self._sources if one.rank == Rank.HERE])

    def _look(self, sources: _Sources) -> Found | None:
        import trio

        from hstore.dns import finder

        proof = _Proof(self, patience_s=0)
        trio.run(finder.look, self.zone, sources, proof, clock=self._trio_clock)
        return _the_one(self.zone, proof.found) if proof.found else None

    def wait_for(self, address: str, wait_s: float = WAIT_FOR_NODE_S) -> Found:
        """Return the cluster of a node that may be about to start.

        Raises:
            Refused: The cluster is of another zone than the user named.
            Unreachable: It did not answer within `wait_s` seconds, or is not an hstore node.
        """
        end = self.clock.now() + wait_s
        while True:
            try:
                found = self.ask(address)
            except Unreachable:
                if self.clock.now() + _PAUSE_S > end:
                    raise
            else:
                if self.is_meant(found.info):
                    return found
                # A node that knows no member yet has the default zone, until it knows its own.
                if found.info.nodes or self.clock.now() + _PAUSE_S > end:
                    raise self.other_zone(describe(found))
            self.clock.sleep(_PAUSE_S)

    def ask(self, address: str) -> Found:
        """Return the cluster of the node at an address, in any zone.

        Raises:
            Unreachable: It does not answer, or is not an hstore node.
        """
        with self.connect(address, _PROBE_TIMEOUT_S) as client:
            return Found(address, client.cluster())

    def is_meant(self, info: ClusterInfo, cluster_id: str | None = None) -> bool:
        """Tell whether a cluster is of the zone that the user named, if any, and of the wanted id."""
        is_of_zone = not self.is_zone_given or info.zone == self.zone
        return is_of_zone and cluster_id in {None, info.cluster_id}

    def other_zone(self, whose: str) -> Refused:
        """Return the error for a node that the user named, and that is not of the zone they named."""
        return Refused(
            f"{whose} is not of zone {self.zone}, which --zone, HSTORE_ZONE or the config names"
            "\nname a node of that zone with -h, or leave the zone out"
        )

    def address_of(self, where: str) -> str:
        """Return the API address that `ADDR|NAME` stands for.

        A text that can be a node's name is searched for among the nodes of the cluster that is
        found. Where no node has it, and for any other text, it is HOST:PORT, or HOST with port 8500.

        Raises:
            ConfigError: It is none of these.
            Refused: There are two clusters, or no node and no host has this name.
        """
        if values.is_name(where):
            found = self.find_if_any()
            node = member(found.info, where) if found else None
            if node is not None:
                return node.address
            if found and not _is_host(where):
                names = ", ".join(node.name for node in found.info.nodes)
                raise Refused(
                    f"{where} is neither a node of cluster {found.info.cluster_id}, which has "
                    f"{names}, nor a host that is known here"
                )
        try:
            return str(values.split_address(where))
        except ValueError as error:
            raise ConfigError(f"-h: {where!r} is neither a node's name nor {error}") from None

    def probe(self, findings: finder.Findings) -> dict[str, Found | HstoreError]:
        """Ask each address for its cluster; return the answers, or the errors in place of them."""
        return self._ask_all(
            [host_and_port(*one) for one in findings.addresses()[:_PROBES_AT_ONCE]]
        )

    def _ask_all(self, addresses: list[str]) -> dict[str, Found | HstoreError]:
        if not addresses:
            return {}
        with ThreadPoolExecutor(len(addresses)) as pool:
            return dict(zip(addresses, pool.map(self._ask, addresses), strict=True))

    def _ask(self, address: str) -> Found | HstoreError:
        try:
            return self.ask(address)
        except HstoreError as error:
            return error


class _Proof:
    """Tells a search whether the addresses that it has found belong to a live cluster.

    Attributes:
        found: The nodes that answered for one.
        failures: For each other address, why it did not count, in words.
    """

    def __init__(
        self, finder_: Finder, cluster_id: str | None = None, patience_s: float = LEADERLESS_S
    ) -> None:
        self._finder = finder_
        self._wanted = cluster_id
        self._patience_s = patience_s
        self._begun_at: float | None = None
        self.found: list[Found] = []
        self.failures: dict[str, str] = {}

    async def __call__(self, findings: finder.Findings) -> bool:
        import trio

        now = trio.current_time()
        if self._begun_at is None:
            self._begun_at = now
        # This blocks the loop of the search, which has no other use, for the time of one probe.
        found = []
        for address, said in self._finder.probe(findings).items():
            if isinstance(said, Found) and self._finder.is_meant(said.info, self._wanted):
                found.append(said)
                self.failures[address] = "has no leader"
            else:
                self.failures[address] = _why_not(said, self._finder)
        is_led = any(one.info.leader is not None for one in found)
        if found and (is_led or now - self._begun_at >= self._patience_s):
            self.found = found
        return bool(self.found)


def _why_not(said: Found | HstoreError, finder_: Finder) -> str:
    match said:
        case Found(info=info) if not finder_.is_meant(info):
            return f"is of cluster {info.cluster_id} of zone {info.zone}"
        case Found(info=info):
            return f"is of another cluster, {info.cluster_id}"
        case NothingListens():
            return "nothing listens there"
        case Unreachable():
            return "did not answer as an hstore node"
        case _:
            return str(said)


def member(info: ClusterInfo, which: str) -> NodeInfo | None:
    """Return the member with a name or API address, or None."""
    return next((node for node in info.nodes if which in {node.name, node.address}), None)


def live_addresses(info: ClusterInfo) -> list[str]:
    """Return the API addresses of the live members, the leader's first."""
    live = [node for node in info.nodes if node.is_live]
    live.sort(key=lambda node: node.name != info.leader)
    return [node.address for node in live]


def describe(found: Found) -> str:
    """Name a cluster in a message: its id, its zone and a node of it."""
    node = member(found.info, found.address)
    who = f"{node.name} at {found.address}" if node else found.address
    return f"cluster {found.info.cluster_id} of zone {found.info.zone} ({who})"


def own_address_towards(address: str) -> str | None:
    """Return the IP literal under which this machine talks to `address`, or None."""
    ends = ends_towards(address)
    return ends[0] if ends else None


def ends_towards(address: str) -> tuple[str, str] | None:
    """Return the IP literals of both ends of a connection to `HOST:PORT`, its own first, or None."""
    host, port = values.split_address(address)
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as one:
            one.connect(target)  # of a datagram socket: only looks for the route
            return str(one.getsockname()[0]), str(one.getpeername()[0])
    except OSError:
        return None


def _is_host(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True


def _nothing(
    zone: str,
    findings: finder.Findings,
    failures: dict[str, str],
    recorded: Sequence[RunRecord],
) -> str:
    """Return the message of a search without success: a table of what was tried, and what helps."""
    from hstore.dns import finder

    rows = [f"{what}: {outcome}" for what, outcome in finder.tried(findings.attempts, zone)]
    for sighting in findings.sightings:
        for node in sighting.nodes:
            address = host_and_port(*node)
            outcome = failures.get(address, "did not answer in time")
            rows.append(f"{sighting.source}, a node at {address}: {outcome}")
    return "\n".join(
        [
            f"no cluster of zone {zone} was found in {finder.FIND_S:g} s. What was tried:",
            *(_ROW.fill(row) for row in dict.fromkeys(rows)),
            *_what_helps([one for one in recorded if one.zone == zone]),
            "`-h ADDR` names a node of one elsewhere, and HSTORE_DNS=ADDR a DNS server that knows it",
        ]
    )


def _what_helps(recorded: Sequence[RunRecord]) -> list[str]:
    """Return lines with the command that starts a node here: again, if one of the zone has run."""
    if not recorded:
        return ["`hstore start` starts a cluster here;"]
    return [_how_again(one) for one in recorded[:_RECORDED_SHOWN]]


def _how_again(one: RunRecord) -> str:
    from hstore.node.discovery import run_record

    name, restart = one.name or "the node", f"`hstore restart -h {one.address}`"
    if not run_record.is_running(one):
        return f"{restart} starts {name} again, which ran on this machine;"
    return (
        f"{name} runs on this machine (process {one.process.pid}), and does not answer: "
        f"`hstore kill -h {one.address}` ends it, then {restart} starts it again;"
    )


_RECORDED_SHOWN = 3

_ROW = textwrap.TextWrapper(
    width=100, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
)


def _the_one(zone: str, found: list[Found]) -> Found:
    clusters = {one.info.cluster_id: one for one in reversed(found)}
    if len(clusters) > 1:
        names = " and ".join(describe(one) for one in sorted(clusters.values()))
        raise Refused(
            f"{len(clusters)} clusters answer for zone {zone}: {names}\nsay which one with -h ADDR"
        )
    # A node without contact to the leader knows its cluster too, but cannot serve requests.
    return next((one for one in found if one.info.leader is not None), found[0])
