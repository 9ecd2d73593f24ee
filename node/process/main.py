"""The process of a node: directory, listeners, signals, and how it ends.

Only `serve` is called from outside. Lifetimes nest: the storage outlives the node, the node outlives
its listeners; what accepts from outside stops first.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Literal

import structlog
import trio

from hstore.dns.finder import PEER, Source
from hstore.dns.ip_literals import is_loopback
from hstore.dns.recursor import Recursor
from hstore.dns.server import DnsServer
from hstore.dns.view import ClusterView

from ..api.http.server import ApiServer
from ..api.routes import ROUTES
from ..checks.probes import CheckSettings
from ..config import logs
from ..config.settings import NodeSettings, refuse_own_dns_among_recursors
from ..discovery import announce, saved_members
from ..discovery.joining import ask_to_join, find_cluster
from ..discovery.rediscovery import Rediscovery
from ..discovery.sources import sources
from ..errors import AddressClaimed, HstoreError, NoLeader, Refused, StorageError
from ..metrics.statistics.saved import Saved
from ..model.values import split_address
from ..net.sockets import NodeSockets
from ..net.stream import Listener, connect
from ..node import Life, Node
from ..raft import membership
from ..raft.entry import Entry, EntryKind, HardState
from ..raft.errors import CoreBug
from ..raft.membership import Configuration
from ..storage.directory import has_data, remove_data
from ..storage.interface import Identity
from ..storage.rocks import RocksStorage
from . import cutoff, descriptors, first_start, log_file, log_sink
from .announcing import keep_announced
from .launch import AGAIN, Launch

Mode = Literal["start", "join"]

_NAME_SECONDS = 2.0
"""For a new node to get its name, before it says without one that it serves."""

_STOP_SECONDS = 2.5
"""For the last frames to peers, and the requests that are open."""

_CLOSE_SECONDS = 2.0
"""For the storage to close, then the process ends all the same: what was acknowledged is durable.
However long this and `_STOP_SECONDS` take, `cutoff` keeps to the 5 s of the contract."""

_log = structlog.get_logger()


def serve(
    settings: NodeSettings,
    sockets: NodeSockets,
    mode: Mode,
    join_to: tuple[str, ...] = (),
    launch: Launch | None = None,
) -> int:
    """Run a node until it is stopped; return the exit status, or `AGAIN`.

    Args:
        settings: The node's own settings.
        sockets: Bound and listening; closed when this returns.
        mode: `start` creates a cluster in an unused directory, `join` joins one.
        join_to: API addresses of members, for a node that has not joined yet.
        launch: How this process was started; None: no run record is written.

    Errors end up on standard error in a line or two, never as a traceback, and in the status: 1
    when the storage or consensus fails, 2 for a wrong configuration.
    """
    logs.configure(settings.log_level, settings.log_format)
    os.umask(0o077)  # RocksDB would let every user read its files
    descriptors.raise_limit()
    try:
        _warn_of_few(descriptors.shares_of(settings).limit)
        refuse_own_dns_among_recursors(settings)
        is_founder = mode == "start" and not has_data(settings.data_dir)
        looks = is_founder and not settings.new_cluster
        if looks and not trio.run(first_start.look_around, settings, sockets.peer):
            return 0
        storage, hints = _prepare(settings, mode, join_to)
        return trio.run(
            partial(_run, settings, sockets, storage, hints, launch, is_founder=is_founder)
        )
    except (HstoreError, CoreBug) as error:
        return _fail(error, settings)
    except BaseExceptionGroup as group:
        cause = _cause(group)
        if isinstance(cause, AddressClaimed):
            return _fail(_give_up(cause, settings, launch), settings)
        if isinstance(cause, (HstoreError, CoreBug)):
            return _fail(cause, settings, doing="the node stops: ")
        raise


def _fail(error: HstoreError | CoreBug, settings: NodeSettings, doing: str = "") -> int:
    """Say why the node ends, and return the exit status."""
    status = 1
    if isinstance(error, HstoreError):
        message, status = f"{doing}{error}", error.exit_code
    else:
        message = (
            f"the node stops, because an invariant of consensus is broken: {error}\n"
            f"keep {settings.data_dir} as it is, and report this"
        )
    sys.stderr.write(f"{logs.last_words(message)}\n")
    return status


def _give_up(
    error: AddressClaimed, settings: NodeSettings, launch: Launch | None
) -> AddressClaimed:
    """Remove the data of a cluster that was founded in vain; return why, in full."""
    if launch:
        launch.forget(settings)
    try:
        remove_data(settings.data_dir)
    except StorageError as problem:
        return AddressClaimed(f"{error}\n{problem}: remove its content by hand")
    return trio.run(first_start.explain, error, settings)


def _cause(error: BaseException) -> BaseException:
    """Return the error that matters among those of tasks that ended together."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup((HstoreError, CoreBug))
        error = (known or error).exceptions[0]
    return error


def _warn_of_few(limit: int) -> None:
    if limit < descriptors.FEW:
        _log.warning(
            "few files may be open at once",
            limit=limit,
            wanted=descriptors.FEW,
            hint="raise the limit (ulimit -n, LimitNOFILE=)",
        )


# -- the directory --------------------------------------------------------------------------


def _prepare(
    settings: NodeSettings, mode: Mode, join_to: tuple[str, ...]
) -> tuple[RocksStorage, dict[int, str]]:
    """Open the directory, made a member's if it is new; return it with peer addresses to begin with."""
    path = settings.data_dir
    if has_data(path):
        return _resume(settings, mode, join_to)
    if mode == "start":
        _found_cluster(settings)
        return _open(settings), {}
    if not join_to:
        raise NoLeader("no cluster was found to join")
    identity = Identity(find_cluster(join_to), _new_node_id())
    RocksStorage.create(path, identity)
    try:
        hints = ask_to_join(settings, identity, join_to)
    except Refused:
        # No member knows this id: the directory is as good as unused, and should be.
        remove_data(path)
        raise
    return _open(settings), hints


def _resume(
    settings: NodeSettings, mode: Mode, join_to: tuple[str, ...]
) -> tuple[RocksStorage, dict[int, str]]:
    """Resume a used directory; one whose join was cut short asks again, under the same id."""
    path = settings.data_dir
    storage = _open(settings, find_cluster(join_to) if join_to else None)
    found = storage.load()
    if found.entries or found.snapshot.index:
        return storage, {}
    if mode == "start":
        raise Refused(
            f"{path} is of a node that had begun to join a cluster: "
            f"`hstore join --listen {settings.listen} --data-dir {path}` finishes that; or choose "
            "another --data-dir"
        )
    if not join_to:
        raise NoLeader("no cluster was found to join")
    return storage, ask_to_join(settings, storage.identity, join_to)


def _open(settings: NodeSettings, cluster_id: str | None = None) -> RocksStorage:
    return RocksStorage.open(
        settings.data_dir,
        cache_bytes=settings.cache_mb << 20,
        tables_open=descriptors.shares_of(settings).tables,
        expect_cluster=cluster_id,
    )


def _found_cluster(settings: NodeSettings) -> None:
    """Create a cluster of one: its first entry is the configuration with this node alone."""
    identity = Identity(secrets.token_hex(8), _new_node_id())
    config = membership.encode(Configuration(voters=(identity.node_id,)))
    first = Entry(1, 1, EntryKind.CONFIG, config)
    RocksStorage.create(
        settings.data_dir, identity, hard_state=HardState(1, identity.node_id, 1), entries=[first]
    )


def _new_node_id() -> int:
    return 1 + secrets.randbelow(2**64 - 1)


# -- the process ----------------------------------------------------------------------------


async def _run(
    settings: NodeSettings,
    sockets: NodeSockets,
    storage: RocksStorage,
    hints: dict[int, str],
    launch: Launch | None,
    *,
    is_founder: bool,
) -> int:
    try:
        node = Node(
            storage,
            address=settings.api_address,
            dial=_dial,
            rng=Random(SystemRandom().getrandbits(64)),  # noqa: S311 - timeouts, not secrets
            # A cluster that was asked for by --new-cluster is never given up.
            life=Life(
                secrets.randbits(64),
                is_founder and not settings.new_cluster,
                str(settings.data_dir),
                CheckSettings(settings.checks_script, settings.checks_deny),
            ),
            name=settings.name,
            peer_address=settings.peer_address,
            log_level=settings.log_level,
        )
        await _run_node(node, settings, sockets, hints, launch)
    except BaseException:
        # The first error says why the node stops. On a full disk closing fails as well, and must not
        # be what its user reads.
        with suppress(StorageError):
            await _close(storage)
        raise
    await _close(storage)
    if launch and node.process.was_removed:
        launch.forget(settings)
    if node.process.was_removed and not node.replica.heard:
        # All peers refused it; a node that is removed while it runs has done as it was told.
        raise Refused(
            f"{settings.data_dir} is of a node that was removed from its cluster for good: "
            "`hstore join` with another --data-dir makes a new member"
        )
    _log.info("stopped", why=node.process.stop_reason)
    return AGAIN if node.process.begins_anew else 0


async def _close(storage: RocksStorage) -> None:
    with trio.move_on_after(_CLOSE_SECONDS, shield=True):
        await storage.close()


async def _keep_history(node: Node, directory: Path) -> None:
    """Have the statistics and the timeline of earlier runs again, and save both, until cancelled."""
    timeline, disk_space = node.status.timeline, node.replica.disk_space
    has_room = lambda: not disk_space.is_short  # noqa: E731 - both ask the same
    happened = Saved(
        directory / "timeline",
        "timeline",
        1,
        pack=timeline.pack,
        unpack=timeline.unpack,
        has_room=has_room,
    )
    await happened.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(happened.keep)
        await node.statistics.run(directory, has_room)


async def _run_node(
    node: Node,
    settings: NodeSettings,
    sockets: NodeSockets,
    hints: dict[int, str],
    launch: Launch | None,
) -> None:
    rng = Random(SystemRandom().getrandbits(64))  # noqa: S311 - pauses, not secrets
    api, dns = _servers(node, settings, sockets)

    def show(view: ClusterView | None) -> None:
        dns.view = view

    logs.know_members(node.process.name_of)
    node.status.on_view = show
    node.status.on_contact = dns.renew
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wait_for_signals, node, bool(launch and launch.log_file))
        nursery.start_soon(_wait_for_kill, node)
        await nursery.start(node.run, hints)
        await nursery.start(_serve_peers, node, sockets.peer)
        await nursery.start(dns.run)
        _settle_memory()
        api_done = trio.Event()
        await nursery.start(_serve_api, api, sockets.api, api_done)
        nursery.start_soon(keep_announced, node, settings)
        nursery.start_soon(saved_members.keep, node, settings.data_dir, _warn_of_unsaved)
        nursery.start_soon(_keep_history, node, settings.data_dir)
        nursery.start_soon(Rediscovery(node, _peer_sources(node, settings, launch), rng).run)
        if announce.is_wanted(settings):
            await nursery.start(announce.run, node, settings, rng)
        if launch:
            nursery.start_soon(launch.keep_record, node, settings)
            if launch.log_file:
                nursery.start_soon(log_file.keep_bounded, Path(launch.log_file))
        nursery.start_soon(_say_serving, node, settings)
        if not is_loopback(settings.listen.host):
            _log.warning(
                "nothing is encrypted or authenticated yet",
                hint="listen on trusted networks only",
            )
        await node.process.stop_requested.wait()
        _log.info("stopping", why=node.process.stop_reason)
        dns.stop_holding()
        if not node.process.begins_anew:
            cutoff.end_within(
                node.process.stop_began_at + cutoff.STOP_SECONDS - trio.current_time()
            )
        with trio.move_on_after(_STOP_SECONDS):
            await node.say_goodbye()
            api.close()
            await api_done.wait()
        nursery.cancel_scope.cancel()


async def _say_serving(node: Node, settings: NodeSettings) -> None:
    """Log that the node serves; with its name, which a new one gets within a moment."""
    status, own = node.status, node.replica.facts.id
    with trio.move_on_after(_NAME_SECONDS):
        while not node.process.name:
            await status.wait_change(status.structure)
    named = {"member": own} if node.process.name else {"id": f"{own:016x}"}
    _log.info(
        "serving",
        **named,
        api=settings.api_address,
        peer=settings.peer_address,
        dns=settings.dns_address,
        data=str(settings.data_dir),
    )


def _peer_sources(node: Node, settings: NodeSettings, launch: Launch | None) -> list[Source]:
    return sources(
        settings.discovery,
        settings.data_dir,
        launch.env if launch else {},
        service=PEER,
        cluster_id=node.replica.storage.identity.cluster_id,
    )


def _servers(
    node: Node, settings: NodeSettings, sockets: NodeSockets
) -> tuple[ApiServer, DnsServer]:
    """Make the servers of a node, each with its share of the file descriptors."""
    shares = descriptors.shares_of(settings)
    node.links.accepted_max = shares.peers
    api = ApiServer(
        node.backend,
        ROUTES,
        http_hosts=settings.http_hosts,
        connections_max=shares.requests,
        streams_max=shares.streams,
        refusals_max=shares.refused,
        poller=node.poller,
    )
    recursor = None
    if settings.recursors:
        recursor = Recursor(settings.recursors, in_flight_max=shares.recursors)
    dns = DnsServer(
        sockets.dns_udp,
        sockets.dns_tcp,
        lookup=node.dns_lookup(),
        recursor=recursor,
        connections_max=shares.dns,
        is_current=node.status.in_contact,
    )
    dns.counts.times = node.figures.dns_seconds
    sink = log_sink.installed()
    if sink is not None:
        node.figures.log_lines_dropped = lambda: sink.dropped
    node.figures.http, node.figures.dns = api.answered, dns
    return api, dns


def _settle_memory() -> None:
    """Keep the collector of cycles from what is here to stay, and from looking too often.

    Requests leave next to no cycles; by default a look at the youngest objects is due every 700
    that are kept, and of the oldest ones, which is a pause, some hundred times as seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_YOUNG, 20, 50)


_GC_YOUNG = 20_000


async def _serve_api(
    api: ApiServer,
    listener: socket.socket,
    done: trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    await api.run([listener], task_status=task_status)
    done.set()


async def _serve_peers(
    node: Node,
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    listener.setblocking(False)
    listening = Listener(listener)
    async with trio.open_nursery() as connections:
        task_status.started()
        while True:
            connections.start_soon(node.links.serve, await listening.accept())


async def _dial(address: str) -> trio.abc.Stream:
    """Open a TCP connection to `HOST:PORT`, where HOST is an IP literal."""
    return await connect(*split_address(address))


async def _wait_for_signals(node: Node, in_background: bool) -> None:
    # nohup(1) has it ignored: the node shall outlive the terminal that it was started at.
    outlives_terminal = in_background or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP and outlives_terminal:
                continue
            if node.process.stop_requested.is_set():
                # The second signal. What was acknowledged is durable: a crash is safe.
                os._exit(1)
            node.process.request_stop(signal.Signals(number).name)


async def _wait_for_kill(node: Node) -> None:
    await node.process.kill_requested.wait()
    await trio.sleep(_KILL_DELAY)
    os.kill(os.getpid(), signal.SIGKILL)


_KILL_DELAY = 0.05
"""Seconds for the answer to the client that asked the node to leave."""


def _warn_of_unsaved(error: OSError) -> None:
    _log.warning("the members' addresses could not be saved", error=str(error))
