"""`stop`, `kill` and `leave`: each returns when the node's process has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hstore.node.discovery import run_record
from hstore.node.errors import HstoreError, Refused
from hstore.node.model import values

from ..client.api import REQUEST_TIMEOUT_S
from ..client.errors import NothingListens, Unreachable
from ..search.find import Found, live_addresses, member
from ..search.here import address_here, explained
from ..search.local import ask

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import NodeInfo

    from ..client.api import NodeClient
    from ..search.local import NamedNode

# A stop takes 5 s in all (contract, section 3).
_GONE_S = 7.0

_PAUSE_S = 0.05


def stop(node: NamedNode) -> str:
    """Stop a node cleanly, and wait until it is gone; return a line for the user.

    Raises:
        Unreachable: It does not answer.
        Refused: It is gone, but is still a voter, so the others need it for a majority; or it is
            still there after `_GONE_S`.
    """
    _refuse_ended(node)
    who, restart = str(node), _restart_of(node)
    try:
        with _for(node, "stop") as client:
            still_voter = client.stop()
    except Unreachable as error:
        if node.is_running_here:
            raise Unreachable(
                f"{node} does not answer, but its process runs; "
                f"`hstore kill -h {node.address}` ends it"
            ) from error
        raise
    _wait_gone(node)
    if still_voter:
        how = f": `{restart}`" if restart else ""
        raise Refused(
            f"{who} has stopped, but is still a voter, so the others need it for a majority: "
            f"{still_voter}\nstart it again{how}"
        )
    return _line(f"{who} has stopped", restart)


def kill(node: NamedNode) -> str:
    """End a node's process at once, and wait until it is gone; return a line for the user.

    One that runs on this machine gets SIGKILL, so it need not answer.

    Raises:
        Unreachable: It does not answer, and is not recorded as running here.
        Refused: It answers with a refusal, or is still there after `_GONE_S`.
    """
    _refuse_ended(node)
    restart = _restart_of(node)
    ended = _line(f"{node} was killed", restart)  # its name is known while it runs
    if node.record and node.is_running_here:
        try:
            if not run_record.kill(node.record, _GONE_S):
                raise _still_there(node, is_killed=True)
        except PermissionError:
            pass  # another user's process; its API may still obey
        else:
            return ended
    with _for(node, "kill") as client:
        client.kill()
    _wait_gone(node, is_killed=True)
    return ended


def leave(node: NamedNode) -> str:
    """Remove a node from its cluster for good; return a line for the user.

    The node removes itself. When it does not answer, another member removes it.

    Raises:
        Unreachable: Neither it nor another member answers.
        Refused: The others would have no live majority, or there is no such member.
    """
    if _has_ended(node):
        return _remove(node)
    who = str(node)
    try:
        with _for(node, "leave") as client:
            client.leave()
    except Unreachable:
        return _remove(node)
    _wait_gone(node)
    return f"{who} has left its cluster for good"


def _restart_of(node: NamedNode) -> str:
    """Return the command that will start a node again which still runs; empty: there is none here.

    `hstore restart` starts only what is recorded as having run on this machine. A node of another
    machine is not, and neither is one of a demo.
    """
    return f"hstore restart -h {node.address}" if node.is_running_here else ""


def _line(ended: str, restart: str) -> str:
    return f"{ended}; `{restart}` starts it again" if restart else ended


def _remove(gone: NamedNode) -> str:
    found = _cluster_of(gone)
    node = _member(gone, found)
    if node is None:
        raise Refused(
            f"{gone.said} does not answer, and no member of cluster {found.info.cluster_id} has "
            "that name or address; `hstore list` shows them"
        )
    through = _another(found, node.address, gone.env)
    with (
        explained(through, f"hstore leave -h {gone.said}"),
        gone.finder.connect(through, REQUEST_TIMEOUT_S) as client,
    ):
        client.remove(node.name)
    return f"{node.name} at {node.address} did not answer; {through} removed it for good"


def _cluster_of(gone: NamedNode) -> Found:
    """Return the cluster of a node that does not answer.

    The nodes on this machine are asked first: their records tell ports that no search tries.
    """
    for address in gone.neighbours:
        found = ask(address, gone.finder)
        if found and _member(gone, found):
            return found
    return gone.finder.find()


def _member(gone: NamedNode, found: Found) -> NodeInfo | None:
    if gone.record and gone.is_by_name:
        # Another node may have its name by now, but never its id.
        return next((n for n in found.info.nodes if n.id == gone.record.node_id), None)
    return member(found.info, gone.said) or member(found.info, gone.address)


def _has_ended(node: NamedNode) -> bool:
    """Tell whether the user gave a node's name, and its process has ended."""
    return node.is_by_name and not node.is_running_here


def _refuse_ended(node: NamedNode) -> None:
    """Refuse an order to a node that has ended: another node may have its address by now.

    Raises:
        Unreachable: It has ended.
    """
    if _has_ended(node):
        raise Unreachable(f"{node} does not run; `hstore restart -h {node.said}` starts it again")


@contextlib.contextmanager
def _for(node: NamedNode, order: str) -> Iterator[NodeClient]:
    """Connect to a node for an order that it takes from its own machine only."""
    with (
        explained(node.address, f"hstore {order} -h {node.address}"),
        node.finder.connect(node.address, REQUEST_TIMEOUT_S) as client,
    ):
        yield client


def _another(found: Found, but: str, env: Mapping[str, str]) -> str:
    """Return the address of a member that can remove another one: one on this machine, if any."""
    candidates = [address_here(found.info, env), found.address, *live_addresses(found.info)]
    for address in candidates:
        if address not in ("", but):
            return address
    raise Refused(f"{but} does not answer, and its cluster has no other live node to remove it")


def _wait_gone(node: NamedNode, *, is_killed: bool = False) -> None:
    """Wait until nothing listens at its address, and its process has ended."""
    clock = node.finder.clock
    end = clock.now() + _GONE_S
    while clock.now() < end:
        try:
            with node.finder.connect(node.address, 1.0) as client:
                client.cluster()
        except NothingListens:
            if not node.is_running_here:
                return
        except HstoreError:
            pass  # it is stopping: it says so, or does not answer in time
        clock.sleep(_PAUSE_S)
    raise _still_there(node, is_killed=is_killed)


def _still_there(node: NamedNode, *, is_killed: bool) -> Refused:
    port = values.split_address(node.address).port
    harder = "" if is_killed else f"`hstore kill -h {node.address}` ends it, or "
    return Refused(
        f"{node} is still there after {_GONE_S:g} s; {harder}look for the process on port {port}"
    )
