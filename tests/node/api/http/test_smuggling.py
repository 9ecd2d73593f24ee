"""What two programs could read differently is refused, and the connection ends.

Half of this is llhttp's own strictness: these tests hold it to that, for it has lenient modes.
"""

from __future__ import annotations

import pytest

from hstore.node.api.http.connection import Connection

CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    "two equal lengths": b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n\r\naa",
    "a list of lengths": b"Content-Length: 1, 1\r\n\r\na",
    "a signed length": b"Content-Length: +1\r\n\r\na",
    "a negative length": b"Content-Length: -1\r\n\r\na",
    "a hexadecimal length": b"Content-Length: 0x1\r\n\r\na",
    "an empty length": b"Content-Length:\r\n\r\n",
    "a length beyond 64 bits": b"Content-Length: 18446744073709551617\r\n\r\na",
    "length and coding": b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nX",
    "coding and length": CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\nX",
    "length in a trailer": CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
    "two codings": CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "another coding": b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "another coding first": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding like chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding with a comma": b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "an empty coding": b"Transfer-Encoding:\r\n\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 1\r\n\r\na",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"X: a\r\n b\r\n\r\n",
    "an empty header name": b": a\r\n\r\n",
    "a header without a colon": b"X\r\n\r\n",
    "NUL in a header": b"X: a\0b\r\n\r\n",
    "bare LF after a header": b"X: a\nY: b\r\n\r\n",
    "bare LF at the end": b"X: a\r\n\n",
    "bare CR in a header": b"X: a\rY: b\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
    "a chunk size that is no number": CHUNKED + b"\r\nz\r\na\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"\r\n0x1\r\na\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"\r\n-1\r\na\r\n0\r\n\r\n",
    "an empty chunk size": CHUNKED + b"\r\n\r\na\r\n0\r\n\r\n",
    "space after a chunk size": CHUNKED + b"\r\n1 \r\na\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"\r\n10000000000000001\r\na\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"\r\n1\na\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"\r\n1\r\na\n0\r\n\r\n",
    "bare LF in a chunk extension": CHUNKED + b"\r\n1;a\nb\r\na\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"\r\n1\r\nab\r\n0\r\n\r\n",
    "an upgrade with a body": b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na",
    "an upgrade with chunks": b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n",
}
REFUSED_STARTS = {
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "space before the first header": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control in the target": b"GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a high byte in the target": b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without a slash": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target of another scheme": b"GET ftp://h/a HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2.0 kept alive": b"GET / HTTP/2.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
ALL = REFUSED_STARTS | {
    name: b"POST /write HTTP/1.1\r\nHost: a\r\n" + data for name, data in REFUSED.items()
}
NEXT = b"DELETE /delete/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("data", ALL.values(), ids=ALL.keys())
def test_what_is_ambiguous_is_refused_and_what_follows_is_not_a_request(data):
    for pieces in [[data + NEXT], [data, NEXT], [bytes([byte]) for byte in data + NEXT]]:
        connection = Connection()
        requests = [request for piece in pieces for request in connection.receive(piece)]
        assert requests == []
        assert connection.error is not None
        assert connection.error.status == 400


@pytest.mark.parametrize("data", ALL.values(), ids=ALL.keys())
async def test_on_a_connection_the_refusal_is_answered_and_ends_it(client, backend, data):
    await client.send(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n" + data + NEXT)
    assert (await client.response()).status == 200
    answer = await client.response()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.error
    assert answer.headers["x-hstore-index"] == "10"
    assert await client.read_to_end() == b""
    assert not backend.calls


def test_an_upgrade_without_a_body_is_ignored_and_the_connection_ends():
    """RFC 9110 section 7.8 allows it; `curl --http2` asks for one each time."""
    connection = Connection()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    (request,) = connection.receive(b"GET /a HTTP/1.1\r\nHost: a\r\n" + upgrade + b"\r\n" + NEXT)
    assert (request.path, request.keep_alive) == (b"/a", False)
    assert connection.error is None
    assert connection.receive(NEXT) == []
