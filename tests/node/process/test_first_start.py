"""A new seed listens before it founds a cluster, and gives it up as long as nothing is lost by it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import memory_stream_pair

from hstore.node.config import logs
from hstore.node.config.log_limit import INTERVAL_SECONDS
from hstore.node.config.settings import load_settings
from hstore.node.discovery import claims
from hstore.node.discovery.claims import Claim
from hstore.node.errors import AddressClaimed, Refused
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.model.commands import Delete
from hstore.node.node import Life
from hstore.node.peers import wire
from hstore.node.peers.link import _PAUSE_MAX
from hstore.node.peers.wire import Purpose
from hstore.node.process import descriptors, first_start, main
from hstore.node.storage.directory import has_data
from tests.node.memory_cluster import Member, running
from tests.node.peers.test_links import greet, hello

OTHER = "ffffffffffffffff"


class Port:
    """In place of the peer port: who connects, by hand."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    def setblocking(self, _flag: bool) -> None:
        pass

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def connect(self, data: bytes = b"") -> trio.abc.Stream:
        near, far = memory_stream_pair()
        await self._send.send(far)
        if data:
            await near.send_all(data)
        return near


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    monkeypatch.setattr(first_start, "Listener", lambda port: port)
    return Port()


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    async def greeted(cluster_id: str, _address: str, _settings: object) -> Claim:
        await trio.lowlevel.checkpoint()
        return Claim(cluster_id, "hstore.local", "n1")

    monkeypatch.setattr(claims, "greeted", greeted)


def settings_of(tmp_path: Any, **flags: object) -> Any:
    return load_settings({"data_dir": str(tmp_path), **flags}, {"HOME": str(tmp_path)})


async def look(tmp_path: Any, port: Any, *greetings: bytes, after: float = 0.9) -> bool:
    async with trio.open_nursery() as nursery:
        for data in greetings:
            nursery.start_soon(port.connect, data)
        nursery.start_soon(trio.sleep, after)
        return await first_start.look_around(settings_of(tmp_path), port)


# -- before it leads -------------------------------------------------------------------------------


async def test_a_new_seed_that_nobody_greets_goes_on_after_two_redial_intervals(
    tmp_path, port, autojump_clock
):
    assert await first_start.look_around(settings_of(tmp_path), port)
    assert trio.current_time() == pytest.approx(2 * _PAUSE_MAX)
    assert _PAUSE_MAX == 0.5


@pytest.mark.parametrize("purpose", [Purpose.MESSAGES, Purpose.SNAPSHOT])
async def test_a_greeting_as_a_member_of_another_cluster_ends_a_start(
    tmp_path, port, described, purpose, autojump_clock
):
    async with trio.open_nursery() as nursery:

        async def come() -> None:
            await trio.sleep(0.9)
            # A protocol of another version says so as well.
            said = hello(cluster_id=OTHER, to=7, protocol=PROTOCOL + 1, purpose=purpose)
            near = await port.connect(wire.encode(said))
            assert await near.receive_some() == b""

        nursery.start_soon(come)
        with pytest.raises(AddressClaimed, match=f"{OTHER} of zone hstore.local"):
            await first_start.look_around(settings_of(tmp_path), port)
        assert trio.current_time() == pytest.approx(0.9)


@pytest.mark.parametrize(
    "data",
    [
        wire.encode(hello(cluster_id=OTHER, purpose=Purpose.IDENTIFY)),
        wire.encode(hello(cluster_id="no id")),
        wire.encode(hello(cluster_id=OTHER, address="nowhere")),
        wire.encode(wire.Welcome(PROTOCOL, 1, "n1", "")),
        b"GET / HTTP/1.1\r\n\r\n",
        (wire.MAX_FRAME).to_bytes(4),
        b"",
    ],
    ids=["a search", "no cluster", "no address", "no hello", "http", "too long", "silence"],
)
async def test_bytes_that_are_no_such_greeting_do_not_end_a_start(
    tmp_path, port, data, autojump_clock
):
    for _ in range(50):
        await port.connect(data)
    assert await first_start.look_around(settings_of(tmp_path), port)


async def test_connections_that_say_nothing_are_bounded(tmp_path, port, autojump_clock):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first_start.look_around, settings_of(tmp_path), port)
        for _ in range(first_start._ACCEPTED_MAX):
            await port.connect()
        await trio.sleep(0.1)
        one_more = await port.connect()
        with trio.fail_after(0.1):
            assert await one_more.receive_some() == b""


async def test_what_a_named_source_says_ends_it_and_costs_no_more_time(
    tmp_path, port, monkeypatch, autojump_clock
):
    async def find(_settings: object) -> Claim:
        await trio.sleep(0.7)
        return Claim(OTHER, "hstore.local", "n3", "10.0.0.2:8500")

    monkeypatch.setattr(claims, "find", find)
    with pytest.raises(AddressClaimed, match="leave -h n3"):
        await first_start.look_around(
            settings_of(tmp_path, **{"discovery.hosts": "10.0.0.2"}), port
        )
    assert trio.current_time() == pytest.approx(0.7)


async def test_a_signal_ends_it_at_once(tmp_path, port, autojump_clock):
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)

        nursery.start_soon(end)
        assert not await first_start.look_around(settings_of(tmp_path), port)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Who looked around; the answer is that some cluster claims the address."""
    calls: list[object] = []

    async def look_around(settings: object, _listener: object) -> bool:
        await trio.lowlevel.checkpoint()
        calls.append(settings)
        raise AddressClaimed("claimed")

    def prepare(*_args: object) -> None:
        raise Refused("went on")

    monkeypatch.setattr(first_start, "look_around", look_around)
    monkeypatch.setattr(main, "_prepare", prepare)
    monkeypatch.setattr(logs, "configure", lambda _level, _form: None)
    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    before = os.umask(0o022)
    yield calls
    os.umask(before)


class _Sockets:
    peer = None


def serve(settings: Any, mode: Any) -> int:
    sockets: Any = _Sockets()
    return main.serve(settings, sockets, mode)


def test_a_refused_start_leaves_the_directory_as_it_was(tmp_path, looked, capsys):
    assert serve(settings_of(tmp_path), "start") == 1
    assert "claimed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["new_cluster", "used", "join"])
def test_only_a_founder_without_new_cluster_looks_around(tmp_path, looked, capsys, case):
    if case == "used":
        (tmp_path / "db").mkdir()
        assert has_data(tmp_path)
    settings = settings_of(tmp_path, new_cluster=case == "new_cluster")
    serve(settings, "join" if case == "join" else "start")
    assert looked == []
    assert "went on" in capsys.readouterr().err


# -- after it leads --------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


async def dial(member: Member, said: wire.Hello) -> None:
    """Dial a node by hand; its own tasks serve the connection."""
    near, far = memory_stream_pair()
    assert member.listener.serve is not None
    member.listener.serve(far)
    await near.send_all(wire.encode(said))


async def test_a_founder_that_is_greeted_before_anybody_wrote_gives_its_cluster_up(autojump_clock):
    async with running(1) as cluster:
        one = cluster[1]
        await trio.sleep(60)  # it may compare states with itself, and be elected again meanwhile
        await dial(one, hello(cluster_id=OTHER, address="10.0.0.2:8300"))
        await one.ended.wait()
        error = one.take_error()
        assert isinstance(error, AddressClaimed)
        assert (error.cluster_id, error.said_by) == (OTHER, "10.0.0.2:8300")


@pytest.mark.parametrize("kind", ["write", "delete", "member", "restart", "setting", "rename"])
async def test_a_cluster_that_would_lose_something_is_kept_and_raises_the_alarm(
    autojump_clock, logged, kind
):
    async with running(2 if kind == "member" else 1) as cluster:
        one = cluster[1]
        deadline = trio.current_time() + 5
        if kind == "write":
            await cluster.write(1, "k", "v")
        elif kind == "delete":
            await one.node.keys.write(Delete(b"k"), deadline)
        elif kind == "setting":
            await one.node.settings.change("dns_ttl", "2s", deadline)
        elif kind == "rename":
            await one.node.settings.rename("", "other", deadline)
        elif kind == "restart":
            one.crash()
            one.is_founder = False
            await trio.sleep(0.1)
            await one.start()
            await cluster.until(lambda: one.is_leader)
        for _ in range(20):
            await greet(cluster, hello(cluster_id=OTHER, address="10.0.0.2:8300"))
        assert one.node.alarms.holding() == ["address_claimed"]
        lines = [line for line in logged if line["event"] == "address_claimed"]
        assert [(line["log_level"], line["other_cluster"]) for line in lines] == [("error", OTHER)]
        assert lines[0]["cluster"] == one.node.links.me.cluster_id
        assert not one.ended.is_set()
        if kind != "write":
            return
        await trio.sleep(INTERVAL_SECONDS + 1)
        assert one.node.alarms.holding() == []
        await greet(cluster, hello(cluster_id=OTHER))
        assert len([line for line in logged if line["event"] == "address_claimed"]) == 2


async def test_a_search_of_another_cluster_and_nonsense_are_no_claim(autojump_clock):
    async with running(1) as cluster:
        await greet(cluster, hello(cluster_id=OTHER, purpose=Purpose.IDENTIFY))
        await greet(cluster, hello(cluster_id="\x1b[31m" * 20))
        await trio.sleep(1)
        assert not cluster[1].ended.is_set()
        assert cluster[1].node.alarms.holding() == []


async def test_a_write_that_is_acknowledged_is_never_given_up_with_the_cluster(autojump_clock):
    """The greeting comes at each possible step of the write, and before it."""
    outcomes = set()
    for steps in range(-10, 30):
        async with running(1, seed=steps) as cluster:
            one = cluster[1]
            acknowledged: list[bool] = []

            async def write(
                cluster: Any = cluster, acknowledged: list[bool] = acknowledged
            ) -> None:
                with trio.move_on_after(2):
                    await cluster.write(1, "k", "v")
                    acknowledged.append(True)

            async with trio.open_nursery() as nursery:
                both: list[Callable[[], Awaitable[None]]] = [
                    partial(dial, one, hello(cluster_id=OTHER)),
                    write,
                ]
                first, second = both if steps < 0 else reversed(both)
                nursery.start_soon(first)
                for _ in range(abs(steps)):
                    await trio.lowlevel.checkpoint()
                nursery.start_soon(second)
                await trio.sleep(1)
                is_given_up = one.ended.is_set()
                if is_given_up:
                    assert isinstance(one.take_error(), AddressClaimed)
                assert bool(acknowledged) != is_given_up
                outcomes.add(is_given_up)
                nursery.cancel_scope.cancel()
    assert outcomes == {False, True}


def test_a_life_is_not_of_a_founder_by_default() -> None:
    assert not Life(1).is_founder
