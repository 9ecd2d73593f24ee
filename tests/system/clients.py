"""Clients that read and change a few keys at all nodes at once, and record what they were told.

`load.py` shows that acknowledged writes are there afterwards; this shows that at each moment the
nodes behaved as one: the record goes through the checker of `tests/histories`, key by key.

Each value is written once. A key is left for another after some operations, for a history that is
too long is slow to check. What has no answer, or one that says nothing, is recorded as open; what
was answered with `not applied` has certainly not happened, and is none of the history.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.histories.checker import Result as Judgement
from tests.histories.checker import Verdict, check
from tests.histories.models import Action, Key, Kind, Result
from tests.histories.recorder import History

from .cluster import Answer, Node, eventually

CLIENTS = 6
_KEYS_AT_ONCE = 3
_OPERATIONS_PER_KEY = 150
_MOST_OPERATIONS = 30_000
_PAUSE_S = 0.004
"""After each operation: about a hundred a second and client, which leaves the nodes some time."""

_REQUEST_MS = 1000
_SOCKET_S = 1.5

_KINDS = [
    *[Kind.READ] * 8, *[Kind.WRITE] * 6, *[Kind.UPDATE] * 2, *[Kind.DELETE] * 1, *[Kind.CAS] * 3,
]  # fmt: skip

_runs = itertools.count(1)
"""Several records on one cluster use keys of their own."""


class NotSent(Exception):
    """The request never left: nothing can have happened."""


class Connections:
    """One client's connections, one for each node, made again when they break."""

    def __init__(self) -> None:
        self._open: dict[str, http.client.HTTPConnection] = {}

    def send(self, address: str, method: str, path: str, body: bytes | None) -> None:
        """Send a request. Raises `NotSent`, or an error after which the outcome is unknown."""
        connection = self._open.get(address)
        if connection is None:
            connection = http.client.HTTPConnection(address, timeout=_SOCKET_S)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise NotSent from error
            self._open[address] = connection
        try:
            connection.request(method, path, body)
        except OSError:
            self.drop(address)
            raise

    def receive(self, address: str) -> Answer:
        """Wait for the answer to what was sent."""
        try:
            response = self._open[address].getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, headers, response.read())
        except (OSError, http.client.HTTPException):
            self.drop(address)
            raise
        if response.will_close:
            self.drop(address)
        return answer

    def drop(self, address: str) -> None:
        """Close one."""
        self._open.pop(address).close()

    def close(self) -> None:
        """Close them all."""
        for address in list(self._open):
            self.drop(address)


class Record:
    """All clients of a test and what they were told.

    Attributes:
        history: Of the keys.
        counts: How many operations of each kind had which answer.
    """

    def __init__(self, nodes: Sequence[Node], seed: int) -> None:
        self.nodes = list(nodes)
        self.history: History[Action] = History()
        self.counts: Counter[str] = Counter()
        self.prefix = f"record/{next(_runs)}/"
        self.keys: set[str] = set()
        self._seed = seed
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    # -- the clients ------------------------------------------------------------------------

    def run(self, client: int, stop: threading.Event) -> None:
        """Be a client until `stop`."""
        chance = random.Random(f"{self._seed}/{client}")
        connections = Connections()
        revisions: dict[str, int] = {}
        name = f"client {client}"
        try:
            while not stop.is_set():
                number = next(self._numbers)
                if number >= _MOST_OPERATIONS:
                    break
                key = f"{number // (_KEYS_AT_ONCE * _OPERATIONS_PER_KEY)}-{chance.randrange(_KEYS_AT_ONCE)}"
                kind, node = chance.choice(_KINDS), chance.choice(self.nodes)
                asked = _asked(kind, number, revisions.get(key, 0))
                action = self.do(connections, node, self.prefix + key, asked, name)
                if action is not None and action.revision is not None:
                    revisions[key] = action.revision
                stop.wait(_PAUSE_S if action is not None else 10 * _PAUSE_S)
        finally:
            connections.close()

    def do(
        self, connections: Connections, node: Node, key: str, asked: Action, client: str = ""
    ) -> Action | None:
        """Do one operation at a node and record it; None when nothing was answered."""
        return self.begin(connections, node, key, asked, client)()

    def begin(
        self, connections: Connections, node: Node, key: str, asked: Action, client: str = ""
    ) -> Callable[[], Action | None]:
        """Send what `do` sends; return what waits for the answer."""
        self.keys.add(key)
        call = self.history.call(key, asked, f"{client} at {node.address}")
        try:
            connections.send(node.address, *_request(key, asked))
        except (NotSent, OSError) as error:
            return partial(self._failed, call, asked, error)

        def end() -> Action | None:
            try:
                answer = connections.receive(node.address)
            except (OSError, http.client.HTTPException) as error:
                return self._failed(call, asked, error)
            return self._told(call, asked, answer)

        return end

    def _failed(self, call: int, asked: Action, error: Exception) -> Action | None:
        if isinstance(error, NotSent):
            self._count(asked, "not sent")
            self.history.never_was(call)
        else:
            self._count(asked, "broken")
            self.history.unknown(call, is_harmless=asked.kind is Kind.READ)
        return None

    def _told(self, call: int, asked: Action, answer: Answer) -> Action | None:
        if answer.status in {500, 503}:
            outcome = "failed" if asked.kind is Kind.READ else answer.outcome
            assert outcome in ("failed", "not applied", "unknown"), answer
            if outcome == "unknown":
                self.history.unknown(call)
            else:
                self.history.never_was(call)
            self._count(asked, outcome)
            return None
        action = _answered(asked, answer)
        self.history.answered(call, action)
        self._count(asked, "answered")
        return action

    def _count(self, asked: Action, outcome: str) -> None:
        with self._lock:
            self.counts[f"{'read' if asked.kind is Kind.READ else 'change'} {outcome}"] += 1

    # -- the test ---------------------------------------------------------------------------

    def wait_more(self, more: int) -> None:
        """Wait until so many more changes have been answered."""
        goal = self.counts["change answered"] + more
        eventually(
            lambda: self.counts["change answered"] >= goal, f"{more} more changes are answered"
        )

    def read_everywhere(self, nodes: Sequence[Node]) -> None:
        """Read every key at each of these nodes, as a part of the record."""
        connections = Connections()
        for node in nodes:
            for key in sorted(self.keys):
                found = self.do(connections, node, key, Action(Kind.READ), "last look")
                assert found is not None, f"{node.address} does not answer a read of {key}"
        connections.close()

    def check_kept(self, node: Node, up_to: int) -> None:
        """Fail unless a node has each acknowledged change up to a revision, or a later one.

        Weaker than `judge`, for what follows `hstore recover`: there the end of all may be lost.
        """
        by_key: dict[str, list[Action]] = {}
        for one in self.history.operations():
            by_key.setdefault(one.key, []).append(one.action)
        for key, actions in sorted(by_key.items()):
            answer = node.get(f"/read/{key}")
            assert answer.status in (200, 404), answer
            found = answer.json() if answer.status == 200 else None
            check_kept(key, actions, found, up_to)

    def judge(self) -> Judgement[Action]:
        """Fail unless the nodes behaved as one; say what was looked at."""
        begun = time.monotonic()
        judgement = check(self.history.operations(), Key())
        took = time.monotonic() - begun
        counts = self.history.counts()
        print(  # noqa: T201
            f"{judgement.operations} operations of {len(self.keys)} keys, {counts['open']} open, "
            f"{judgement.steps} steps in {took:.2f} s; {dict(sorted(self.counts.items()))}"
        )
        assert judgement.verdict is Verdict.LINEARIZABLE, str(judgement)
        return judgement


@contextmanager
def record(nodes: Sequence[Node], seed: int = 0, clients: int = CLIENTS) -> Iterator[Record]:
    """Have clients use `nodes` until the end of `with`; then `judge` what they recorded."""
    stop = threading.Event()
    found = Record(nodes, seed)
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(found.run, number, stop) for number in range(clients)]
        try:
            yield found
        finally:
            stop.set()
        for one in running:
            one.result(4 * _SOCKET_S)


def _asked(kind: Kind, number: int, revision: int) -> Action:
    value = None if kind in (Kind.READ, Kind.DELETE) else f"v{number}"
    return Action(kind, value, expected=revision if kind is Kind.CAS else 0)


def _request(key: str, asked: Action) -> tuple[str, str, bytes | None]:
    timeout = f"timeout={_REQUEST_MS}ms"
    if asked.kind is Kind.READ:
        return "GET", f"/read/{key}?{timeout}", None
    if asked.kind is Kind.DELETE:
        return "DELETE", f"/delete/{key}?{timeout}", None
    assert asked.value is not None
    if asked.kind is Kind.CAS:
        return "PUT", f"/v1/kv/{key}?cas={asked.expected}&{timeout}", asked.value.encode()
    body = json.dumps({"key": key, "value": asked.value}).encode()
    return "POST", f"/{asked.kind.value}?{timeout}", body


def _answered(asked: Action, answer: Answer) -> Action:
    if asked.kind is Kind.CAS:
        assert answer.status == 200, answer
        result = Result.DONE if answer.json() is True else Result.MISMATCH
        return Action(asked.kind, asked.value, None, asked.expected, result)
    if answer.status == 404 and asked.kind is not Kind.WRITE:
        return Action(asked.kind, asked.value, result=Result.ABSENT)
    assert answer.status == 200, answer
    found = answer.json()
    value = found["value"] if asked.kind is Kind.READ else asked.value
    return Action(asked.kind, value, found["revision"], result=Result.DONE)


def check_kept(
    key: str, actions: Sequence[Action], found: dict[str, Any] | None, up_to: int
) -> None:
    """Compare what a key has (a value and its revision, or nothing) with what was done to it.

    Every acknowledged change up to the revision `up_to` has to be there, or a later one.
    """
    told = {a.value: a.revision for a in actions if a.value is not None and a.revision is not None}
    changes = [a for a in actions if a.kind is not Kind.READ and a.result in (None, Result.DONE)]
    # The answer to a compare-and-set has no revision; whoever read the value was told it.
    revisions = {a: (a.revision or told.get(a.value or "", 0)) for a in changes}
    kept = [a for a in changes if 0 < revisions[a] <= up_to]
    last = max(kept, key=revisions.__getitem__, default=None)
    least = revisions[last] if last else 0
    if found is None:
        deletions = [a for a in changes if a.kind is Kind.DELETE]
        is_gone = any(a.result is None or revisions[a] >= least for a in deletions)
        assert last is None or is_gone, f"{key}: nothing is there, {last} was acknowledged"
        return
    assert found["revision"] >= least, f"{key}: {found} is there, {last} was acknowledged"
    assert found["value"] in {a.value for a in changes}, f"{key}: {found} was never written"
    if last is not None and found["revision"] == least:
        assert found["value"] == last.value, f"{key}: {found} is there, {last} was acknowledged"
