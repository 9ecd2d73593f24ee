"""`start` and `join`: find the settings, the ports and the cluster, refuse what cannot work, run.

Everything before `hstore.node.process.main.serve`, which runs the node until its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from hstore.dns.ip_literals import host_and_port, is_loopback
from hstore.node.config.settings import NodeSettings, is_listed, load_settings
from hstore.node.discovery import run_record, saved_members
from hstore.node.discovery.saved_members import SavedMembers
from hstore.node.errors import ConfigError, HstoreError, Refused
from hstore.node.model import values
from hstore.node.model.values import Address
from hstore.node.net.sockets import AddressTaken, NodeSockets, bind_first_free, bind_node_sockets
from hstore.node.process.launch import AGAIN, Launch
from hstore.node.storage.directory import has_data, read_identity, recovered_from

from ..client.errors import Unreachable
from ..options import Process
from ..search.find import Finder, Found, describe, live_addresses, member, own_address_towards
from ..search.sources import finder_for_node
from . import launching, together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_IN_THIS_PROCESS = Process(no_shell=True)

# A clean stop takes at most 5 s (contract, section 3). A node that hangs longer ends all the same.
_PARENT_GONE_S = 8.0


def start_node(
    flags: Mapping[str, object],
    env: Mapping[str, str],
    finder: Finder | None = None,
    process: Process = _IN_THIS_PROCESS,
) -> int:
    """Run a seed node, or the node of a used data directory; return the exit status.

    Raises:
        ConfigError, Refused: It was not started; the message says why.
    """
    settings = together.place(load_settings(flags, env), env)
    finder = finder or finder_for_node(settings, env)
    _refuse_running(settings, env)
    fresh = not has_data(settings.data_dir)
    if fresh and process.resume:
        raise _gone(settings)
    if fresh and not settings.new_cluster and not settings.given & {"listen", "data_dir"}:
        _refuse_second_cluster(settings, finder, env)
    is_one_of_many = is_listed(settings) and not settings.new_cluster
    if fresh and is_one_of_many:
        together.refuse_unlisted(settings)
    try:
        sockets = bind_node_sockets(settings)
    except AddressTaken as error:
        raise _taken(error, finder, "-h") from None
    settle = partial(launching.settle, "start", flags, settings, env, process)
    if is_one_of_many and (fresh or (not process.resume and _may_be_unfinished(settings.data_dir))):
        return _begin_or_join(settings, sockets, finder, settle, is_used=not fresh)
    return _serve(settings, sockets, "start", (), settle)


def join_cluster(
    flags: Mapping[str, object],
    env: Mapping[str, str],
    host: str | None,
    finder: Finder | None = None,
    process: Process = _IN_THIS_PROCESS,
) -> int:
    """Run a node that joins a cluster, or the node of a used directory; return the exit status.

    Args:
        flags: Settings from the command line by key.
        env: The process's environment.
        host: A member's address or name; None: search for the cluster.
        finder: Searches for it.
        process: The options about the process.

    Raises:
        ConfigError, Refused, Unreachable: It did not join; the message says why.
    """
    settings = together.place(load_settings(flags, env), env)
    if settings.given & {"listen", "data_dir"}:  # otherwise it takes free ports and their directory
        _refuse_running(settings, env)
    settings = _place(settings, env)
    if "data_dir" not in settings.given:
        _refuse_beside(settings, env)
    given, finder = finder, finder or finder_for_node(settings, env)
    found, failure = (None, None) if process.resume else _target(host, settings, finder)
    if found:
        _refuse_itself(settings, found)
        _refuse_loopback(settings, found, env)
    settings, sockets = _bind_for_join(settings, env, finder)
    # A used directory knows the members, so its node starts even while no member answers.
    if found is None and not has_data(settings.data_dir):
        sockets.close()
        if failure or process.resume:
            raise failure or _gone(settings)
        # The first free ports were those of a used directory, so no cluster was searched for. But
        # another program took them before we bound them: begin again with the next free ports.
        return join_cluster(flags, env, host, given, process)
    settle = partial(launching.settle, "join", flags, settings, env, process)
    return _serve(settings, sockets, "join", _ways_in(found), settle)


def end_with_parent(fd: int) -> None:
    """Stop this process when the last writer of a pipe is gone, whatever the reason.

    Args:
        fd: The read end of a pipe to which nothing is written.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(_PARENT_GONE_S)
        os._exit(1)

    # In a thread: it must work before the node's event loop runs, and while that hangs.
    threading.Thread(target=watch, daemon=True, name="parent").start()  # noqa: TID251


def _serve(
    settings: NodeSettings,
    sockets: NodeSockets,
    mode: Literal["start", "join"],
    join_to: tuple[str, ...],
    settle: Callable[[], Launch],
) -> int:
    # Imported here: it imports the whole node, which no other command needs.
    from hstore.node.process.main import serve

    try:
        launch = settle()
        status = serve(settings, sockets, mode, join_to, launch)
    finally:
        sockets.close()
    return launching.begin_anew(launch) if status == AGAIN else status


def _begin_or_join(
    settings: NodeSettings,
    sockets: NodeSockets,
    finder: Finder,
    settle: Callable[[], Launch],
    *,
    is_used: bool,
) -> int:
    """Begin the cluster of `discovery.hosts`, or join it once it is there; return the exit status."""
    # Nobody who asks at these ports meanwhile shall wait for an answer that does not come.
    sockets.close()
    launch = settle()
    try:
        join_to = together.ways_in(settings, finder, launch.tell_waiting, is_used=is_used)
    except together.Ended:
        return 0
    mode: Literal["start", "join"] = "join" if join_to else "start"
    try:
        sockets = bind_node_sockets(settings)
    except AddressTaken as error:
        raise _taken(error, finder, "-h") from None
    return _serve(settings, sockets, mode, join_to, lambda: launch)


def _may_be_unfinished(data_dir: Path) -> bool:
    """Tell whether a directory may be of a join that was cut short: it knows no members."""
    if saved_members.read(data_dir) is not None:
        return False
    try:
        return not recovered_from(data_dir)  # that one is a cluster of its own
    except HstoreError:
        return False  # opening the directory later gives the reason


def _gone(settings: NodeSettings) -> Refused:
    return Refused(
        f"{settings.data_dir} holds no node (any more), so there is nothing to start again; "
        "`hstore start` makes a new cluster, `hstore join` a new member"
    )


def _refuse_running(settings: NodeSettings, env: Mapping[str, str]) -> None:
    """Refuse to start a node that runs, with more advice than the directory's lock can give."""
    record = run_record.record_of(env, settings.data_dir)
    # After a restart in place the record names this very process.
    if record and record.process.pid != os.getpid() and run_record.is_running(record):
        raise Refused(
            f"{record.name or 'the node'} of {settings.data_dir} runs already, at "
            f"{record.address} (process {record.process.pid}); "
            f"`hstore restart -h {record.address}` restarts it"
        )


def _refuse_beside(settings: NodeSettings, env: Mapping[str, str]) -> None:
    """Refuse to take the default directory of a node that runs at another address with this port."""
    record = run_record.record_of(env, settings.data_dir)
    if record and record.process.pid != os.getpid() and run_record.is_running(record):
        host = values.split_address(record.listen).host
        raise Refused(
            f"{record.name or 'a node'} runs on this machine, at {record.address}; one more beside "
            f"it: `hstore join --listen {_first_free(settings, host, env)}`"
        )


def _first_free(settings: NodeSettings, host: str, env: Mapping[str, str]) -> str:
    """Return `HOST:PORT` at a host of this machine with the first port that a node could have."""
    there = msgspec.structs.replace(settings, listen=Address(host, settings.listen.port))
    try:
        placed, sockets = bind_first_free(there, env)
    except HstoreError:
        return host_and_port(host, settings.listen.port)
    sockets.close()
    return str(placed.listen)


def _target(
    host: str | None, settings: NodeSettings, finder: Finder
) -> tuple[Found | None, Unreachable | None]:
    """Find the cluster to join, or the error of the search.

    Neither for a node that was a member before: it finds its cluster by its saved members.
    """
    try:
        if host is None:
            saved = saved_members.read(settings.data_dir) if has_data(settings.data_dir) else None
            if saved is not None:
                _refuse_other_zone(saved, settings, finder)
                _warn_of_replace(saved, settings)
                return None, None
            return finder.find(_cluster_of(settings.data_dir)), None
        return finder.wait_for(finder.address_of(host)), None
    except Unreachable as error:
        return None, error


def _warn_of_replace(saved: SavedMembers, settings: NodeSettings) -> None:
    """Say so where a member that is to be replaced stays, because this node is a member already.

    It is no error: a supervisor gives the same command at each start, and another node may have got
    the name meanwhile.
    """
    wanted = settings.replace
    stays = next((one for one in saved.members if wanted in {one.name, one.address}), None)
    if wanted and stays and int(stays.id, 16) != read_identity(settings.data_dir).node_id:
        click.echo(
            f"hstore: --replace {wanted} does nothing: {settings.data_dir} is of a member already; "
            f"`hstore leave -h {wanted}` removes {stays.name}",
            err=True,
        )


def _refuse_other_zone(saved: SavedMembers, settings: NodeSettings, finder: Finder) -> None:
    """Refuse to join a zone with the directory of a node that is a member in another zone."""
    if finder.is_zone_given and saved.zone != finder.zone:
        raise Refused(
            f"{settings.data_dir} is of a node of cluster {saved.cluster_id} of zone {saved.zone}, not "
            f"of zone {finder.zone}; `hstore start -h {settings.listen} --data-dir "
            f"{settings.data_dir}` starts it again, another --data-dir makes a new member"
        )


def _cluster_of(data_dir: Path) -> str | None:
    """Return the id of the cluster of a used directory, such as one of an interrupted join."""
    if not has_data(data_dir):
        return None
    try:
        return read_identity(data_dir).cluster_id
    except HstoreError:
        return None  # opening the directory later gives the reason


def _ways_in(found: Found | None) -> tuple[str, ...]:
    if found is None:
        return ()
    return tuple(dict.fromkeys([found.address, *live_addresses(found.info)]))


def _place(settings: NodeSettings, env: Mapping[str, str]) -> NodeSettings:
    """Return the settings with the first free ports and the directory that goes with them.

    The ports are released again. Otherwise the search would send a query to our own DNS port,
    where nothing answers yet.
    """
    if "listen" in settings.given:
        return settings
    settings, sockets = bind_first_free(settings, env)
    sockets.close()
    return settings


def _bind_for_join(
    settings: NodeSettings, env: Mapping[str, str], finder: Finder
) -> tuple[NodeSettings, NodeSockets]:
    if "listen" not in settings.given:
        return bind_first_free(settings, env)
    try:
        return settings, bind_node_sockets(settings)
    except AddressTaken as error:
        raise _taken(error, finder, "--listen") from None


def _refuse_second_cluster(settings: NodeSettings, finder: Finder, env: Mapping[str, str]) -> None:
    """Refuse `start` where `join` was probably meant (contract, section 2)."""
    found = finder.find_here()
    if found:
        raise Refused(
            f"{describe(found)} is live on this machine; `hstore join` joins it\n"
            "for another cluster beside it, name this node's address or directory: "
            f"`hstore start -h {_first_free(settings, settings.listen.host, env)}`"
        )


def _refuse_itself(settings: NodeSettings, found: Found) -> None:
    """Refuse to join through the new node's own address."""
    if "listen" in settings.given and settings.api_address == found.address:
        node = member(found.info, found.address)
        raise ConfigError(
            f"a node cannot join itself: -h and --listen are both {found.address}"
            f"{f', which is {node.name}' if node else ''}; give the newcomer another --listen, "
            "or none"
        )


def _refuse_loopback(settings: NodeSettings, found: Found, env: Mapping[str, str]) -> None:
    """Refuse a node on loopback where members on other machines could not reach it."""
    if not is_loopback(settings.advertised_host):
        return
    for node in found.info.nodes:
        if not _is_at_loopback(node.address):
            own = own_address_towards(node.address)
            reachable = _first_free(settings, own, env) if own else "ADDRESS"
            replace = f" --replace {settings.replace}" if settings.replace else ""
            raise ConfigError(
                f"{node.name} at {node.address} cannot reach a node that listens on "
                f"{settings.listen.host}; use an address of this machine that it can reach: "
                f"`hstore join -h {found.address} --listen {reachable}{replace}`"
            )


def _is_at_loopback(address: str) -> bool:
    try:
        return is_loopback(values.split_address(address).host)
    except ValueError:
        return False


def _taken(error: AddressTaken, finder: Finder, option: str) -> Refused:
    """Return an error that says which program has the port, if it is a node.

    Args:
        error: The address, and which of the node's ports it is.
        finder: Asks the program at the port.
        option: The option that gives another address.
    """
    if error.role != "API":
        option = "--peer-port" if error.role == "peer" else "--dns-port"
        return Refused(
            f"the {error.role} port {error.address} is taken by another program; "
            f"choose another with {option}, or another address for the node"
        )
    try:
        found = finder.ask(str(error.address))
    except HstoreError:
        return Refused(
            f"{error.address} is taken by another program; "
            f"choose another address with {option} {error.address.host}:PORT"
        )
    return Refused(
        f"{error.address} is taken by {describe(found)}\n"
        "`hstore join` joins that cluster; another address starts a node beside it"
    )
