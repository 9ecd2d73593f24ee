"""A node that is only an HTTP server with prepared answers, and a time that passes by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import msgspec
import pytest
from trio.testing import MockClock

from hstore.cli.client.api import NodeClient
from hstore.cli.search.find import Finder
from hstore.dns.finder import Rank, Sighting
from hstore.node.discovery.run_record import Process, RunRecord, process_of
from hstore.node.model.cluster_info import ClusterInfo, NodeInfo


def make_node(number=1, **changes):
    node = NodeInfo(
        name=f"n{number}",
        id=f"{number:016x}",
        address=f"127.0.0.1:{8499 + number}",
        peer_address=f"127.0.0.1:{8299 + number}",
        dns_address=f"127.0.0.1:{8599 + number}",
        type="leader" if number == 1 else "follower",
        voter=True,
        health="alive",
        term=2,
        commit_index=17,
        applied_index=17,
        last_contact_ms=0 if number == 1 else 40 + number,
        version="0.1.0",
        uptime_s=75,
    )
    return msgspec.structs.replace(node, **changes)


def make_info(*nodes, **changes):
    info = ClusterInfo(
        cluster_id="00000000000000c1",
        leader="n1",
        term=2,
        quorum=2,
        failure_tolerance=1,
        zone="hstore.local",
        nodes=list(nodes) or [make_node(1), make_node(2), make_node(3)],
    )
    return msgspec.structs.replace(info, **changes)


class FakeClock:
    """Time that passes when somebody sleeps, and at no other time."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


class FakeSource:
    """A source of addresses as DNS gives them, which may change with each look."""

    rank = Rank.HERE

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.looks = 0

    async def look(self, zone, findings):
        addresses = self.rounds[min(self.looks, len(self.rounds) - 1)]
        self.looks += 1
        nodes = tuple((host, int(port)) for host, port in (a.split(":") for a in addresses))
        if nodes:
            findings.sightings.append(Sighting("fake", ("127.0.0.1", 8600), nodes, None))


class FakeCluster:
    """Answers of nodes by address; the transport below a `NodeClient`. Keeps what was asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.strangers = set()  # addresses of programs that are no hstore nodes

    def set(self, address, path, answer):
        """An answer is a body, a response, an exception, what makes one of a request, or a list."""
        self.answers[address, path] = answer

    def handle(self, request):
        address = request.url.netloc.decode()
        self.asked.append((address, request.method, request.url.raw_path.decode()))
        answer = self.answers.get((address, request.url.path))
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if answer is None:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(request)
        if not isinstance(answer, httpx.Response):
            answer = httpx.Response(200, content=msgspec.json.encode(answer))
        if address not in self.strangers:
            answer.headers["X-Hstore-Index"] = "1"
        return answer

    def connect(self, address, timeout_s):
        return NodeClient(address, timeout_s=timeout_s, transport=httpx.MockTransport(self.handle))


def event_stream(*infos):
    body = b": hello\n\n" + b"".join(
        b"event: cluster\ndata: " + msgspec.json.encode(info) + b"\n\n" for info in infos
    )
    return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})


def make_record(number=1, pid=0, **changes):
    """Make a run record: of the process `pid`, or of one that has ended."""
    node = make_node(number)
    record = RunRecord(
        process=(process_of(pid) if pid else None) or Process(1, 0, ""),
        name=node.name,
        node_id=node.id,
        cluster_id=make_info().cluster_id,
        zone="hstore.local",
        learner=False,
        listen=node.address,
        address=node.address,
        peer_address=node.peer_address,
        dns_address=node.dns_address,
        data_dir=f"/nowhere/{node.name}",
        arguments=("start", f"--listen={node.address}"),
        variables={},
        directory="/",
    )
    return msgspec.structs.replace(record, **changes)


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    """No test meets the nodes that are recorded as running here, or what its caller has set."""
    for name in [one for one in os.environ if one.startswith("HSTORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def sleeper():
    """A process that stands for a node's."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def make():
    """The makers of test data: `make.node`, `make.info`, `make.events`, `make.record`."""
    return SimpleNamespace(node=make_node, info=make_info, events=event_stream, record=make_record)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def make_finder(cluster, clock):
    """Make a finder on the fake cluster, whose DNS gives these addresses in these rounds."""

    def make_one(*rounds, zone="hstore.local", is_zone_given=False):
        return Finder(
            zone,
            is_zone_given=is_zone_given,
            sources=[FakeSource(*(rounds or [[]]))],
            connector=cluster.connect,
            clock=clock,
            trio_clock=MockClock(autojump_threshold=0),
        )

    return make_one


class FakeServer:
    """A real HTTP server on loopback with prepared answers: (status, body) by method and path."""

    def __init__(self):
        self.answers: dict[tuple[str, str], tuple[int, object]] = {}
        self.asked: list[tuple[str, str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("content-length", 0))
                outer.asked.append((self.command, self.path, self.rfile.read(length)))
                status, body = outer.answers.get(
                    (self.command, self.path), (404, {"error": f"no {self.path}"})
                )
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("x-hstore-index", "1")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # names of the base class

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    def set_cluster(self, info):
        self.answers["GET", "/v1/cluster"] = (200, msgspec.json.encode(info))


@pytest.fixture
def server():
    fake = FakeServer()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fake.server.serve_forever, 0.01)
        yield fake
        fake.server.shutdown()
        fake.server.server_close()
