"""Whatever is asked of the paths of services: an answer, soon, and a state that every replica has.

Bodies are written as text here, since a dictionary has no member twice: wrong types, members that are
missing, doubled or in odd letters, huge numbers, deep nesting, what is no JSON at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import quote

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.model import commands
from hstore.node.model.commands import Command, Outcome
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state.machine import State
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk
from tests.node.api.conftest import Client, Response
from tests.node.api.consul.conftest import OWN, StateBackend
from tests.node.state.catalogs import digest

WRITES = [
    "agent/service/register", "agent/service/deregister/", "agent/service/maintenance/", "agent/maintenance",
    "agent/check/register", "agent/check/deregister/", "agent/check/pass/", "agent/check/warn/",
    "agent/check/fail/", "agent/check/update/", "catalog/register", "catalog/deregister",
]  # fmt: skip
READS = [
    "agent/self", "agent/members", "agent/services", "agent/checks", "agent/health/service/id/",
    "agent/health/service/name/", "catalog/datacenters", "catalog/nodes", "catalog/services",
    "catalog/service/", "catalog/node/", "catalog/connect/", "health/service/", "health/checks/",
    "health/node/", "health/state/", "health/connect/",
]  # fmt: skip
MEMBERS = [
    "Name",
    "ID",
    "Tags",
    "Port",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Weights",
    "Passing",
    "Warning",
    "EnableTagOverride",
    "Check",
    "Checks",
    "CheckID",
    "Status",
    "Notes",
    "TTL",
    "Interval",
    "Timeout",
    "HTTP",
    "TCP",
    "Args",
    "Method",
    "Header",
    "Body",
    "TLSServerName",
    "OutputMaxSize",
    "SuccessBeforePassing",
    "FailuresBeforeCritical",
    "DeregisterCriticalServiceAfter",
    "ServiceID",
    "Node",
    "NodeMeta",
    "Service",
    "SkipNodeUpdate",
    "Definition",
    "Output",
    "Kind",
    "Connect",
    "Datacenter",
    "service_id",
    "tagged_addresses",
    "lan",
    "Nobody",
]
TEXTS = [
    "web", "Web", "n1", "N1", "hall", "c", "serfHealth", "consul", "passing", "bad", "", "10s", "1e9h", "-1s",
    "dc1", "dc2", "http://192.0.2.1/", "192.0.2.1:80", "::", "\0", "../x", "a#/'\"%2F", "\u00e4" * 200,
    "x" * 1100, "true",
]  # fmt: skip
NUMBERS = [
    "0",
    "1",
    "-1",
    "65536",
    "1.0",
    "1.5",
    "1e3",
    "1e999",
    "-0",
    "9" * 400,
    str(2**63),
    str(2**64),
]
ODD: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper, str.swapcase)
NO_JSON = ["", " ", "nul", "NaN", "{", "[}", '{"Name":}', '"\\ud800"', "\ufeff{}", "01", "'a'"]
DEEP = {
    "deep lists": b"[" * 3000 + b"]" * 3000,
    "deep checks": b'{"Check":' * 3000 + b"1" + b"}" * 3000,
    "open lists": b"[" * 60_000,
}
"""By what stands for them in a test that has failed."""


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    names = st.sampled_from(MEMBERS)
    odd = st.sampled_from(ODD)
    pairs = draw(st.lists(st.tuples(names, odd, inner), max_size=6))
    return "{" + ",".join(f"{json.dumps(form(name))}:{text}" for name, form, text in pairs) + "}"


VALUES = st.recursive(
    st.sampled_from(["null", "true", "false", *NUMBERS]) | st.sampled_from(TEXTS).map(json.dumps),
    lambda inner: st.lists(inner, max_size=3).map(lambda all_: f"[{','.join(all_)}]") | _objects(inner),
    max_leaves=8,
)  # fmt: skip
SOUND = [
    '{"Name":"web","Check":{"TTL":"10s"}}', '{"Name":"c","TTL":"10s","ServiceID":"web"}',
    '{"Name":"Web","ID":"a#/","Checks":[{"TTL":"1s"},{"TCP":"a:1","Interval":"1s"}]}',
    '{"Status":"passing","Output":"o"}', '{"Node":"hall","Address":"192.0.2.1","Service":{"Service":"web"}}',
    '{"Node":"hall","ServiceID":"web"}', '{"Node":"hall"}',
]  # fmt: skip
BODIES = (
    st.sampled_from(SOUND)
    # What comes first counts where a member is not there again.
    | _objects(VALUES).map(lambda text: '{"Name":"web","Node":"hall","TTL":"1s",' + text[1:])
    | _objects(VALUES)
    | VALUES
    | st.sampled_from([*NO_JSON, *DEEP])
).map(lambda text: text.replace(",}", "}"))
ENDS = [
    "",
    "web",
    "Web",
    "n1",
    "hall",
    "c",
    "any",
    "critical",
    "a%23%2f",
    "%zz",
    "%ff",
    "..",
    "%00",
    "x" * 1100,
]
QUERIES = [
    "node=hall", "node=n1", "node=%ff", "node=", "node-address=192.0.2.1", "node-address=x", "enable=true",
    "enable=0", "enable=x", "enable", "reason=%0a", "note=n", "replace-existing-checks", "dc=dc2", "dc", "tag=a",
    "tag=%ff", "node-meta=a:b", "node-meta=", "passing", "passing=x", "PASSING", "stale", "consistent",
    "index=1", "index=" + "9" * 30, "index=x", "index=-1", "wait=1ms", "wait=10", "wait=9999h", "wait=-1s",
    "timeout=x", "timeout=1ms", "near=_agent", "peer=p", "format=text", "&&=&", "filter=%ff",
    *(
        "filter=" + quote(text)
        for text in (
            "", "(", 'Node == "n1"', "ServiceName != web", '"a" in ServiceTags', "Checks is empty",
            "Meta.x matches `(a|aa)+$`", "Status == 1", "Port == 9" + "9" * 99, "not " * 80 + "x is empty",
            '"' + "a" * 5000,
        )
    ),
]  # fmt: skip


def _requests(
    methods: Sequence[str], paths: Sequence[str], bodies: st.SearchStrategy[str]
) -> st.SearchStrategy[tuple[str, str, str, list[str], str]]:
    """Return requests; the parts of most of them are sound, for else few would get far."""
    queries = st.lists(st.sampled_from(QUERIES), max_size=2)
    ends = st.sampled_from(ENDS)
    return st.tuples(st.sampled_from(methods), st.sampled_from(paths), ends, queries, bodies)


REQUESTS = (
    _requests(["PUT"], WRITES, st.sampled_from(SOUND))
    | _requests(["PUT"], WRITES, BODIES)
    | _requests(["GET"], READS, st.just(""))
    | _requests(["PUT", "GET", "POST", "DELETE", "OPTIONS"], WRITES + READS, BODIES)
)


class Recording(StateBackend):
    """A node that keeps the entries of its log."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        super().__init__()

    def apply(self, command: Command) -> Outcome:
        self.time_ms += 400
        data = commands.encode(command)
        if commands.needs_time(data):
            data = commands.stamped(data, self.time_ms)
        entry = Entry(self.state.applied + 1, 1, int(EntryKind.COMMAND), data)
        self.entries.append(entry)
        [outcome] = self.state.apply([entry])
        assert outcome is not None
        return outcome


def replica(entries: list[Entry]) -> State:
    """Return what another member has, which has applied all of it at once."""
    storage = MemoryDisk(Identity("00" * 8, OWN + 1)).open()
    storage.load()
    state = State(storage.state)
    state.apply(entries)
    return state


def judge(answer: Response) -> None:
    assert answer.status in {200, 400, 404, 405, 413, 429, 500, 503}, answer
    if answer.headers["content-type"] == "application/json":
        answer.json()
    elif answer.status != 200:
        assert b"\n" not in answer.body
        assert len(answer.body) < 500
        assert b"defect" not in answer.body


@settings(max_examples=25, deadline=None)
@given(st.lists(REQUESTS, min_size=15, max_size=30))
def test_every_request_is_answered_soon_and_replicas_agree(requests):
    async def ask() -> None:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: server.serve_stream(far, is_local=True))
            client = Client(near)
            for method, path, end, query, body in requests:
                target = f"/v1/{path}{end if path.endswith('/') else ''}?{'&'.join(query)}"
                data = DEEP.get(body) or body.encode("utf-8", "surrogatepass")
                with trio.fail_after(650):  # A read may wait for 10 min and a 16th of it.
                    judge(await client.request(method, target, b"" if method == "GET" else data))
            nursery.cancel_scope.cancel()

    backend = Recording()
    server = ApiServer(backend.whole, ROUTES)
    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))
    assert digest(replica(backend.entries)) == digest(backend.state)
