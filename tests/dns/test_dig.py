"""What a person is shown of a reply is what `dig` shows of it."""

from __future__ import annotations

import pytest

from hstore.dns.records import Hinfo, Record, RRType, Txt
from hstore.dns.wire import pack_anywhere, pack_question, show_reply, type_named

NAME = (b"a", b"test")


def shown(record: Record) -> str:
    """Return the data of a record that is the whole answer."""
    question = bytearray(pack_question(NAME, record.rtype, 7))
    question[2] |= 0x80
    question[7], question[11] = 1, 0
    edns_at = len(question) - 11
    (line,) = show_reply(bytes(question[:edns_at]) + pack_anywhere(record)).answer
    return line.data


@pytest.mark.parametrize(
    ("strings", "by_dig"),
    [
        ((b"one", b"two three"), '"one" "two three"'),
        ((b'say "no" \\ yes',), '"say \\"no\\" \\\\ yes"'),
        ((b"\xc3\xbc\x00\x7f",), '"\\195\\188\\000\\127"'),
        ((b"",), '""'),
    ],
)
def test_texts_are_quoted_as_dig_quotes_them(strings, by_dig):
    assert shown(Record(NAME, RRType.TXT, 1, Txt(strings))) == by_dig


def test_the_reply_to_any_is_shown_as_dig_shows_it():
    assert shown(Record(NAME, RRType.HINFO, 1, Hinfo(b"RFC8482", b""))) == '"RFC8482" ""'


@pytest.mark.parametrize(
    ("name", "number"), [("a", 1), ("MX", 15), ("HTTPS", 65), ("ANY", 255), ("TYPE65280", 65280)]
)
def test_any_type_can_be_asked_for(name, number):
    assert type_named(name) == number


@pytest.mark.parametrize(
    "name",
    ["", "NOPE", "OPT", "AXFR", "TYPE0", "TYPE41", "TYPE65536", "TYPE", "TYPE٣", "__class__"],
)
def test_what_is_no_type_to_ask_for_is_refused(name):
    with pytest.raises(ValueError, match="type"):
        type_named(name)
