"""What the commands send to a node, and what they make of its answers."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import msgspec
import pytest

from hstore.cli.client import api as client_module
from hstore.cli.client import sessions
from hstore.cli.client.api import NodeClient
from hstore.cli.client.errors import Forbidden, NotConnected, NotFound, NothingListens, Unreachable
from hstore.node.errors import ConfigError, NotApplied, OutcomeUnknown, Refused

ADDRESS = "127.0.0.1:8500"


@pytest.fixture
def client(cluster):
    with cluster.connect(ADDRESS, 5.0) as one:
        yield one


def test_a_client_reads_no_certificates(monkeypatch):
    """By default each client reads all authorities of the system, for nothing: HTTP is spoken."""

    def read(*_arguments, **_options):
        pytest.fail("certificates were read")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", read)
    with NodeClient(ADDRESS):
        pass


def test_no_type_is_first_met_by_msgspec_when_several_threads_may_decode():
    """Two threads that are the first to decode into a type crash the process, one time in 60."""
    folder = Path(client_module.__file__).parent
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    assert "json.decode(" not in source
    assert source.count("json.Decoder(") >= 4


def refusal(status, **body):
    return httpx.Response(status, json=body)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("foo", "/v1/kv/foo?raw"),
        ("a/b c?d#e%", "/v1/kv/a%2Fb%20c%3Fd%23e%25?raw"),
        ("ä", "/v1/kv/%C3%A4?raw"),
        (".", "/v1/kv/%2E?raw"),
        ("..", "/v1/kv/%2E%2E?raw"),
        ("../read", "/v1/kv/..%2Fread?raw"),
    ],
)
def test_any_key_arrives_as_one_segment_of_the_path(client, cluster, key, path):
    cluster.set(ADDRESS, f"/v1/kv/{key}", httpx.Response(200, content=b"\xffvalue"))
    assert client.read(key) == b"\xffvalue"
    assert cluster.asked == [(ADDRESS, "GET", path)]


def test_writes_return_the_revision(client, cluster):
    written = httpx.Response(200, json={"key": "foo", "revision": 7})
    for path in ("/write", "/update", "/delete/foo"):
        cluster.set(ADDRESS, path, written)
    assert client.write("foo", "bar") == client.update("foo", "bar") == client.delete("foo") == 7
    assert [method for _, method, _ in cluster.asked] == ["POST", "POST", "DELETE"]


@pytest.mark.parametrize(
    ("answer", "kind", "status", "message"),
    [
        (refusal(404, error="no key foo"), NotFound, 1, "no key foo"),
        (refusal(400, error="empty key"), ConfigError, 2, "empty key"),
        (refusal(413, error="too large"), Refused, 1, "too large"),
        (refusal(409, error="no"), Refused, 1, "no"),
        (refusal(503, error="no leader", outcome="not applied"), NotApplied, 1, "no leader"),
        (refusal(503, error="lost", outcome="unknown"), OutcomeUnknown, 1, "lost"),
        (httpx.Response(500, text="<html>"), Unreachable, 3, "not an hstore node"),
        (httpx.Response(200, text="<html>"), Unreachable, 3, "not an hstore node"),
    ],
)
def test_each_answer_has_its_error_and_exit_status(client, cluster, answer, kind, status, message):
    cluster.set(ADDRESS, "/write", answer)
    with pytest.raises(kind, match=message) as caught:
        client.write("foo", "bar")
    assert caught.value.exit_code == status


@pytest.mark.parametrize(
    ("status", "text", "headers", "kind", "message"),
    [
        (500, "No cluster leader", {}, NotApplied, "No cluster leader; `hstore list` shows why"),
        (500, "leadership lost while committing log", {}, OutcomeUnknown, "may or may not"),
        (500, "late", {"X-Hstore-Outcome": "unknown"}, OutcomeUnknown, "late; the write may"),
        (
            500,
            'invalid session "x"',
            {"X-Hstore-Outcome": "not applied"},
            Refused,
            "^invalid session",
        ),
        (503, "too many requests wait", {}, NotApplied, "too many requests wait"),
        (400, "Invalid index", {}, ConfigError, "Invalid index"),
        (403, "Permission denied", {}, Forbidden, "Permission denied"),
        (404, "", {}, NotFound, "there is no such key"),
        (413, "Request body(9 bytes) too large, max size: 8 bytes.", {}, Refused, "too large"),
        (500, "a\x1b[31mb", {}, Refused, r"a\\x1b\[31mb"),
        (500, '{"error": "x"}', {}, Refused, '{"error": "x"}'),
    ],
)
def test_the_errors_of_the_dialect_are_lines_of_text(
    client, cluster, status, text, headers, kind, message
):
    for path in ("/v1/kv/foo", "/v1/session/create", "/v1/txn"):
        cluster.set(ADDRESS, path, [httpx.Response(status, text=text, headers=headers)] * 2)
    with pytest.raises(kind, match=message):
        client.put("foo", b"")
    with pytest.raises(kind, match=message):
        sessions.create(client, {})
    with pytest.raises(kind, match=message):
        sessions.transact(client, [])


def test_a_missing_key_without_a_message_is_still_a_missing_key(client, cluster):
    cluster.set(ADDRESS, "/v1/kv/foo", httpx.Response(404))
    with pytest.raises(NotFound):
        client.read("foo")


def test_the_text_of_another_program_is_not_taken_for_a_value(client, cluster):
    cluster.strangers.add(ADDRESS)
    for path in ("/v1/kv/foo", "/read"):
        cluster.set(ADDRESS, path, httpx.Response(200, text="hello"))
    with pytest.raises(Unreachable, match="not an hstore node"):
        client.read("foo")
    with pytest.raises(Unreachable, match="not an hstore node"):
        list(client.read_all())


@pytest.mark.parametrize("status", [200, 404])
def test_of_what_another_program_says_nothing_is_read_for_it_may_have_no_end(
    client, cluster, status
):
    def endless():
        pytest.fail("its body was read")
        yield b""

    cluster.strangers.add(ADDRESS)
    cluster.set(ADDRESS, "/v1/cluster", httpx.Response(status, content=endless()))
    with pytest.raises(Unreachable, match=f"HTTP {status}.*not an hstore node") as caught:
        client.cluster()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("reason", "is_certain"),
    [
        ("[Errno 111] Connection refused", True),
        ("[Errno 113] No route to host", False),
        ("[Errno 101] Network is unreachable", False),
        ("[Errno 22] Invalid argument", False),  # of a route into a black hole
        ("[Errno -2] Name or service not known", False),
    ],
)
def test_only_a_machine_that_answers_says_that_no_node_runs_there(
    client, cluster, reason, is_certain
):
    cluster.set(ADDRESS, "/v1/cluster", httpx.ConnectError(reason))
    with pytest.raises(NotConnected, match=reason.partition("] ")[2]) as caught:
        client.cluster()
    assert isinstance(caught.value, NothingListens) == is_certain


def test_a_refused_connection_names_address_and_reason(client):
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:8500 \(Connection refused\)"):
        client.write("foo", "bar")


@pytest.mark.parametrize("lost", [httpx.ReadTimeout("late"), httpx.ReadError("reset")])
def test_a_write_that_was_sent_and_not_answered_is_unknown_and_is_not_sent_again(
    client, cluster, lost
):
    cluster.set(ADDRESS, "/write", lost)
    with pytest.raises(OutcomeUnknown, match="read it back"):
        client.write("foo", "bar")
    assert len(cluster.asked) == 1


def test_a_read_that_is_not_answered_is_a_node_that_cannot_be_reached(client, cluster):
    cluster.set(ADDRESS, "/v1/kv/foo", httpx.ReadTimeout("late"))
    with pytest.raises(Unreachable, match="did not answer in time"):
        client.read("foo")


def test_events_yield_the_cluster_at_each_change_until_the_node_ends(client, cluster, make):
    infos = [make.info(), make.info(term=3)]
    cluster.set(ADDRESS, "/v1/events", make.events(*infos))
    events = client.events()
    assert [next(events), next(events)] == infos
    with pytest.raises(Unreachable, match="has ended"):
        next(events)


def test_a_refusal_of_the_stream_of_events_is_read_as_json(client, cluster):
    """Its path begins like `/v1/event`, the errors of which are text."""
    said = "12000 clients watch this node already: ask another one"
    cluster.set(ADDRESS, "/v1/events", refusal(503, error=said))
    with pytest.raises(NotApplied) as caught:
        next(client.events())
    assert str(caught.value) == said


def test_events_of_other_types_and_comments_are_passed_over(client, cluster, make):
    data = msgspec.json.encode(make.info()).decode()
    body = f": ping\n\nevent: other\ndata: x\n\nretry: 5\nevent:cluster\ndata:{data}\n\n"
    cluster.set(ADDRESS, "/v1/events", httpx.Response(200, text=body))
    assert next(client.events()) == make.info()


def test_an_event_in_several_lines_is_one(client, cluster, make):
    lines = msgspec.json.format(msgspec.json.encode(make.info())).decode().splitlines()
    body = "event: cluster\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
    cluster.set(ADDRESS, "/v1/events", httpx.Response(200, text=body))
    assert next(client.events()) == make.info()


def test_an_event_that_is_no_cluster_comes_from_no_hstore_node(client, cluster):
    cluster.set(ADDRESS, "/v1/events", httpx.Response(200, text="event: cluster\ndata: 1\n\n"))
    with pytest.raises(Unreachable, match="not an hstore node"):
        next(client.events())


def test_a_killed_node_need_not_answer_but_must_have_been_reached(client, cluster):
    cluster.set(ADDRESS, "/v1/node/kill", httpx.RemoteProtocolError("closed"))
    client.kill()
    cluster.set(ADDRESS, "/v1/node/kill", refusal(403, error="from loopback only"))
    with pytest.raises(Refused, match="loopback"):
        client.kill()
    cluster.set(ADDRESS, "/v1/node/kill", None)
    with pytest.raises(Unreachable):
        client.kill()
