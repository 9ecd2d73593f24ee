"""What `make clients` itself does: its lines, its cache, and its relay that counts. Runs no client."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import open_stream_to_socket_listener

from tests.clients import cache, counting, families, py_consul
from tests.clients.outcome import Outcome, Unavailable


def test_a_line_says_how_many_passed_and_which_did_not() -> None:
    outcome = Outcome("py-consul", "1.8.0")
    outcome.add("kv.kv")
    outcome.add("kv.keys", "AssertionError: why")

    assert outcome.line() == "py-consul 1.8.0: 1 of 2 (kv.keys)"
    assert outcome.faults() == "    kv.keys: AssertionError: why"
    assert not outcome.is_good


def test_a_client_of_which_nothing_ran_is_not_good() -> None:
    missing = Outcome("node-consul", "2.0.1", missing="git is not installed")

    assert not Outcome("py-consul", "1.8.0").is_good
    assert not missing.is_good
    assert missing.line() == "node-consul 2.0.1: skipped: git is not installed"


def test_what_is_not_run_is_said_with_its_reason() -> None:
    outcome = Outcome("py-consul", "1.8.0", left_out={"test_acl.py": "tokens are not built"})
    outcome.add("kv.kv")

    assert outcome.is_good
    assert outcome.table() == "    not run: test_acl.py: tokens are not built"


def test_a_test_of_py_consul_that_is_neither_run_nor_left_out_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(py_consul, "PARTS", ("api/test_kv.py",))
    monkeypatch.setattr(py_consul, "PARTS_ALONE", ("test_agent.py",))
    monkeypatch.setattr(py_consul, "UNASKED", ())
    monkeypatch.setattr(py_consul, "OUT", {"test_agent.py::TestAgent::test_gone": "a reason"})
    monkeypatch.setattr(py_consul, "LEAVE", "test_agent.py::TestAgent::test_leave")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "test_new.py").write_text("")
    (tmp_path / "api" / "test_kv.py").write_text("")
    (tmp_path / "test_agent.py").write_text("    def test_leave(self):\n")

    unknown = ["api/test_new.py", "test_agent.py::TestAgent::test_gone"]
    assert py_consul.unknown_tests(tmp_path) == unknown


def test_what_could_not_be_fetched_whole_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSTORE_CLIENTS_CACHE", str(tmp_path))

    def half(place: Path) -> None:
        (place / "a").write_text("1")
        raise Unavailable("the network is gone")

    with pytest.raises(Unavailable):
        cache.kept("package", half)
    assert list(tmp_path.iterdir()) == []

    def whole(place: Path) -> None:
        (place / "a").write_text("2")

    place = cache.kept("package", whole)
    assert (place / "a").read_text() == "2"
    assert cache.kept("package", half) == place


def test_each_client_can_be_named_and_installed() -> None:
    assert set(families.NAMES) == set(families.INSTALLS)


async def test_the_relay_passes_everything_on_and_writes_down_each_request(tmp_path: Path) -> None:
    heard = b""

    async def node(stream: trio.SocketStream) -> None:
        nonlocal heard
        heard += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()

    request = b"GET /v1/kv/a?index=7 HTTP/1.1\r\nHost: x\r\n\r\n"
    with (tmp_path / "requests").open("a") as file:
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, node, [listener])
            host, port = listener.socket.getsockname()
            [relay] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(
                trio.serve_listeners,
                lambda client: counting.serve(f"{host}:{port}", file, client),
                [relay],
            )
            async with await open_stream_to_socket_listener(relay) as client:
                await client.send_all(request)
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
            nursery.cancel_scope.cancel()
    assert heard == request
    [line] = (tmp_path / "requests").read_text().splitlines()
    assert line.split(" ", 1)[1] == "GET /v1/kv/a?index=7"
