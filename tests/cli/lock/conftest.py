"""A cluster of the contract's sessions and locks, which waits in Trio's time, and commands that end at will."""

from __future__ import annotations

import base64
import functools
import json
import math
import signal
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
import msgspec
import pytest
import trio

from hstore.cli.lock.holding import Asked, Holder
from hstore.cli.lock.members import Members
from hstore.cli.search.find import Found
from hstore.node.errors import HstoreError


class Blocked(Exception):
    """A blocking read has to wait: for another index, or until its time is over."""

    def __init__(self, seconds):
        self.seconds = seconds


class FakeLocks:
    """Sessions and one table of keys, as contract-services 6 has them; every node shows the same.

    Attributes:
        down: Addresses that refuse connections.
        leaderless: Addresses that say `No cluster leader`.
        delay_s: How long each answer is under way after it was made.
        asked: (time, address, method, path) of each request.
    """

    def __init__(self, cluster, info):
        self.index = 10
        self.sessions = {}
        self.keys = {}
        self.delays = {}
        self.down = set()
        self.leaderless = set()
        self.delay_s = 0.0
        self.asked = []
        self.changed = trio.Event()
        self.is_over = False
        self.skip = 0.0  # seconds for which the machine was suspended
        self._info = info
        cluster.handle = self.handle

    def now(self):
        return trio.current_time() + self.skip

    async def run(self, function):
        """Run a request: what `in_thread` does, in virtual time."""
        await trio.sleep(0.001)
        self.is_over = False
        while True:
            try:
                answer = function()
            except Blocked as blocked:
                with trio.move_on_after(blocked.seconds) as scope:
                    await self.changed.wait()
                self.is_over = scope.cancelled_caught
            else:
                await trio.sleep(self.delay_s)
                return answer

    def handle(self, request):
        address = request.url.netloc.decode()
        self.asked.append((self.now(), address, request.method, request.url.raw_path.decode()))
        if address in self.down:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
        if request.url.path == "/v1/cluster":
            return self._answer(json.loads(msgspec.json.encode(self._info)))
        if address in self.leaderless:
            return self._answer("No cluster leader", 500)
        path = request.url.raw_path.decode().partition("?")[0]
        query = {k: v[0] for k, v in parse_qs(request.url.query.decode(), True).items()}
        if path == "/v1/session/create":
            return self._create(json.loads(request.content))
        verb, _, tail = path.removeprefix("/v1/").partition("/")
        if verb == "kv":
            return self._kv(request, unquote(tail), query)
        action, _, id_ = tail.partition("/")
        return getattr(self, f"_{action}")(id_)

    def change(self):
        self.index += 1
        self.changed.set()
        self.changed = trio.Event()

    def end(self, id_, *, has_delay=True):
        """End a session, as the leader does when its time is over."""
        session = self.sessions.pop(id_, None)
        for key, held in self.keys.items():
            if session is not None and held["Session"] == id_:
                held["Session"] = ""
                seconds = float(session["LockDelay"].removesuffix("s"))
                if has_delay:
                    self.delays[key] = self.now() + seconds
                self.change()
                held["ModifyIndex"] = self.index

    def delete(self, key):
        del self.keys[key]
        self.change()

    async def until(self, look):
        """Wait until something is so."""
        while not look():  # noqa: ASYNC110 - in virtual time
            await trio.sleep(0.1)

    def holder(self, key):
        return self.keys.get(key, {}).get("Session", "")

    def times(self, path):
        return [at for at, _, _, asked in self.asked if path in asked]

    def _answer(self, content, status=200):
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        headers = {"X-Hstore-Index": str(self.index), "X-Consul-Index": str(max(1, self.index))}
        return httpx.Response(status, content=body, headers=headers)

    def _create(self, body):
        id_ = str(uuid.uuid4())
        self.sessions[id_] = body
        return self._answer({"ID": id_})

    def _renew(self, id_):
        if id_ not in self.sessions:
            return self._answer(f"Session id '{id_}' not found", 404)
        return self._answer([{"ID": id_, **self.sessions[id_], "LockDelay": 0}])

    def _destroy(self, id_):
        self.end(id_)
        return self._answer(True)

    def _kv(self, request, key, query):
        held = self.keys.get(key)
        if request.method == "GET":
            at = held["ModifyIndex"] if held else self.index
            if int(query.get("index", 0)) >= at and not self.is_over:
                raise Blocked(float(query["wait"].removesuffix("ms")) / 1000)
            answer = self._answer([held] if held else "", 200 if held else 404)
            answer.headers["X-Consul-Index"] = str(at)
            return answer
        if "acquire" in query:
            return self._acquire(key, query["acquire"], request.content)
        if held is None or held["Session"] != query["release"]:
            return self._answer(False)
        held["Session"] = ""
        return self._written(held, request.content)

    def _acquire(self, key, id_, value):
        if id_ not in self.sessions:
            return self._answer(f'invalid session "{id_}"', 500)
        held = self.keys.setdefault(key, {"Key": key, "LockIndex": 0, "Session": ""})
        if held["Session"] not in {"", id_} or self.delays.get(key, -math.inf) > self.now():
            held.setdefault("ModifyIndex", self.index)
            return self._answer(False)
        if held["Session"] != id_:
            held["LockIndex"] += 1
        held["Session"] = id_
        return self._written(held, value)

    def _written(self, held, value):
        self.change()
        held["ModifyIndex"] = self.index
        held["Value"] = base64.b64encode(value).decode() or None
        return self._answer(True)


class FakeCommand:
    """A command that ends when it is told to, or by a signal that it does not ignore."""

    def __init__(self, env, deliver):
        self.env = env
        self.status = None
        self.ignores = set()
        self.got = []  # (time, number)
        self.is_buried = False
        self.stopping = False  # its terminal has stopped it
        self.story = []
        self._coming = None
        self._deliver = deliver

    def exits(self, status):
        self._coming = status
        self._deliver(signal.SIGCHLD)

    def signal(self, number):
        self.got.append((trio.current_time(), number))
        if self._coming is None and number not in self.ignores:
            self.exits(128 + number)

    def look(self):
        if self._coming is not None:
            self.status = self._coming
        stopping, self.stopping = self.stopping, False
        return stopping

    def stop_with_it(self):
        self.story.append("stopped")

    def go_on(self):
        self.story.append("goes on")

    def bury(self):
        assert self.status is not None
        self.is_buried = True


class Run:
    """One `hstore lock`: its command once it runs, what it says, how it ended."""

    def __init__(self, locks, cluster, make, **changes):
        wanted = {
            "key": "k",
            "command": ("work",),
            "ttl_s": 15.0,
            "delay_s": 15.0,
            "wait_s": None,
            "name": "one",
        }
        asked = Asked(**{**wanted, **changes})
        self.said: list[str] = []
        self.noted: list[str] = []
        self.command: Any = None
        self.started = trio.Event()
        self.ended = trio.Event()
        self.status = None
        self.error = None
        self._send, self._signals = trio.open_memory_channel(100)
        self._change = lambda _command: None
        found = Found("127.0.0.1:8500", make.info())
        members = Members(found, cluster.connect, self.said.append, now=locks.now, run=locks.run)
        self._holder = Holder(asked, members, self._start, self.said.append, self.noted.append)

    def prepared(self, change):
        """Have the command changed before it runs."""
        self._change = change
        return self

    def signal(self, number):
        self._send.send_nowait(number)

    async def go(self):
        try:
            self.status = await self._holder.hold(self._signals)
        except* HstoreError as group:
            (self.error,) = group.exceptions
            while isinstance(self.error, BaseExceptionGroup):  # `running.py` looks within, too
                (self.error,) = self.error.exceptions
        finally:
            self.ended.set()

    def _start(self, words, env):
        assert words == ("work",)
        self.command = FakeCommand(env, self.signal)
        self._change(self.command)
        self.started.set()
        return self.command


@pytest.fixture
def locks(cluster, make):
    return FakeLocks(cluster, make.info())


@pytest.fixture
def run(locks, cluster, make):
    """Make an `hstore lock`: `run(name="two", wait_s=0.0)`."""
    return functools.partial(Run, locks, cluster, make)
