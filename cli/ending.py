"""Ending a node: `stop`, `kill` and `leave`, each complete when it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node import values
from hstore.node.errors import HstoreError, Refused

from .client import REQUEST_TIMEOUT_S, NothingListens, Unreachable
from .find import Found, live_addresses, member

if TYPE_CHECKING:
    from .find import Finder

# A stop takes 5 s in all (contract, section 3).
_GONE_S = 7.0

_PAUSE_S = 0.05


def stop(address: str, finder: Finder) -> None:
    """Stop a node cleanly, and wait until it is gone.

    Raises:
        Unreachable: It does not answer.
        Refused: It is gone, but the others still count on its vote; or it is still there after
            `_GONE_S`.
    """
    with finder.connect(address, REQUEST_TIMEOUT_S) as client:
        still_voter = client.stop()
    _wait_gone(address, finder)
    if still_voter:
        raise Refused(
            f"the node at {address} has stopped, but is still a voter, so the others need it for a "
            f"majority: {still_voter}. Start it again, or remove it: hstore leave -h {address}"
        )


def kill(address: str, finder: Finder) -> None:
    """End a node's process at once, and wait until it is gone.

    Raises:
        Unreachable: It does not answer.
        Refused: It would not, or it is still there after `_GONE_S`.
    """
    with finder.connect(address, REQUEST_TIMEOUT_S) as client:
        client.kill()
    _wait_gone(address, finder, is_killed=True)


def leave(host: str, finder: Finder) -> str:
    """Remove a node from its cluster for good; return what was done.

    The node does it itself; when it does not answer, another member does.

    Raises:
        Unreachable: Neither it nor another member answers.
        Refused: The rest would have no live majority, or there is no such member.
    """
    address = finder.address_of(host)
    try:
        with finder.connect(address, REQUEST_TIMEOUT_S) as client:
            client.command("/v1/node/leave")
    except Unreachable:
        return _remove(host, address, finder)
    _wait_gone(address, finder)
    return f"the node at {address} has left its cluster for good"


def _remove(host: str, address: str, finder: Finder) -> str:
    found = finder.find()
    node = member(found.info, host) or member(found.info, address)
    if node is None:
        raise Refused(
            f"{host} does not answer, and no member of cluster {found.info.cluster_id} has that "
            "name or address; `hstore list` shows them"
        )
    through = _another(found, node.address)
    with finder.connect(through, REQUEST_TIMEOUT_S) as client:
        client.command("/v1/leader/remove", {"node": node.name})
    return f"{node.name} at {node.address} did not answer; {through} removed it for good"


def _another(found: Found, but: str) -> str:
    for address in (found.address, *live_addresses(found.info)):
        if address != but:
            return address
    raise Refused(f"{but} does not answer, and its cluster has no other live node to remove it")


def _wait_gone(address: str, finder: Finder, *, is_killed: bool = False) -> None:
    """Wait until nothing listens at `address`."""
    end = finder.clock.now() + _GONE_S
    while finder.clock.now() < end:
        try:
            with finder.connect(address, 1.0) as client:
                client.cluster()
        except NothingListens:
            return
        except HstoreError:
            pass  # it says that it is about to stop, or is too busy with that to answer
        finder.clock.sleep(_PAUSE_S)
    port = values.split_address(address).port
    harder = "" if is_killed else f"`hstore kill -h {address}` ends it, or "
    raise Refused(
        f"the node at {address} is still there after {_GONE_S:g} s; "
        f"{harder}look for the process on port {port}"
    )
