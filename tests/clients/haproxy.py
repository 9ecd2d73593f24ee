"""HAProxy before a service that it finds by SRV records, while instances come, fail, die and go.

Each instance has a loopback address of its own, is registered through one of three members with an
HTTP check, and says which address it was asked at. One that is sick fails its check and serves on, one
that dies lets its port go at once, and one that goes is deregistered and lets its port go some seconds
later, as it should. Meanwhile a client makes a request every 10 ms: none may fail.

HAProxy is set up as docs/services.md has it.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import trio

from hstore.dns.client import exchange
from hstore.dns.records import RRType, name_of
from tests.system.cluster import Cluster, eventually
from tests.system.place import free_base

from . import place
from .outcome import Outcome, Unavailable

NAME = "haproxy"

_PAUSE_S = 0.01
_WITHIN_S = 30.0
_ROUNDS, _LONG_ROUNDS = 2, 10
_FEW, _MOST = 3, 60
_TURNS = 90
"""Requests after which each of sixty has had its turn."""

_DRAIN_S = 5.0
"""From its deregistration to the end of an instance: HAProxy asks every second."""

_SERVICE = "web"

_CONFIG = """
global
    maxconn 200
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers hstore-dns
{nameservers}
    hold valid 1s
    accepted_payload_size 8192
frontend front
    bind 127.0.0.1:{front}
    default_backend web
backend web
    option redispatch
    retries 3
    default-server check inter 1s fall 2 rise 1
    default-server resolvers hstore-dns init-addr none resolve-prefer ipv4
    server-template web 60 _web._tcp.service.hstore.local
"""


def install() -> str:
    """Return where HAProxy is.

    Raises:
        Unavailable: It is not installed.
    """
    found = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        raise Unavailable("no haproxy: apt-get install haproxy")
    return found


def version() -> str:
    """Return the version that is installed; empty: none is."""
    try:
        said = subprocess.run([install(), "-v"], capture_output=True, text=True, check=False).stdout
    except Unavailable:
        return ""
    found = re.search(r"version (\d+\.\d+\.\d+)", said)
    return found[1] if found else ""


class _Instances:
    """All instances: listeners on one port, each on an address of its own, in a loop of their own.

    Attributes:
        port: On which they listen.
        sick: The numbers of those whose check fails.
    """

    def __init__(self) -> None:
        self.port = free_base(1)
        self.sick: set[int] = set()
        self._scopes: dict[int, trio.CancelScope] = {}
        self._is_up = threading.Event()
        threading.Thread(target=trio.run, args=[self._run], daemon=True).start()  # noqa: TID251
        self._is_up.wait(10)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._is_up.set()
            await trio.sleep_forever()

    def open(self, number: int) -> None:
        """Have an instance listen."""
        trio.from_thread.run(self._open, number, trio_token=self._token)

    def close(self, number: int, *, after: float = 0.0) -> None:
        """End an instance, at once or so many seconds later."""
        trio.from_thread.run_sync(self._close, number, after, trio_token=self._token)

    def end(self) -> None:
        """End all of them."""
        trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)

    async def _open(self, number: int) -> None:
        leaving = self._scopes.get(number)
        if leaving is not None:
            # It comes back before its port was let go, and keeps it.
            leaving.deadline = math.inf
            return
        listeners = await trio.open_tcp_listeners(self.port, host=_host(number))
        self._scopes[number] = scope = trio.CancelScope()
        self._nursery.start_soon(self._serve, number, listeners, scope)

    def _close(self, number: int, after: float) -> None:
        scope = self._scopes[number] if after else self._scopes.pop(number)
        scope.deadline = trio.current_time() + after

    async def _serve(
        self, number: int, listeners: list[trio.SocketListener], scope: trio.CancelScope
    ) -> None:
        with scope:
            await trio.serve_listeners(partial(self._answer, number), listeners)
        if self._scopes.get(number) is scope:
            del self._scopes[number]

    async def _answer(self, number: int, stream: trio.SocketStream) -> None:
        try:
            said = await stream.receive_some(4096)
            is_sick = said.startswith(b"GET /health ") and number in self.sick
            status = b"503 Service Unavailable" if is_sick else b"200 OK"
            host = _host(number).encode()
            await stream.send_all(b"HTTP/1.0 %b\r\n\r\n%b" % (status, host))
            await stream.aclose()
        except trio.BrokenResourceError:
            pass  # HAProxy's own checks connect, and no more.


class _Client(threading.Thread):  # noqa: TID251 - there is no event loop here
    """Makes a request through HAProxy every 10 ms, and remembers who answered.

    Attributes:
        answers: Who has answered, in this order.
        failed: What each request said that was not answered with 200.
        count: How many there were.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._is_ending = threading.Event()
        self.answers: list[str] = []
        self.failed: list[str] = []
        self.count = 0

    def run(self) -> None:
        while not self._is_ending.wait(_PAUSE_S):
            self.count += 1
            try:
                self.answers.append(ask_once(self._port))
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))

    def end(self) -> None:
        self._is_ending.set()
        self.join(10)


def ask_once(port: int) -> str:
    """Make one request; return the address of the instance that answered it.

    Raises:
        OSError, http.client.HTTPException: It was not answered, or not with 200.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        said = answer.read().decode()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status} {said[:60]!r}")
        return said


class _World:
    """A cluster, the instances of one service, and HAProxy before them."""

    def __init__(self, cluster: Cluster, instances: _Instances, front: int) -> None:
        self._cluster = cluster
        self._instances = instances
        self.front = front

    def come(self, number: int) -> None:
        """An instance starts, and is registered."""
        self._instances.open(number)
        body = {
            "Name": _SERVICE,
            "ID": f"{_SERVICE}-{number}",
            "Address": _host(number),
            "Port": self._instances.port,
            "Check": {
                "HTTP": f"http://{_host(number)}:{self._instances.port}/health",
                "Interval": "1s",
                "Status": "passing",
            },
        }
        self._put(number, "register", json.dumps(body).encode())

    def go(self, number: int) -> None:
        """An instance is deregistered, and ends when those who still ask it have heard of it."""
        self._put(number, f"deregister/{_SERVICE}-{number}", b"")
        self._instances.close(number, after=_DRAIN_S)

    def die(self, number: int) -> None:
        """An instance ends at once."""
        self._instances.close(number)

    def live_again(self, number: int) -> None:
        """One that died has been started again."""
        self._instances.open(number)

    def _put(self, number: int, what: str, body: bytes) -> None:
        node = self._cluster.nodes[number % len(self._cluster.nodes)]
        answer = node.request("PUT", f"/v1/agent/service/{what}", body)
        if answer.status != 200:
            raise AssertionError(f"{what}: {answer.status} {answer.body[:100]!r}")

    def set_sick(self, number: int, *, is_sick: bool) -> None:
        sick = self._instances.sick
        sick.add(number) if is_sick else sick.discard(number)

    def srv_records(self) -> tuple[int, bool]:
        """Return how many there are in one answer by UDP, and whether it was cut."""
        name = name_of(f"_{_SERVICE}._tcp.service.hstore.local")
        server = "127.0.0.1", self._cluster.nodes[0].dns_port
        reply = trio.run(exchange, server, name, RRType.SRV)
        return len(reply.answers), reply.truncated


def _host(number: int) -> str:
    return f"127.0.2.{number}"


@contextmanager
def _world() -> Iterator[_World]:
    instances = _Instances()
    with place.three() as cluster:
        front = free_base(1)
        nameservers = "\n".join(
            f"    nameserver {number} 127.0.0.1:{node.dns_port}"
            for number, node in enumerate(cluster.nodes)
        )
        config = Path(cluster.nodes[0].directory).parent / "haproxy.cfg"
        config.write_text(_CONFIG.format(nameservers=nameservers, front=front))
        process = subprocess.Popen([install(), "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
        try:
            yield _World(cluster, instances, front)
        finally:
            process.kill()
            process.wait(5)
            instances.end()
        cluster.assert_no_traceback()


def run(*, is_long: bool) -> Outcome:
    """Run all of it; six times where it may take long."""
    outcome = Outcome(NAME, version())
    with _world() as world:
        try:
            for number in (1, 2, 3):
                world.come(number)
            eventually(lambda: ask_once(world.front), "HAProxy has found an instance", _WITHIN_S)
        except AssertionError as error:
            outcome.add("three instances are found", str(error))
            return outcome
        client = _Client(world.front)
        client.start()
        for _ in range(_LONG_ROUNDS if is_long else _ROUNDS):
            _round(world, client, outcome)
        client.end()
        fault = f"{len(client.failed)}, such as {client.failed[0]}" if client.failed else ""
        outcome.add("no request fails", fault)
        # A step of several rounds counts once.
        outcome.passed = [
            name for name in dict.fromkeys(outcome.passed) if name not in outcome.failed
        ]
        outcome.note = f"{client.count:,} requests"
    return outcome


def _round(world: _World, client: _Client, outcome: Outcome) -> None:
    """Have instances come, fail and go; it begins and ends with three of them."""
    everything = {*range(1, _MOST + 1)}
    _step(outcome, client, "three instances are asked", {1, 2, 3}, lambda: None)
    sick = "one whose check fails is not"
    _step(outcome, client, sick, {1, 3}, lambda: world.set_sick(2, is_sick=True))
    well = "and is again when it is well"
    _step(outcome, client, well, {1, 2, 3}, lambda: world.set_sick(2, is_sick=False))
    _step(outcome, client, "one that dies is not", {1, 2}, lambda: world.die(3))
    again = "and is again when it has been started"
    _step(outcome, client, again, {1, 2, 3}, lambda: world.live_again(3))

    def fill() -> None:
        for number in everything - {1, 2, 3}:
            world.come(number)

    _step(outcome, client, "sixty instances are asked", everything, fill)
    # Without HAProxy's size they are cut, and with it they are not: it asks for all of them.
    count, is_cut = world.srv_records()
    fault = "" if is_cut and 0 < count < _MOST else f"{count} records, cut: {is_cut}"
    outcome.add("an answer to a client that takes less is cut", fault)

    def empty() -> None:
        for number in everything - {1, 2, 3}:
            world.go(number)

    _step(outcome, client, "those that go are not asked any more", {1, 2, 3}, empty)


def _step(
    outcome: Outcome,
    client: _Client,
    name: str,
    numbers: set[int],
    change: Callable[[], None],
) -> None:
    """Change something, and wait until exactly these instances answer, each when its turn comes."""
    expected = {_host(number) for number in numbers}

    def is_so() -> bool:
        begun = len(client.answers)
        turns = _TURNS if len(numbers) > _FEW else _FEW * 10
        eventually(lambda: len(client.answers) >= begun + turns, "requests are answered")
        return {*client.answers[begun:]} == expected

    try:
        change()
        eventually(is_so, name, _WITHIN_S)
    except AssertionError as error:
        outcome.add(name, str(error))
    else:
        outcome.add(name)
