"""`start` on machines that share one configuration file: one of them begins, the others join it.

With `expect` and `discovery.hosts` the file names all nodes of a new cluster. Each finds itself in
that list by its address. The first of the list begins the cluster; the others wait until it answers,
and join. So the same file and the same command do on every machine, in any order.

Owns who begins, and the waiting. Once a node is a member, its directory counts and no longer the
list. A cluster that lives at a listed address already is joined by the first node too: nobody begins
a second one there.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from hstore.dns.ip_literals import is_loopback
from hstore.node.config import logs
from hstore.node.config.settings import at_address, is_listed
from hstore.node.errors import ConfigError, HstoreError, Refused
from hstore.node.model import values

from ..client.errors import NothingListens
from ..search.find import Found, describe, live_addresses, own_address_towards
from ..search.here import is_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from hstore.node.config.settings import NodeSettings
    from hstore.node.model.values import Address

    from ..search.find import Finder

_PAUSE_S = 0.3
_TOLD_AGAIN_S = 60.0
"""A node that waits for long says so again, for whoever reads only the end of its log."""

_ASKED_AT_ONCE = 16

_log = structlog.get_logger()


class Ended(BaseException):
    """SIGTERM came while the node waited. Not an `Exception`, so that no handler catches it."""


class _Listed(NamedTuple):
    """The nodes of `discovery.hosts`, in order.

    Attributes:
        addresses: Of those that are known, with IP literals.
        unknown: Host names that do not resolve now.
    """

    addresses: list[Address]
    unknown: list[str]


def place(settings: NodeSettings, env: Mapping[str, str]) -> NodeSettings:
    """Return the settings with the listed address that is of this machine, where none is given.

    Such a file cannot name an address to listen at, unless it is every one.

    Raises:
        ConfigError: No listed address is of this machine, or several are.
        Refused: So far: a name does not resolve yet, or there is no network yet.
    """
    is_wildcard = values.is_wildcard(settings.listen.host)
    is_settled = settings.advertise if is_wildcard else "listen" in settings.given
    if not is_listed(settings) or is_settled:
        return settings
    listed = _listed(settings)
    own = [one for one in dict.fromkeys(listed.addresses) if is_this_machine(str(one))]
    if "listen" in settings.given:
        own = [one for one in own if one.port == settings.listen.port]
    if len(own) > 1:
        raise ConfigError(
            f"discovery.hosts: {' and '.join(map(str, own))} are all of this machine; say with -h which of them this "
            "node is"
        )
    if not own:
        raise _stranger("none of them is an address of this machine", listed)
    if is_wildcard:
        return msgspec.structs.replace(settings, advertise=str(own[0]))
    return at_address(settings, own[0], env)


def refuse_unlisted(settings: NodeSettings) -> None:
    """Refuse a node that is not among those of the new cluster.

    Raises:
        ConfigError: It is not.
        Refused: So far: a name does not resolve yet.
    """
    listed = _listed(settings)
    if settings.api_address not in map(str, listed.addresses):
        raise _stranger(f"this node, {settings.api_address}, is none of them", listed)


def ways_in(
    settings: NodeSettings, finder: Finder, tell: Callable[[str], None], *, is_used: bool = False
) -> tuple[str, ...]:
    """Return addresses of a cluster to join; none: this node is to begin it.

    Waits for as long as it takes, and says what for. A service may start its node before the first
    machine is there, and a node that gave up would have to be started again by hand.

    Args:
        settings: Of the node.
        finder: Asks the others.
        tell: Called with what this node waits for.
        is_used: The directory has data, of a join that may have been cut short or not: a cluster
            without a leader will do, which may wait for this node.

    Raises:
        Refused: Listed nodes are of two clusters, or of another zone.
        Ended: SIGTERM came.
    """
    told, told_at, own = "", 0.0, settings.api_address
    named = len(set(settings.discovery.listed))
    if named < settings.expect:
        logs.configure(settings.log_level, settings.log_format)
        _log.warning(
            "fewer nodes are listed than expected",
            hosts=named,
            expect=settings.expect,
            hint="nothing is answered until so many have joined: list the others in discovery.hosts, "
            "lower expect, or have them join with `hstore join`",
        )
    with _Terminable():
        while True:
            # The first of the list, and not the first of those whose names resolve now.
            is_first = str(_known(settings.discovery.listed[0])) == own
            others = [str(one) for one in _listed(settings).addresses if str(one) != own]
            found, why = _look(others, settings, finder)
            if found and (is_used or found.info.leader or found.info.waiting_for):
                counts = any(node.address == own for node in found.info.nodes)
                # The first lets `first_start` say how a node comes back whose disk was lost.
                return () if is_first and counts else _ways(found)
            if is_first and not found:
                return ()
            now = finder.clock.now()
            if why != told or now - told_at >= _TOLD_AGAIN_S:
                told, told_at = why, now
                logs.configure(settings.log_level, settings.log_format)
                _log.info("waiting for the cluster", why=why)
                tell(why)
            finder.clock.sleep(_PAUSE_S)


def _look(others: list[str], settings: NodeSettings, finder: Finder) -> tuple[Found | None, str]:
    """Ask the other listed nodes; return the cluster that answers, or why none does."""
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        said = dict(zip(others, pool.map(lambda one: _ask(one, finder), others), strict=True))
    # A node that knows no member yet has just begun to join.
    found = [one for one in said.values() if isinstance(one, Found) and one.info.nodes]
    for one in found:
        if not finder.is_meant(one.info):
            raise finder.other_zone(describe(one))
    clusters = {one.info.cluster_id: one for one in found}
    if len(clusters) > 1:
        raise Refused(
            f"the nodes of discovery.hosts are of several clusters: "
            f"{' and '.join(map(describe, clusters.values()))}; correct the list"
        )
    led = [one for one in found if one.info.leader or one.info.waiting_for]
    if found:
        return (led or found)[0], f"{describe(found[0])} has no leader, so it takes no node in"
    first = settings.discovery.listed[0]
    known = _known(first)
    why = said.get(str(known))
    seen = "it does not answer yet" if known else "its name does not resolve yet"
    if isinstance(why, NothingListens):
        seen = "nothing listens there: start it"
    return None, f"{first}, the first of discovery.hosts, begins the cluster, and {seen}"


def _ask(address: str, finder: Finder) -> Found | HstoreError:
    try:
        return finder.ask(address)
    except HstoreError as error:
        return error


def _ways(found: Found) -> tuple[str, ...]:
    return tuple(dict.fromkeys([found.address, *live_addresses(found.info)]))


def _listed(settings: NodeSettings) -> _Listed:
    listed = _Listed([], [])
    for one in settings.discovery.listed:
        known = _known(one)
        if known:
            listed.addresses.append(known)
        else:
            listed.unknown.append(one.host)
    return listed


def _known(one: Address) -> Address | None:
    try:
        return values.address(str(one))
    except ValueError:
        return None


def _stranger(why: str, listed: _Listed) -> HstoreError:
    """Return the error for a node that is not in the list: it counts as one of usage only for certain."""
    names = ", ".join([*map(str, listed.addresses), *listed.unknown])
    text = (
        f"discovery.hosts has {names}, and {why}; with `expect` it lists all nodes of the new "
        "cluster, each by the address at which it listens or which it advertises"
    )
    if listed.unknown:
        return Refused(f"{text}\n{', '.join(listed.unknown)} cannot be resolved now")
    if not any(is_loopback(one.host) or own_address_towards(str(one)) for one in listed.addresses):
        return Refused(f"{text}\nthis machine has no network yet")
    return ConfigError(text)


class _Terminable:
    """While this is open, SIGTERM raises `Ended`: as process 1 of a container it would be ignored."""

    def __enter__(self) -> None:
        """Take the signal."""
        self._before = signal.signal(signal.SIGTERM, self._end)

    def __exit__(self, *_error: object) -> None:
        """Give it back."""
        signal.signal(signal.SIGTERM, self._before)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        raise Ended
