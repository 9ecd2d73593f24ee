"""HAProxy before a service that it finds by SRV records, while instances come, fail and go.

Each instance has a loopback address of its own, is registered through one of three members with an
HTTP check, and says which address it was asked at. Meanwhile a client makes a request every 10 ms:
none may fail.
"""

from __future__ import annotations

import http.client
import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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
_ROUNDS, _LONG_ROUNDS = 1, 6
_MOST = 60
_SERVICE = "web"

_CONFIG = """
global
    maxconn 200
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    retries 2
    option redispatch 1
resolvers hstore-dns
{nameservers}
    accepted_payload_size 8192
    hold valid 1s
frontend front
    bind 127.0.0.1:{front}
    default_backend web
backend web
    server-template web 60 _web._tcp.service.hstore.local resolvers hstore-dns init-addr none
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


class _Instances(http.server.ThreadingHTTPServer):
    """All instances: one listener, which tells them apart by the address that was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), _Instance)  # all of 127.0.0.0/8
        self.sick: set[str] = set()


class _Instance(http.server.BaseHTTPRequestHandler):
    server: _Instances

    def do_GET(self) -> None:
        host = self.connection.getsockname()[0]
        is_sick = self.path == "/health" and host in self.server.sick
        self.send_response(503 if is_sick else 200)
        self.send_header("Content-Length", str(len(host)))
        self.end_headers()
        self.wfile.write(host.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Client(threading.Thread):  # noqa: TID251 - there is no event loop here
    """Makes a request through HAProxy every 10 ms, and remembers who answered.

    Attributes:
        failed: What each request said that was not answered with 200.
        count: How many there were.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._is_ending = threading.Event()
        self._answered: dict[str, float] = {}
        self.failed: list[str] = []
        self.count = 0

    def run(self) -> None:
        while not self._is_ending.wait(_PAUSE_S):
            self.count += 1
            try:
                host = ask_once(self._port)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            else:
                self._answered[host] = time.monotonic()

    def end(self) -> None:
        self._is_ending.set()
        self.join(10)

    def since(self, when: float) -> set[str]:
        """Return who has answered since then."""
        return {host for host, last in self._answered.items() if last >= when}


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
        self._port = instances.server_address[1]
        self.front = front

    def register(self, number: int) -> None:
        body = {
            "Name": _SERVICE,
            "ID": f"{_SERVICE}-{number}",
            "Address": _host(number),
            "Port": self._port,
            "Check": {
                "HTTP": f"http://{_host(number)}:{self._port}/health",
                "Interval": "1s",
                "Status": "passing",
            },
        }
        self._put(number, "register", json.dumps(body).encode())

    def deregister(self, number: int) -> None:
        self._put(number, f"deregister/{_SERVICE}-{number}", b"")

    def _put(self, number: int, what: str, body: bytes) -> None:
        node = self._cluster.nodes[number % len(self._cluster.nodes)]
        answer = node.request("PUT", f"/v1/agent/service/{what}", body)
        if answer.status != 200:
            raise AssertionError(f"{what}: {answer.status} {answer.body[:100]!r}")

    def set_sick(self, number: int, *, is_sick: bool) -> None:
        sick = self._instances.sick
        sick.add(_host(number)) if is_sick else sick.discard(_host(number))

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
    with place.three() as cluster, _Instances() as instances:
        serving = threading.Thread(target=instances.serve_forever, daemon=True)  # noqa: TID251
        serving.start()
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
            instances.shutdown()
        cluster.assert_no_traceback()


def run(*, is_long: bool) -> Outcome:
    """Run all of it; six times where it may take long."""
    outcome = Outcome(NAME, version())
    with _world() as world:
        try:
            for number in (1, 2, 3):
                world.register(number)
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

    def fill() -> None:
        for number in everything - {1, 2, 3}:
            world.register(number)

    _step(outcome, client, "sixty instances are asked", everything, fill)
    # Without HAProxy's size they are cut, and with it they are not: it asks for all of them.
    count, is_cut = world.srv_records()
    fault = "" if is_cut and 0 < count < _MOST else f"{count} records, cut: {is_cut}"
    outcome.add("an answer to a client that takes less is cut", fault)

    def empty() -> None:
        for number in everything - {1, 2, 3}:
            world.deregister(number)

    _step(outcome, client, "those that go are not asked any more", {1, 2, 3}, empty)


def _step(
    outcome: Outcome,
    client: _Client,
    name: str,
    numbers: set[int],
    change: Callable[[], None],
) -> None:
    """Change something, and wait until exactly these instances answer for a second."""
    expected = {_host(number) for number in numbers}

    def is_so() -> bool:
        begun = time.monotonic()
        # Long enough for each of sixty to have its turn; there is no event for it.
        while time.monotonic() - begun < 1.5:
            time.sleep(0.05)  # noqa: TID251
        return client.since(begun) == expected

    try:
        change()
        eventually(is_so, name, _WITHIN_S)
    except AssertionError as error:
        outcome.add(name, str(error))
    else:
        outcome.add(name)
