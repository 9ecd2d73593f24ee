"""Many reads that wait, against a model: who is woken by what, and that an index never goes back.

The model knows keys and values, and for each question the index of its last answer. A recursive
deletion raises the index of what it overlaps, of what is not there, too: contract of services, 2.3.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.model.commands import Command, Delete, DeletePrefix, Put
from hstore.node.net.stream import TcpStream
from hstore.node.state.kv import deletions
from hstore.node.state.machine import State
from hstore.node.state.watching.watches import Watches
from tests.fakes.polling import poll_in

from ..conftest import Client, FakeBackend, Response, apply

KEYS = ["a", "a/b", "a/c", "b", "ab"]
QUESTIONS = [
    *KEYS, "x", "?keys", "a?keys", "a/?recurse", "b?recurse", "x?keys", "ab?keys&separator=/",
]  # fmt: skip
_key = st.sampled_from([key.encode() for key in KEYS])
_changes: st.SearchStrategy[Command | None] = st.one_of(
    st.builds(Put, _key, st.binary(max_size=2)),
    st.builds(Put, _key, st.binary(max_size=2), st.just(0), st.just(1)),
    st.builds(Delete, _key),
    st.builds(DeletePrefix, st.sampled_from([b"", b"a", b"a/", b"x"])),
    st.none(),
)


def shown(backend: FakeBackend, question: str) -> Any:
    """What a question's result is, from the state alone."""
    path, _, query = question.partition("?")
    items = {key.decode(): item.revision for key, item in backend.items.items()}
    if not query:
        return items.get(path)
    return {key: revision for key, revision in items.items() if key.startswith(path)}


def overlaps(question: str, prefix: str) -> bool:
    """Whether a question is about a key, or keys, under a prefix; a key that is there, too."""
    path, _, query = question.partition("?")
    return path.startswith(prefix) or (bool(query) and prefix.startswith(path))


def target(question: str, index: int) -> str:
    return f"/v1/kv/{question}{'&' if '?' in question else '?'}index={index}&wait=10m"


class Reader:
    """A client that asks a question again as soon as it is answered."""

    def __init__(self, client: Client, question: str) -> None:
        self.client = client
        self.question = question
        self.index = 0

    async def ask(self) -> None:
        text = f"GET {target(self.question, self.index)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await self.client.send(text.encode())

    def is_answered(self) -> bool:
        return self.client.stream.has_input()  # type: ignore[attr-defined, no-any-return]


async def _run(nursery: trio.Nursery, given_changes: list[Command | None]) -> None:
    backend = FakeBackend()
    poller = poll_in(nursery)
    backend.watches.wake = poller.turn.soon
    server = ApiServer(backend.whole, ROUTES, poller=poller)
    sockets = []
    readers = []
    for question in QUESTIONS * 2:
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        sockets += [near, far]
        server.serve_parked(TcpStream(far), nursery, is_local=True)
        readers.append(Reader(Client(TcpStream(near)), question))
    try:
        for reader in readers:
            answer: Response = await reader.client.request("GET", target(reader.question, 0))
            reader.index = answer.index
            await reader.ask()
        for change in given_changes:
            await trio.testing.wait_all_tasks_blocked()
            before = {question: shown(backend, question) for question in QUESTIONS}
            were_there = set(backend.items)
            apply(backend.state, change)
            await trio.testing.wait_all_tasks_blocked()
            tree = change.prefix.decode() if isinstance(change, DeletePrefix) else None
            if not were_there - set(backend.items):
                tree = None  # Nothing was deleted, and no index rises.
            for reader in readers:
                is_changed = shown(backend, reader.question) != before[reader.question]
                is_changed |= tree is not None and overlaps(reader.question, tree)
                assert reader.is_answered() is is_changed, (change, reader.question)
                if is_changed:
                    answer = await reader.client.response()
                    assert answer.index > reader.index
                    assert answer.index == backend.applied_index
                    _check(answer, backend, reader.question)
                    reader.index = answer.index
                    await reader.ask()
    finally:
        for connection in list(server._connections):
            connection.leave()
        for sock in sockets:
            sock.close()


def _check(answer: Response, backend: FakeBackend, question: str) -> None:
    found = shown(backend, question)
    if not found and question != "?keys":
        assert (answer.status, answer.body) == (404, b"")
    elif "?" not in question:
        assert json.loads(answer.body)[0]["ModifyIndex"] == found
    elif "recurse" in question:
        rows = json.loads(answer.body)
        assert {row["Key"]: row["ModifyIndex"] for row in rows} == found
    elif "separator" not in question:
        assert json.loads(answer.body) == sorted(found)


@settings(max_examples=40, deadline=None)
@given(st.lists(_changes, max_size=12))
async def test_a_change_wakes_those_whose_result_it_changes_and_nobody_else(given_changes):
    async with trio.open_nursery() as nursery:
        await _run(nursery, given_changes)
        nursery.cancel_scope.cancel()


# --- an index never goes back -----------------------------------------------------------------


async def _indexes(client: Client) -> dict[str, int]:
    found = {}
    for question in QUESTIONS:
        found[question] = (await client.request("GET", f"/v1/kv/{question}")).index
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(_changes, st.just("restart")), max_size=25), st.integers(2, 6))
async def test_an_index_never_goes_back(given_changes, kept):
    """Over deletions, ones that are forgotten, and restarts."""
    backend = FakeBackend()
    near, far = trio.testing.memory_stream_pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deletions, "KEPT_MAX", kept)
        async with trio.open_nursery() as nursery:
            server = ApiServer(backend.whole, ROUTES)
            nursery.start_soon(server.serve_stream, far)
            await _follow(Client(near), backend, given_changes)
            nursery.cancel_scope.cancel()


async def _follow(client: Client, backend: FakeBackend, given_changes: list[Any]) -> None:
    last = await _indexes(client)
    assert min(last.values()) >= 1
    for change in given_changes:
        if change == "restart":
            backend.state = State(backend.state._store)
            backend.watches = Watches(backend.state.history)
        else:
            apply(backend.state, change)
        now = await _indexes(client)
        assert {q: (last[q], now[q]) for q in QUESTIONS if now[q] < last[q]} == {}
        assert max(now.values()) <= backend.applied_index
        last = now
