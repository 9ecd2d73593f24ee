"""The status table of contract section 4, as far as it is not a parser's or a browser's matter."""

from __future__ import annotations

import pytest
import trio

from hstore.node.api.dialect.texts import is_dialect
from hstore.node.errors import NoLeader, NotApplied, OutcomeUnknown, Overloaded, StorageError

WRITES = [
    ("POST", "/write", {"key": "a", "value": ""}),
    ("POST", "/update", {"key": "a", "value": ""}),
    ("PUT", "/v1/kv/a", b""),
    ("DELETE", "/v1/kv/a", None),
    ("DELETE", "/v1/kv/a?recurse", None),
    ("DELETE", "/delete/a", None),
    ("GET", "/delete/a", None),
]
READS = ["/read", "/read/a", "/v1/kv/a", "/v1/kv/?recurse", "/v1/kv/?keys"]
IN_THE_DIALECT = {
    NoLeader: (500, "No cluster leader"),
    NotApplied: (500, "No cluster leader"),
    OutcomeUnknown: (500, "leadership lost while committing log"),
    Overloaded: (503, "too much"),
}
PATHS = {
    "/read": "GET, HEAD",
    "/read/a": "GET, HEAD",
    "/write": "POST",
    "/update": "POST",
    "/delete/a": "DELETE, GET",
    "/v1/kv/a": "DELETE, GET, PUT",
    "/v1/status/leader": "GET",
    "/v1/status/peers": "GET",
    "/v1/cluster": "GET, HEAD",
    "/v1/cluster/join": "POST",
    "/v1/events": "GET, HEAD",
    "/v1/health": "GET, HEAD",
    "/v1/node/stop": "POST",
    "/v1/node/restart": "POST",
    "/v1/node/kill": "POST",
    "/v1/node/leave": "POST",
    "/v1/leader/remove": "POST",
    "/v1/leader/transfer": "POST",
}


@pytest.mark.parametrize(("method", "target", "body"), WRITES)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NoLeader("no leader"), "not applied"),
        (Overloaded("too much"), "not applied"),
        (NotApplied("dropped"), "not applied"),
        (OutcomeUnknown("lost"), "unknown"),
    ],
)
async def test_a_failed_write_says_whether_it_took_effect(
    client, backend, method, target, body, error, outcome
):
    backend.error = error
    answer = await client.request(method, target, body)
    assert answer.outcome == outcome
    if is_dialect(target.encode()):
        assert (answer.status, answer.error) == IN_THE_DIALECT[type(error)]
    else:
        assert (answer.status, answer.json()) == (503, {"error": str(error), "outcome": outcome})
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-hstore-index"] == "10"


@pytest.mark.parametrize("target", READS)
async def test_a_failed_read_is_503_without_an_outcome(client, backend, target):
    backend.error = NoLeader("no leader")
    answer = await client.request("GET", target)
    if is_dialect(target.encode()):
        assert (answer.status, answer.error) == (500, "No cluster leader")
    else:
        assert (answer.status, answer.json()) == (503, {"error": "no leader"})
    assert answer.outcome is None
    assert answer.headers["retry-after"] == "1"
    separator = "&" if "?" in target else "?"
    assert (await client.request("GET", f"{target}{separator}stale")).status in {200, 404}


async def test_a_failing_disk_is_503_without_retry_after(client, backend):
    backend.error = StorageError("no space left on device")
    answer = await client.request("PUT", "/v1/kv/a", b"")
    assert (answer.status, answer.outcome) == (503, "unknown")
    assert "retry-after" not in answer.headers


async def test_a_disk_that_fails_under_a_listing_is_503(client, backend, monkeypatch):
    def fail():
        raise StorageError("damaged")

    monkeypatch.setattr(backend, "view", fail)
    for target in ["/read", "/v1/kv/?recurse"]:
        answer = await client.request("GET", target)
        assert (answer.status, answer.error) == (503, "damaged")


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 5.0), ("?timeout=500ms", 0.5), ("?timeout=1s", 1.0), ("?timeout=2m", 120.0),
     ("?timeout=5m", 300.0), ("?timeout=1.5s", 1.5), ("?timeout=1m30s", 90.0)],
)  # fmt: skip
async def test_the_deadline_of_a_request_is_its_timeout(
    client, backend, query, seconds, autojump_clock
):
    await client.request("PUT", "/v1/kv/a" + query, b"")
    await client.request("GET", "/read/a" + query)
    assert [call[1] for call in backend.calls] == [pytest.approx(seconds)] * 2


@pytest.mark.parametrize("bad", ["", "5", "s", "0s", "-1s", "1h", "1.5", "301s", "1000000000s"])
async def test_a_bad_timeout_is_400(client, backend, bad):
    answer = await client.request("PUT", f"/v1/kv/a?timeout={bad}", b"")
    assert (answer.status, "500ms" in answer.error) == (400, True)
    assert (await client.request("GET", f"/read/a?stale&timeout={bad}")).status == 400
    assert not backend.calls


async def test_a_request_may_take_its_five_minutes(client, backend, autojump_clock):
    async def wait_long(_command):
        await trio.sleep(299)

    backend.before_write = wait_long
    answer = await client.request("PUT", "/v1/kv/a?timeout=5m", b"")
    assert (answer.status, trio.current_time()) == (200, 299)


@pytest.mark.parametrize(("path", "allow"), PATHS.items())
async def test_a_wrong_method_is_405_with_the_right_ones(connect, path, allow):
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]:
        if method == "OPTIONS" and is_dialect(path.encode()):
            answer = await connect().request(method, path, b"")
            assert (answer.status, answer.headers["allow"]) == (200, f"OPTIONS, {allow}")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        elif method not in allow.split(", "):
            answer = await connect().request(method, path, b"")
            assert (method, answer.status, answer.headers["allow"]) == (method, 405, allow)


@pytest.mark.parametrize("path", ["/v1", "/v1/kv", "/reads", "/READ", "//read", "/v2/kv/a"])
async def test_an_unknown_path_is_404(client, path):
    answer = await client.request("GET", path)
    assert answer.status == 404
    assert answer.error
    assert answer.headers["x-hstore-index"] == "10"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/kv/a"), ("POST", "/write"), ("POST", "/update"), ("POST", "/v1/cluster/join"),
     ("POST", "/v1/leader/remove"), ("POST", "/v1/leader/transfer")],
)  # fmt: skip
async def test_a_body_without_a_length_is_411_and_ends_the_connection(
    client, backend, method, path
):
    """What follows may be the body; taken for a request, it could do anything."""
    await client.send(
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        "DELETE /delete/a HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    answer = await client.response()
    assert (answer.status, answer.headers["connection"]) == (411, "close")
    assert await client.read_to_end() == b""
    assert not backend.calls


async def test_a_defect_is_500_and_the_connection_goes_on(client, backend):
    async def fail(_command):
        raise ZeroDivisionError

    backend.before_write = fail
    answer = await client.request("PUT", "/v1/kv/a", b"")
    assert (answer.status, answer.outcome) == (500, "unknown")
    assert (await client.request("GET", "/v1/health")).status == 200


@pytest.mark.parametrize("bad", ["%", "%zz", "a=%ff", "%ff=a"])
async def test_a_query_that_cannot_be_decoded_is_400(client, bad):
    assert (await client.request("GET", "/read?" + bad)).status == 400


async def test_a_plus_in_a_query_is_a_space(client, backend):
    backend.set(b"a b", b"")
    backend.set(b"c", b"")
    assert (await client.request("GET", "/read?prefix=a+b&unknown=1")).json() == {"a b": ""}
