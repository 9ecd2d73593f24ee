"""Nodes as processes: started on free ports, watched, killed, and gone at the end whatever happens.

Owns processes, their logs and the waiting; it asserts nothing about what a cluster should do, but
that no node ever writes a traceback. What a test waits for has a deadline and a name, so that a
test that fails says what did not happen, and the logs of its nodes go into its report.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

from .place import DNS_OFFSET, PEER_OFFSET, free_base

T = TypeVar("T")

WAIT_S = 30.0
"""For what takes a second on an idle machine: a busy one shall not fail a test."""

_PAUSE_S = 0.03
_EXIT_S = 12.0
_LOG_SHOWN = 6000

HSTORE = [sys.executable, "-m", "hstore.cli"]


class Answer(NamedTuple):
    """An HTTP answer; the names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def outcome(self) -> str:
        """What a failed write says of itself: in its JSON, or in a header of the dialect."""
        return self.headers.get("x-hstore-outcome") or str(self.json()["outcome"])


class Said(NamedTuple):
    """What a command wrote, and its exit status."""

    status: int
    out: str
    err: str


def eventually(look: Callable[[], T | None], what: str, within: float = WAIT_S) -> T:
    """Return what `look` gives as soon as that is true; that something is not there is a no."""
    end = time.monotonic() + within
    last: object = None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (OSError, LookupError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"did not happen in {within:g} s: {what}; last seen: {last!r}")
        time.sleep(_PAUSE_S)  # noqa: TID251 - between two looks; there is no loop to give way to


def request(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 15.0,
) -> Answer:
    """Make one HTTP request on a connection of its own."""
    with closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )


def run(*command: str, env: Mapping[str, str], timeout: float = 60.0) -> Said:
    """Run a command to its end; no command of ours ever shows a traceback."""
    done = subprocess.run(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def clean_env(home: Path) -> dict[str, str]:
    """Return an environment without settings of whoever runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HSTORE_")}
    env |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "NO_COLOR": "1"}
    env["XDG_STATE_HOME"] = str(home / "state")
    return env


class Node:
    """One node: its addresses and directory, and the process that runs there, if one does.

    Attributes:
        address, peer_address: `HOST:PORT` of its API, and for other nodes.
        dns_port: Of its DNS server.
        directory, log_path: Its data, and what all its processes wrote to standard error.
        log_fd: A descriptor that its processes log to instead of that file.
    """

    def __init__(
        self,
        cluster: Cluster,
        port: int,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        *,
        listening: str = "",
    ) -> None:
        """`host` and `prefix`: where it is reached, and the words that put its process there.

        `listening`: where it listens, if something stands between.
        """
        self.port = port
        self.address = f"{host}:{port}"
        self._listening = f"{listening or host}:{port}"
        self._advertised = ["--advertise", host] if listening else []
        self.dns_port = port + DNS_OFFSET
        self.peer_port = port + PEER_OFFSET
        self.peer_address = f"{host}:{self.peer_port}"
        place = str(port) if host == "127.0.0.1" else f"{host}-{port}"
        self.directory = cluster.folder / place
        self.log_path = cluster.folder / f"{place}.log"
        self.log_fd: int | None = None
        self._prefix = [*cluster.prefix, *prefix]
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None

    # -- the process ------------------------------------------------------------------------

    def start(self, *options: str) -> None:
        """Run `hstore start` here: a seed node, or the node whose directory it is."""
        own = ["-h", self._listening, *self._advertised, "--data-dir", str(self.directory)]
        self.spawn("start", *own, *options)

    def join(self, through: str, *options: str) -> None:
        """Run `hstore join` here."""
        own = ["--listen", self._listening, *self._advertised, "--data-dir", str(self.directory)]
        self.spawn("join", "-h", through, *own, *options)

    def spawn(self, *arguments: str) -> None:
        """Run a command that becomes a node."""
        assert not self.is_running, f"{self.address} runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    *self._cluster.command,
                    *arguments,
                    "--no-shell",
                    *self._cluster.leash,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log if self.log_fd is None else self.log_fd,
                stderr=log if self.log_fd is None else self.log_fd,
                env=self._cluster.env,
                pass_fds=[self._cluster.leash_fd],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        self.wait_end()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_end(self, within: float = _EXIT_S) -> int:
        """Return the exit status, once there is one."""
        assert self._process is not None
        return self._process.wait(within)

    def log(self) -> str:
        """Return all that was written to standard error here."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # -- what it says -----------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 15.0,
    ) -> Answer:
        """Make one HTTP request."""
        return request(self.address, method, path, body, headers, timeout)

    def get(self, path: str) -> Answer:
        """GET."""
        return self.request("GET", path)

    def write(self, key: str, value: str) -> Answer:
        """Write a key by `POST /write`."""
        return self.request("POST", "/write", json.dumps({"key": key, "value": value}).encode())

    def read(self, key: str) -> str | None:
        """Return the value of a key, linearizably; None where it does not exist."""
        answer = self.get(f"/read/{key}")
        assert answer.status in (200, 404), answer
        return str(answer.json()["value"]) if answer.status == 200 else None

    def read_all(self, prefix: str = "") -> dict[str, str]:
        """Return all keys with a prefix and their values."""
        answer = self.get(f"/read?prefix={prefix}")
        assert answer.status == 200, answer
        found: dict[str, str] = answer.json()
        return found

    def info(self) -> ClusterInfo:
        """Return the cluster as this node sees it."""
        return msgspec.json.decode(self.get("/v1/cluster").body, type=ClusterInfo)

    def sees(self, other: Node) -> NodeInfo:
        """Return what this node says of another; a `LookupError` when it knows none there."""
        for one in self.info().nodes:
            if one.address == other.address:
                return one
        raise LookupError(f"{self.address} knows no member at {other.address}")

    def dig(self, name: str, kind: str = "A", *options: str) -> Said:
        """Ask its DNS server."""
        words = ["dig", "@127.0.0.1", "-p", str(self.dns_port), name, kind, "+tries=1", "+time=3"]
        return run(*self._cluster.prefix, *words, *options, env=self._cluster.env)

    def dig_all(self, questions: Sequence[tuple[str, str]], *options: str) -> list[list[str]]:
        """Ask it for several names and types with one dig, and return each one's sorted answers."""
        # What stands before the first name holds for all.
        at = ["dig", "@127.0.0.1", "-p", str(self.dns_port), "+tries=1", "+time=3"]
        names = [word for question in questions for word in question]
        words = [*at, "+noall", "+answer", *options, *names]
        said = run(*self._cluster.prefix, *words, env=self._cluster.env).out
        return answers_to(questions, said)

    def dig_short(self, name: str, kind: str = "A") -> list[str]:
        """Return the answers of its DNS server, sorted, as `dig +short` shows them."""
        return sorted(self.dig(name, kind, "+short").out.splitlines())


def answers_to(questions: Sequence[tuple[str, str]], said: str) -> list[list[str]]:
    """Return the sorted answers to each question in what `+noall +answer` prints of them all."""
    rows = [line.split(maxsplit=4) for line in said.splitlines() if line and line[0] != ";"]
    return [
        sorted(row[4] for row in rows if (row[0], row[3]) == (f"{name}.", kind))
        for name, kind in questions
    ]


class Cluster:
    """Nodes of one test. Closes: all their processes, at the end of `with`.

    Attributes:
        nodes: All of them; a test that places its own puts them here before the first starts.

    Args:
        folder: Where data and logs go.
        size: How many nodes there may be.
        base: API port of the first; by default all ports are found free.
        prefix: Words before each command, such as those that enter a network namespace.
        command: The words that stand for `hstore`.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 3,
        *,
        base: int = 0,
        prefix: Sequence[str] = (),
        command: Sequence[str] = HSTORE,
    ) -> None:
        self.folder = folder
        self.command = list(command)
        self.prefix = list(prefix)
        self.env = clean_env(folder)
        base = base or free_base(size)
        self.nodes = [Node(self, base + k) for k in range(size)]
        # The nodes end when nobody holds the other end any more: also when pytest is killed.
        self.leash_fd, self._hold = os.pipe()
        self.leash = ["--parent-pipe", str(self.leash_fd)]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Kill what runs."""
        for node in self.running():
            node.kill()
        os.close(self._hold)
        os.close(self.leash_fd)

    def up(self, *options: str) -> Self:
        """Start all nodes as one cluster, and wait until it is healthy; `options` for the seed."""
        seed, *others = self.nodes
        # Without the second in which a new seed looks around; `test_identity.py` is about that.
        seed.start("--new-cluster", *options)
        eventually(lambda: seed.info().leader, "the seed node leads")
        for node in others:
            node.join(seed.address)
        self.wait_healthy()
        return self

    def revive(self) -> None:
        """Start the nodes that do not run again, and wait until all is healthy."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.wait_healthy()

    def running(self) -> list[Node]:
        """Return the nodes whose processes run."""
        return [node for node in self.nodes if node.is_running]

    def hstore(self, *arguments: str, timeout: float = 60.0) -> Said:
        """Run an `hstore` command to its end."""
        return run(*self.prefix, *self.command, *arguments, env=self.env, timeout=timeout)

    def wait_healthy(self, count: int | None = None, within: float = WAIT_S) -> ClusterInfo:
        """Wait until each running node sees that all members are live voters and one leads."""
        count = count or len(self.nodes)
        return eventually(
            lambda: self.look_healthy(count), f"{count} live voters with one leader", within
        )

    def look_healthy(self, count: int) -> ClusterInfo | None:
        """Return the cluster if it is what `wait_healthy` waits for."""

        def is_healthy(info: ClusterInfo) -> bool:
            fit = [n for n in info.nodes if n.voter and n.health == "alive"]
            return info.leader is not None and len(fit) == len(info.nodes) == count

        seen = [node.info() for node in self.running()]
        agree = len({(info.leader, info.term) for info in seen}) == 1
        return seen[0] if agree and all(map(is_healthy, seen)) else None

    def leader(self) -> Node:
        """Return the node that leads, once the running nodes agree on one of themselves."""

        def look() -> Node | None:
            running = self.running()
            seen = {_leader_address(node.info()) for node in running}
            return next((n for n in running if seen == {n.address}), None)

        return eventually(look, "the nodes agree on a leader")

    def followers(self) -> list[Node]:
        """Return the running nodes that do not lead."""
        leader = self.leader()
        return [node for node in self.running() if node is not leader]

    def logs(self) -> list[tuple[str, str]]:
        """Return the end of each node's log, with its address."""
        return [(node.address, node.log()[-_LOG_SHOWN:]) for node in self.nodes if node.log()]

    def assert_no_traceback(self) -> None:
        """Fail when a node wrote a traceback, whatever became of the test."""
        for node in self.nodes:
            assert "Traceback" not in node.log(), node.log()


def _leader_address(info: ClusterInfo) -> str | None:
    return next((node.address for node in info.nodes if node.name == info.leader), None)


@contextmanager
def follow_events(node: Node) -> Iterator[list[ClusterInfo]]:
    """Give a list that grows by what `/v1/events` of a node says, until the end of `with`."""
    seen: list[ClusterInfo] = []
    connection = http.client.HTTPConnection(node.address, timeout=WAIT_S)
    connection.request("GET", "/v1/events")
    response = connection.getresponse()
    assert response.status == 200, response.status
    sock = connection.sock

    def follow() -> None:
        while line := response.readline():
            if line.startswith(b"data:"):
                seen.append(msgspec.json.decode(line[5:], type=ClusterInfo))

    with ThreadPoolExecutor(1) as pool:
        done: Future[None] = pool.submit(follow)
        try:
            yield seen
        finally:
            # Ends the read in the other thread; closing alone would leave it waiting.
            sock.shutdown(2)
            done.exception(WAIT_S)
            connection.close()
