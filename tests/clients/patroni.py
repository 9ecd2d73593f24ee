"""Patroni 4.1 with PostgreSQL 15: three members, each at a node of its own, through faults.

What is looked at: that one member leads and the others follow, a switchover, a time without a failover
that nothing caused and without a `watch` that spins, a node of hstore killed and back while the leader
uses it, the death of the leader's machine: its Patroni and its PostgreSQL, and an orderly stop. Each
time also the service that each member registers: its tags say who leads, by HTTP and by DNS.

PostgreSQL refuses to run as root: there, each member is put into a user namespace, in which the same
user has another number.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from hstore.dns.client import exchange
from hstore.dns.records import RRType, Srv, name_of
from tests.system.cluster import Cluster, Node, clean_env, eventually, request
from tests.system.place import free_base

from . import cache, place
from .outcome import Outcome, Unavailable
from .scripted import SCRIPTED

NAME = "patroni-postgresql"
VERSION = next(one.version for one in SCRIPTED if one.name == "patroni")

_BIN = Path("/usr/lib/postgresql/15/bin")
_SCOPE = "batman"
_LOOP_S = 2
_TTL_S = 20
"""The least that Patroni takes: its sessions then have the least TTL that the node takes, 10 s."""
_RETRY_S = 8
_BOOTSTRAP_S = 90.0
_FAILOVER_S = 60.0
_QUIET_S, _LONG_QUIET_S = 60.0, 600.0
_SERVICE_S = 30.0
"""Its checks are made every 5 s; a role comes with the next loop."""

_LEADS, _FOLLOWS = ("primary", "master"), ("replica",)
_ROOT = Path(__file__).resolve().parents[2]


def install() -> Path:
    """Return where Patroni is.

    Raises:
        Unavailable: It or PostgreSQL cannot be had here.
    """
    if not (_BIN / "postgres").exists():
        raise Unavailable(f"no PostgreSQL 15 at {_BIN}: apt-get install postgresql-15")
    return next(one for one in SCRIPTED if one.name == "patroni").install()


class Member:
    """One machine: Patroni, the PostgreSQL that it runs, and the relay to its node of hstore."""

    def __init__(self, name: str, base: int, folder: Path, node: Node, package: Path) -> None:
        self.name = name
        self.node = node
        self.rest = f"127.0.0.1:{base}"
        self.port = base + 10
        self._relay_port = base + 20
        self.folder = folder / name
        self.data = self.folder / "data"
        self.asked = self.folder / "requests.txt"
        self.log = self.folder / "patroni.log"
        self._package = package
        self._processes: list[subprocess.Popen[bytes]] = []
        self.folder.mkdir()
        (self.folder / "patroni.json").write_text(json.dumps(self._settings()))

    def _settings(self) -> dict[str, Any]:
        """Return Patroni's settings; JSON is YAML."""
        login = {"username": "postgres", "password": "not-a-secret"}
        copier = {"username": "replicator", "password": "not-a-secret"}
        return {
            "scope": _SCOPE,
            "name": self.name,
            "restapi": {"listen": self.rest, "connect_address": self.rest},
            "consul": {"host": f"127.0.0.1:{self._relay_port}", "register_service": True},
            "bootstrap": {
                "dcs": {"ttl": _TTL_S, "loop_wait": _LOOP_S, "retry_timeout": _RETRY_S},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(_BIN),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {"superuser": login, "replication": copier},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "parameters": {
                    "unix_socket_directories": str(self.folder),
                    "fsync": "off",
                    "shared_buffers": "16MB",
                },
            },
        }

    def start(self) -> None:
        """Start the relay and Patroni."""
        relay = [sys.executable, "-m", "tests.clients.counting", str(self._relay_port)]
        self._spawn([*relay, self.node.address, str(self.asked)], {})
        patroni = [sys.executable, "-P", "-m", "patroni", str(self.folder / "patroni.json")]
        self._spawn([*_not_as_root(), *patroni], {"PYTHONPATH": str(self._package)})

    def _spawn(self, command: list[str], more: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    cwd=_ROOT,
                    env=clean_env(self.folder) | more,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def kill(self) -> None:
        """End all of the machine at once."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self._processes.clear()
        # PostgreSQL has a session of its own.
        with suppress(OSError, ValueError):
            postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGKILL)

    def stop(self) -> None:
        """End Patroni as its service manager does, and the rest of the machine after that."""
        patroni = self._processes[-1]
        patroni.terminate()
        patroni.wait(60)
        self.kill()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Make a request to Patroni's own API; (0, b"") where nobody answers."""
        try:
            data = None if body is None else json.dumps(body).encode()
            answer = request(self.rest, method, path, data, timeout=30.0)
        except (OSError, http.client.HTTPException):
            return 0, b""
        return answer.status, answer.body

    def leads(self) -> bool:
        """Tell whether it says of itself that it is the primary and has the lock."""
        return self.ask("GET", "/primary")[0] == 200

    def follows(self) -> bool:
        """Tell whether it is a replica that streams."""
        status, body = self.ask("GET", "/replica")
        return status == 200 and json.loads(body).get("replication_state") == "streaming"

    def sql(self, words: str) -> str:
        """Run SQL in its PostgreSQL."""
        psql = [str(_BIN / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(
            [*psql, "-d", "postgres", "-X", "-A", "-t", "-c", words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise LookupError(done.stderr.strip()[-300:])
        return done.stdout.strip()

    def requests(self, since: float = 0.0) -> list[str]:
        """Return the method and target of each request to its node since a time."""
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        split = (line.split(" ", 1) for line in lines)
        return [words for when, words in split if float(when) >= since]


def _not_as_root() -> list[str]:
    """Return the words before a command that make root somebody else, where it is root."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]


@contextmanager
def _members(cluster: Cluster) -> Iterator[list[Member]]:
    package = install()
    base = free_base(30)
    members = [
        Member(f"pg{k}", base + k, cluster.folder, node, package)
        for k, node in enumerate(cluster.nodes)
    ]
    try:
        yield members
    finally:
        for member in members:
            member.kill()


class _Run:
    """The parts of the run, in their order; each needs what those before it have made."""

    def __init__(self, cluster: Cluster, members: list[Member], quiet_s: float) -> None:
        self._cluster = cluster
        self._members = members
        self._quiet_s = quiet_s

    def parts(self) -> list[tuple[str, Callable[[], None]]]:
        """Return them with their names."""
        return [
            ("one leads and two follow", self.bootstrap),
            ("switchover", self.switchover),
            (f"{self._quiet_s:.0f} s without a failover or a spinning watch", self.quiet),
            ("its node killed and back: the leader stays", self.node_killed),
            ("the leader's machine killed: another leads", self.machine_killed),
            ("the killed machine comes back and follows", self.machine_back),
            ("a member that stops deregisters its service", self.stopped),
        ]

    def _wait_service(self, leader: Member, dead: Member | None = None) -> None:
        """Wait until every member's service says its role, and all but a dead one's is passing."""
        living = {one for one in self._members if one is not dead}
        expected = {
            f"{_SCOPE}/{one.name}": (one.port, _LEADS if one is leader else _FOLLOWS)
            for one in living
        }

        def look() -> bool:
            path = f"/v1/health/service/{_SCOPE}?passing"
            found = next(iter(living)).node.request("GET", path).json()
            services = [entry["Service"] for entry in found]
            shown = {one["ID"]: (one["Port"], tuple(one["Tags"])) for one in services}
            if shown != expected:
                raise LookupError(f"{shown} in place of {expected}")
            return all(self._named(one.node, "primary") == {leader.port} for one in living)

        eventually(look, "the services say who leads", _SERVICE_S)

    def _named(self, node: Node, role: str) -> set[int]:
        """Return the ports that DNS names for the members of a role."""
        name = name_of(f"{role}.{_SCOPE}.service.consul")
        reply = trio.run(exchange, ("127.0.0.1", node.dns_port), name, RRType.SRV)
        return {one.rdata.port for one in reply.answers if isinstance(one.rdata, Srv)}

    def _leader(self) -> Member:
        """Return the one member that leads."""
        leaders = [one for one in self._members if one.leads()]
        if len(leaders) > 1:
            raise AssertionError(f"two lead: {[one.name for one in leaders]}")
        if not leaders:
            raise LookupError("nobody leads")
        return leaders[0]

    def _wait_settled(self, count: int, within: float) -> Member:
        def look() -> Member | None:
            leader = self._leader()
            return leader if sum(one.follows() for one in self._members) == count - 1 else None

        return eventually(look, f"one leads and {count - 1} stream from it", within)

    def _timeline(self, leader: Member) -> int:
        return int(json.loads(leader.ask("GET", "/patroni")[1])["timeline"])

    def bootstrap(self) -> None:
        for one in self._members:
            one.start()
        leader = self._wait_settled(3, _BOOTSTRAP_S)
        leader.sql("create table kept (n int)")
        leader.sql("insert into kept values (1)")
        self._wait_service(leader)

    def switchover(self) -> None:
        old = self._leader()
        new = next(one for one in self._members if one is not old)
        status, said = old.ask("POST", "/switchover", {"leader": old.name, "candidate": new.name})
        assert status == 200, (status, said)
        assert self._wait_settled(3, _FAILOVER_S) is new
        assert new.sql("select n from kept") == "1"
        self._wait_service(new)

    def quiet(self) -> None:
        leader = self._wait_settled(3, _FAILOVER_S)
        timeline, begun = self._timeline(leader), time.time()
        while time.time() - begun < self._quiet_s:
            time.sleep(1)  # noqa: TID251 - this time is what is looked at
            assert leader.leads(), f"{leader.name} leads no more"
        assert self._timeline(leader) == timeline
        took = time.time() - begun
        for one in self._members:
            asked = one.requests(begun)
            watched = sum("index=" in words for words in asked)
            # One loop takes `loop_wait`; each has at most one watch and a handful of others.
            loops = took / _LOOP_S + 2
            assert watched <= 2 * loops, f"{one.name} watched {watched} times in {took:.0f} s"
            assert len(asked) <= 8 * loops, f"{one.name} asked {len(asked)} times in {took:.0f} s"
            if one is not leader:
                assert watched >= loops / 4, f"{one.name} hardly watched: {watched} in {took:.0f} s"

    def node_killed(self) -> None:
        leader = self._wait_settled(3, _FAILOVER_S)
        timeline = self._timeline(leader)
        leader.node.kill()
        leader.node.start()
        self._cluster.wait_healthy()
        begun = time.time()
        while time.time() - begun < _TTL_S + _RETRY_S:
            time.sleep(1)  # noqa: TID251 - so long a session could still end for it
            assert leader.leads(), f"{leader.name} leads no more"
        assert self._timeline(self._wait_settled(3, _FAILOVER_S)) == timeline
        self._wait_service(leader)

    def machine_killed(self) -> None:
        old = self._wait_settled(3, _FAILOVER_S)
        old.sql("insert into kept values (2)")
        eventually(
            lambda: all(one.sql("select count(*) from kept") == "2" for one in self._members),
            "the replicas have what was written",
        )
        old.kill()
        new = self._wait_settled(2, _FAILOVER_S)
        assert new is not old
        assert new.sql("select count(*) from kept") == "2"
        self._wait_service(new, dead=old)

    def machine_back(self) -> None:
        leader = self._leader()
        next(one for one in self._members if not one.leads() and not one.follows()).start()
        assert self._wait_settled(3, _BOOTSTRAP_S) is leader
        self._wait_service(leader)

    def stopped(self) -> None:
        leader = self._leader()
        one = next(one for one in self._members if one is not leader)
        one.stop()
        # Patroni waits for the answer: it is gone at once.
        ids = one.node.request("GET", "/v1/agent/services").json()
        assert f"{_SCOPE}/{one.name}" not in ids, ids
        self._wait_service(leader, dead=one)


def run(*, is_long: bool) -> Outcome:
    """Run all parts up to the first that fails: the next ones would tell nothing of their own.

    Raises:
        Unavailable: Something of it cannot be had here.
    """
    install()
    outcome = Outcome(NAME, VERSION)
    with place.three() as cluster, _members(cluster) as members:
        parts = _Run(cluster, members, _LONG_QUIET_S if is_long else _QUIET_S).parts()
        for name, part in parts:
            fault = outcome.failed and "not begun, since one before it failed"
            if not fault:
                begun = time.monotonic()
                fault = _fault_of(part)
                print(f"    {name}: {time.monotonic() - begun:.1f} s", flush=True)
            outcome.add(name, str(fault or ""))
        if outcome.failed:
            _keep_logs(members)
    return outcome


def _fault_of(part: Callable[[], None]) -> str:
    try:
        part()
    except (AssertionError, LookupError, OSError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"[:400]
    return ""


def _keep_logs(members: list[Member]) -> None:
    """Keep what the members said, since their folder is about to go."""
    kept = cache.folder() / "logs"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for member in members:
        for path in (member.log, member.asked):
            if path.exists():
                shutil.copy(path, kept / f"{member.name}-{path.name}")
    print(f"    the logs are in {kept}", flush=True)
