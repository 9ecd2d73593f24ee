"""The parser seam: whole requests out of any pieces, one refusal out of anything else."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hstore.node.api.http.connection import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    TARGET_BYTES_MAX,
    UNFINISHED_BYTES_MAX,
    BodyBudget,
    Connection,
    Phase,
)
from hstore.node.api.http.known_heads import SMALL_BODY_BYTES


def facts(requests):
    return [
        (r.method, r.path, r.query, r.headers, r.body, r.has_length, r.keep_alive, r.is_http10)
        for r in requests
    ]


def read(pieces, connection=None):
    """Feed the pieces; return all requests, and the refusal as a status."""
    connection = connection or Connection()
    requests = [request for piece in pieces for request in connection.receive(piece)]
    return facts(requests), connection.error and connection.error.status


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=12)


@st.composite
def valid_requests(draw):
    method = draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]))
    target = "/" + draw(st.text("ab/%41", max_size=20)).replace("%", "%41")
    if draw(st.booleans()):
        target += "?" + draw(st.text("ab=&", max_size=10))
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"X-{name}: {name} {name}" for name in draw(st.lists(TOKEN, max_size=3))]
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    content = b""
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
        content = body
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        for piece in cut(body, draw(st.lists(st.integers(0, 40), max_size=3))):
            content += b"%x\r\n%b\r\n" % (len(piece), piece)
        content += b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: t\r\n"])) + b"\r\n"
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


PLACES = st.lists(st.integers(0, 2000), max_size=30)


@given(st.lists(valid_requests(), min_size=1, max_size=4), PLACES)
def test_valid_pipelined_requests_read_the_same_however_they_are_cut(requests, places):
    data = b"".join(requests)
    whole, error = read([data])
    assert (len(whole), error) == (len(requests), None)
    assert read(cut(data, places)) == (whole, None)
    assert read([bytes([byte]) for byte in data]) == (whole, None)


ODDITIES = [
    b"GET / HTTP/1.1\r\n", b"POST /write HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b" ",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"Connection: close\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"abc", b"\x00", b"\xff",
    b"CONNECT a:1 HTTP/1.1\r\n", b"Expect: 100-continue\r\n", b"HTTP/2.0", b":", b"%",
]  # fmt: skip
MOSTLY_HTTP = st.lists(st.one_of(st.sampled_from(ODDITIES), st.binary(max_size=8)), max_size=12)


@given(st.one_of(st.binary(max_size=200), MOSTLY_HTTP.map(b"".join)), PLACES)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nrubbish", [60])
def test_any_bytes_end_in_requests_or_one_refusal_however_they_are_cut(data, places):
    whole = read([data])
    assert whole[1] in {None, 400}
    assert read(cut(data, places)) == whole


@given(st.binary(max_size=50))
def test_nothing_is_read_after_the_last_request(rest):
    data = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    requests, error = read([data + rest, rest, data])
    assert ([request[1] for request in requests], error) == ([b"/a"], None)


def test_nothing_is_read_after_a_refusal():
    connection = Connection()
    assert connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrubbish\r\n\r\n") != []
    assert connection.error is not None
    assert connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == []


def request_with(headers, target="/", body=b""):
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (target.encode(), headers, body)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request_with(b"", "/" + "a" * (TARGET_BYTES_MAX - 1)), None),
        (request_with(b"", "/" + "a" * TARGET_BYTES_MAX), 431),
        (request_with(b"X: %b\r\n" % (b"a" * (HEADER_BYTES_MAX - 14))), None),
        (request_with(b"X: %b\r\n" % (b"a" * (HEADER_BYTES_MAX - 13))), 431),
        (request_with(b"X: a\r\n" * (HEADER_BYTES_MAX // 6 + 1)), 431),
        (request_with(b"X: a\r\n" * (HEADERS_MAX - 1)), None),
        (request_with(b"X: a\r\n" * HEADERS_MAX), 431),
        (request_with(b"Content-Length: %d\r\n" % (BODY_BYTES_MAX + 1)), 413),
        (
            request_with(b"Transfer-Encoding: chunked\r\n", body=b"%x\r\n" % (BODY_BYTES_MAX + 1))
            + b"a" * (BODY_BYTES_MAX + 1),
            413,
        ),
        (
            request_with(b"Transfer-Encoding: chunked\r\n", body=b"0\r\n")
            + b"T: %b\r\n\r\n" % (b"a" * HEADER_BYTES_MAX),
            431,
        ),
        (
            request_with(b"Transfer-Encoding: chunked\r\n", body=b"0\r\n")
            + b"T: a\r\n" * HEADERS_MAX
            + b"\r\n",
            431,
        ),
    ],
    ids=[
        "target",
        "target+1",
        "header",
        "header+1",
        "headers",
        "count",
        "count+1",
        "length",
        "chunked",
        "trailer",
        "trailers",
    ],
)
def test_each_limit_has_its_status_however_the_bytes_are_cut(data, status):
    assert read([data])[1] == status
    assert read(cut(data, range(0, len(data), 997)))[1] == status


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\nX",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_a_line_that_never_ends_is_refused(start):
    """httptools keeps such a line to itself: nothing else bounds it."""
    connection = Connection()
    connection.receive(start)
    fed = 0
    while connection.error is None:
        connection.receive(b"a" * 4096)
        fed += 4096
        assert fed <= UNFINISHED_BYTES_MAX + 4096
    assert connection.error.status == 431


def test_a_length_too_large_is_refused_before_the_body_comes():
    connection = Connection(body_bytes_max=10)
    connection.receive(request_with(b"Content-Length: 11\r\nExpect: 100-continue\r\n"))
    assert connection.error is not None
    assert connection.error.status == 413
    assert not connection.take_continue()


def test_the_phase_tells_what_is_missing():
    connection = Connection()
    assert connection.phase is Phase.IDLE
    for data, phase in [
        (b"\r\n", Phase.IDLE),
        (b"P", Phase.HEADERS),
        (b"OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", Phase.HEADERS),
        (b"\r\n", Phase.BODY),
        (b"a", Phase.BODY),
        (b"b", Phase.IDLE),
    ]:
        connection.receive(data)
        assert connection.phase is phase


@pytest.mark.parametrize(
    ("version", "header", "due"),
    [
        (b"1.1", b"Expect: 100-continue\r\nContent-Length: 2\r\n", True),
        (b"1.1", b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", True),
        (b"1.1", b"Expect: 100-continue\r\nContent-Length: 0\r\n", False),
        (b"1.1", b"Expect: 100-continue\r\n", False),
        (b"1.1", b"Expect: anything\r\nContent-Length: 2\r\n", False),
        (b"1.1", b"Content-Length: 2\r\n", False),
        (b"1.0", b"Expect: 100-continue\r\nContent-Length: 2\r\n", False),
    ],
)
def test_a_client_that_waits_for_it_is_told_to_continue_once(version, header, due):
    connection = Connection()
    connection.receive(b"PUT /a HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, header))
    assert connection.take_continue() is due
    assert connection.take_continue() is False


def test_a_client_that_did_not_wait_is_not_told_to_continue():
    connection = Connection()
    connection.receive(request_with(b"Content-Length: 2\r\nExpect: 100-continue\r\n", body=b"a"))
    assert not connection.take_continue()


def test_a_body_in_many_small_pieces_takes_no_more_memory_than_in_few():
    """Two bytes of a chunk took 43, of which no budget knew."""
    connection = Connection()
    connection.receive(b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()
    try:
        for number in range(100):
            connection.receive(b"".join(b"2\r\n%02d\r\n" % (number % 100) for _ in range(100)))
        assert tracemalloc.get_traced_memory()[0] < 2 * 20_000
    finally:
        tracemalloc.stop()
    [request] = connection.receive(b"0\r\n\r\n")
    assert request.body == b"".join(b"%02d" % number * 100 for number in range(100))


def test_large_bodies_share_a_budget_and_give_it_back():
    budget = BodyBudget(SMALL_BODY_BYTES * 3)
    size = SMALL_BODY_BYTES * 2
    data = request_with(b"Content-Length: %d\r\n" % size, body=b"a" * size)
    first, second, third = Connection(budget), Connection(budget), Connection(budget)
    assert read([data], first)[1] is None
    assert read([data], second)[1] == 503
    # Called again, the first has answered its request; the second is closed.
    first.receive(b"")
    second.close()
    assert read(cut(data, range(0, len(data), 9973)), third)[1] is None
    third.close()
    assert budget.take(SMALL_BODY_BYTES * 3)


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"/a?b?c", b"/a", b"b?c", b"a"),
        (b"http://h:1/a?b", b"/a", b"b", b"h:1"),
        (b"HTTP://h", b"/", b"", b"h"),
        (b"http://h?b", b"/", b"b", b"h"),
        (b"*", b"*", b"", b"a"),
    ],
)
def test_targets_are_taken_apart(target, path, query, host):
    (request,) = Connection().receive(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    assert (request.path, request.query, request.headers[b"host"]) == (path, query, host)


def test_a_trailer_never_counts_as_a_header():
    """Else it could bring in, after the checks, what they would have refused."""
    data = request_with(
        b"Transfer-Encoding: chunked\r\n", body=b"0\r\nHost: b\r\nOrigin: c\r\n\r\n"
    )
    (request,) = Connection().receive(data)
    assert request.headers == {b"host": b"a", b"transfer-encoding": b"chunked"}
