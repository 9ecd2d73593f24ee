"""`hstore restart`: a running node restarts in place, one that has ended in the background.

In place means in the same process, which keeps its id, terminal, supervisor and log. A node that has
ended is started with the command line and the variables of its run record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hstore.node.config.settings import load_settings
from hstore.node.config.sources import VARIABLE_PREFIX
from hstore.node.discovery import run_record
from hstore.node.errors import Refused
from hstore.node.model.cluster_info import ClusterInfo
from hstore.node.process.launch import LogStart
from hstore.node.storage.directory import has_data

from ..client.api import REQUEST_TIMEOUT_S
from ..client.errors import NothingListens, Unreachable
from ..options import flags, split
from ..search.find import describe as describe_cluster
from ..search.find import member
from ..search.here import elsewhere, explained, is_this_machine
from .background import last_words, print_healthy, run_in_background
from .healthy import Part, wait_healthy

if TYPE_CHECKING:
    from hstore.node.discovery.run_record import RunRecord

    from ..search.find import Found
    from ..search.local import NamedNode

# A clean stop takes at most 5 s (contract, section 3).
_GONE_S = 8.0

_PAUSE_S = 0.05


def restart_node(
    node: NamedNode,
    env: Mapping[str, str],
    commands: Mapping[str, click.Command],
    *,
    as_json: bool = False,
) -> int:
    """Restart a node, and print where it is once it is healthy; return the exit status.

    Args:
        node: The node.
        env: The environment of one that has to be started.
        commands: Those of `hstore`, by name: they parse the command line of the node's run record.
        as_json: Print an object.

    Raises:
        Unreachable: Its process runs, but does not answer.
        Refused: It cannot be started, or is not healthy in time; the message says why.
    """
    found = _answer(node)
    if found:
        return _in_place(node, found, commands, as_json=as_json)
    return _again(node, env, as_json=as_json)


def _answer(node: NamedNode) -> Found | None:
    """Return the cluster as the node sees it; None when the node has ended.

    Raises:
        Unreachable: It runs and does not answer.
        Refused: Another node has its address.
    """
    clock = node.finder.clock
    end = clock.now() + _GONE_S
    while True:
        try:
            found = node.finder.wait_for(node.address, wait_s=0)
        except NothingListens:
            # A node that stops closes its sockets first and its database after them: wait for that.
            if not node.is_running_here:
                return None
        except Unreachable:
            if not node.is_running_here:
                raise
        else:
            own = member(found.info, node.address)
            if node.is_by_name and node.record and own and own.id != node.record.node_id:
                raise Refused(
                    f"{node.said} has ended, and {node.address} is taken by "
                    f"{describe_cluster(found)} now"
                )
            return found
        if clock.now() >= end:
            raise Unreachable(
                f"{node} does not answer, but its process runs; "
                f"`hstore kill -h {node.address}` ends it, then restart it"
            )
        clock.sleep(_PAUSE_S)


def _in_place(
    node: NamedNode, found: Found, commands: Mapping[str, click.Command], *, as_json: bool
) -> int:
    """Have the node restart in its own process, and wait until it is healthy."""
    record = node.record if node.is_running_here else None
    log = None
    if record:
        _check_settings(record, commands)
        log = _log_of(record)
    with node.finder.connect(node.address, REQUEST_TIMEOUT_S) as watcher:
        events = watcher.events()
        next(events)
        with (
            explained(node.address, f"hstore restart -h {node.address}"),
            node.finder.connect(node.address, REQUEST_TIMEOUT_S) as client,
        ):
            client.restart()
        # The stream of events ends when the node stops; whatever answers after that has restarted.
        _wait_end(node, events)

    def check() -> None:
        if record and not node.is_running_here:
            words = last_words(log).removeprefix("hstore: ") if log else ""
            raise Refused(f"{node} has stopped, but did not start again{words and f': {words}'}")

    part = Part.of(record) if record else _part_of(node, found)
    print_healthy(wait_healthy(part, node.finder, check), record, as_json=as_json)
    return 0


def _check_settings(record: RunRecord, commands: Mapping[str, click.Command]) -> None:
    """Check that a node will be able to read its settings, before it stops in order to restart.

    Raises:
        ConfigError: Its configuration file has become invalid since it started.
    """
    command, *words = record.arguments
    context = commands[command].make_context(command, words)
    _, settings = split(context.params)
    load_settings(flags(settings), record.variables)


def _wait_end(node: NamedNode, events: Iterator[ClusterInfo]) -> None:
    end = node.finder.clock.now() + _GONE_S
    # The node sends an event at least once a second, so the clock is read often enough.
    with contextlib.suppress(Unreachable):
        for _ in events:
            if node.finder.clock.now() >= end:
                break
        raise Refused(
            f"{node} was asked to restart, but after {_GONE_S:g} s it still runs as before; "
            f"`hstore kill -h {node.address}` ends it"
        )


def _part_of(node: NamedNode, found: Found) -> Part:
    """Return what is expected of a node without a record: its present name, id and type."""
    own = member(found.info, node.address)
    if own is None:
        return Part("", node.address)
    return Part(own.name, node.address, own.id, learner=not own.voter)


def _again(node: NamedNode, env: Mapping[str, str], *, as_json: bool) -> int:
    """Start a node that has ended, with the settings of its run record."""
    record = node.record
    if record is None and not is_this_machine(node.address):
        raise elsewhere(
            f"no node runs at {node.address}, and a node is started on its own machine only",
            node.address,
            f"hstore restart -h {node.said}",
        )
    if record is None:
        raise Refused(
            f"no node runs at {node.address}, and none is recorded as one that ran there on this "
            f"machine ({run_record.folder(env)}); `hstore start -h {node.address} --data-dir DIR "
            "--daemon` starts the node of the directory DIR there"
        )
    _refuse_other(node, record)
    if not has_data(Path(record.data_dir)):
        raise Refused(
            f"{record.name or 'the node'} at {node.address} cannot start again: its data directory "
            f"{record.data_dir} is gone or empty; `hstore leave -h {node.said}`, typed where a "
            "member runs, takes it off the cluster's list"
        )
    own = {name: value for name, value in env.items() if not name.startswith(VARIABLE_PREFIX)}
    directory = record.directory if Path(record.directory).is_dir() else record.data_dir
    return run_in_background(
        [*record.arguments, "--resume"],
        own | record.variables,
        directory=directory,
        as_json=as_json,
    )


def _refuse_other(node: NamedNode, record: RunRecord) -> None:
    """Refuse to start what ran at an address earlier, where a live cluster has another member there.

    Such as one of a demo, which is not recorded: its node would find a stranger at its address.

    Raises:
        Refused: There is one.
    """
    found = None if node.is_by_name else node.finder.find_if_any()
    there = member(found.info, node.address) if found else None
    if found and there and there.id != record.node_id:
        raise Refused(
            f"{there.name} of {describe_cluster(found)} has the address {node.address}, and is not "
            f"recorded as one that ran on this machine; what ran there before is {record.name} of "
            f"cluster {record.cluster_id}: `hstore restart -h {record.name}` starts that"
        )


def _log_of(record: RunRecord) -> LogStart | None:
    try:
        size = Path(record.log_file).stat().st_size if record.log_file else 0
    except OSError:
        size = 0
    return LogStart(record.log_file, size) if record.log_file else None
