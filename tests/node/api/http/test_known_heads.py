"""Requests whose header lines are known are read as the parser reads them, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.api.http import known_heads
from hstore.node.api.http.connection import Connection, Request
from hstore.node.api.http.known_heads import HEAD_BYTES_MAX, HEADS_MAX, SMALL_BODY_BYTES, KnownHeads
from tests.node.api.http.test_connection import cut, facts, valid_requests
from tests.node.api.http.test_smuggling import ALL

HOST = b"Host: a\r\n"
GET = b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
def parsed(monkeypatch) -> list[bytes]:
    """All that the parser was given."""
    given: list[bytes] = []
    parse = Connection._parse

    def noted(connection: Connection, data: bytes) -> list[Request]:
        given.append(data)
        return parse(connection, data)

    monkeypatch.setattr(Connection, "_parse", noted)
    return given


def warmed(*requests: bytes) -> KnownHeads:
    heads = KnownHeads()
    for request in requests:
        Connection(heads=heads).receive(request)
    return heads


def read_both(pieces: list[bytes], heads: KnownHeads) -> None:
    """Hold a connection with known header lines to one without, after each piece."""
    quick, slow = Connection(heads=heads), Connection()
    for piece in pieces:
        assert facts(quick.receive(piece)) == facts(slow.receive(piece))
        assert str(quick.error) == str(slow.error)
        assert (quick.phase, quick.take_continue()) == (slow.phase, slow.take_continue())


def test_the_second_request_with_the_same_header_lines_is_read_without_the_parser(parsed) -> None:
    heads = KnownHeads()
    put = b"PUT /k/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%b"
    first, second = Connection(heads=heads), Connection(heads=heads)
    first.receive(put % (b"1", b"ab"))
    assert len(parsed) == 1
    for connection in (first, second):
        (request,) = connection.receive(put % (b"2?x=?", b"\r\n"))
        assert facts([request]) == [
            (
                b"PUT",
                b"/k/2",
                b"x=?",
                {b"host": b"a", b"content-length": b"2"},
                b"\r\n",
                True,
                True,
                False,
            )
        ]
    assert len(parsed) == 1


NOT_PLAIN = {
    "another piece behind it": GET + b"G",
    "two at once": GET + GET,
    "half of it": GET[:-2],
    "a body too short": b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    "a body too long": b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabc",
    "a line before it": b"\r\n" + GET,
    "HTTP/1.0": b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a character that RFC 3986 does not know": b"GET /a|b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a whole address": b"GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_what_is_not_plain_is_the_parsers(parsed, data: bytes) -> None:
    heads = warmed(GET, b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
    parsed.clear()
    read_both([data], heads)
    assert len(parsed) == 2


NEVER_KNOWN = {
    "the last request": b"Connection: close\r\n\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an upgrade": b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "much": b"X: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n",
}


@pytest.mark.parametrize("rest", NEVER_KNOWN.values(), ids=NEVER_KNOWN.keys())
def test_header_lines_that_say_more_are_never_known(parsed, rest: bytes) -> None:
    data = b"GET /a HTTP/1.1\r\nHost: a\r\n" + rest
    heads = warmed(data, data)
    read_both([data, data], heads)
    read_both([data.removesuffix(b"0\r\n\r\n"), GET], heads)
    parsed.clear()
    Connection(heads=heads).receive(data)
    assert parsed == [data]


def test_a_long_body_is_never_known(parsed) -> None:
    size = SMALL_BODY_BYTES + 1
    data = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size))
    warmed(data, data)
    assert len(parsed) == 2


@pytest.mark.parametrize("data", ALL.values(), ids=ALL.keys())
def test_what_is_refused_is_refused_also_where_its_header_lines_are_known(data: bytes) -> None:
    heads = warmed(GET, data, GET)
    read_both([GET, data, GET], heads)
    read_both([data, data], heads)


def test_after_a_part_of_a_request_the_parser_goes_on_with_it() -> None:
    """What follows would else be taken for the next request."""
    part = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(GET)
    read_both([GET, part, GET, GET], warmed(GET))
    read_both([GET, b"\r", b"\n", GET, GET], warmed(GET))


def test_the_end_of_a_request_is_not_known_as_a_whole_one() -> None:
    """It looks like one, and would get the header lines that came before it."""
    begin, end = b"GET /a HTTP/1.1\r\nHost: b\r\nX: ", b"GET /c HTTP/1.1\r\nY: d\r\n\r\n"
    heads = warmed(GET)
    for pieces in ([begin, end], [GET, begin, end], [end]):
        read_both(pieces, heads)


def test_a_whole_address_says_nothing_of_the_header_lines() -> None:
    """The host in it takes the place of that in the header."""
    read_both([GET], warmed(b"GET http://b/a HTTP/1.1\r\n" + HOST + b"\r\n"))


PIECES = st.lists(
    st.one_of(
        valid_requests(),
        st.sampled_from(list(ALL.values())),
        st.sampled_from([GET, GET[:20], GET[20:], b"\r\n", b"\r"]),
    ),
    min_size=1,
    max_size=6,
)


@given(PIECES, st.lists(st.integers(0, 500), max_size=3))
def test_any_pieces_are_read_the_same(pieces: list[bytes], places: list[int]) -> None:
    heads = warmed(*pieces)
    read_both(pieces, heads)
    read_both(cut(b"".join(pieces), places), heads)
    for number, piece in enumerate(pieces):
        again = [*pieces[:number], *cut(piece, places), *pieces[number:]]
        read_both(again, heads)


def test_as_many_are_kept_as_there_is_room_for(monkeypatch) -> None:
    monkeypatch.setattr(known_heads, "HEADS_MAX", 3)
    heads = KnownHeads()
    for number in range(HEADS_MAX):
        Connection(heads=heads).receive(b"GET / HTTP/1.1\r\nHost: a%d\r\n\r\n" % number)
        assert 1 <= len(heads._known) <= 3
