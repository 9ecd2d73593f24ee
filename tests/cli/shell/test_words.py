"""How a line of the shell is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.cli.shell.words import Word, from_arguments, quoted, read, split, value_of
from hstore.node.errors import ConfigError, Refused


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        (" \t ", []),
        ("set foo bar\n", [b"set", b"foo", b"bar"]),
        ("get 'a b' ''", [b"get", b"a b", b""]),
        (r"""'a\n"b' "a'b" """, [rb'a\n"b', b"a'b"]),
        (r'"\n\t\r\0\\\"\'\x00\xff\u00e4"', b"\n\t\r\0\\\"'\x00\xff\xc3\xa4".split(b"|")),
        (r"a\ b \"c \\", [b"a b", b'"c', b"\\"]),
        ("a'b c'\"d\"e", [b"ab cde"]),
        ("ä\u00a0b 日本", ["ä\u00a0b".encode(), "日本".encode()]),
        ("a\udcffb", [b"a\xffb"]),  # a byte of a pipe that is no text
    ],
)
def test_a_line_is_split_into_words(line, words):
    assert [word.data for word in split(line)] == words


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("set 'a", "a quote ' is not closed"),
        ('set "a b', 'a quote " is not closed'),
        ('set "a\\', 'a quote " is not closed'),
        (r'set "\q"', r'\q means nothing within ""'),
        (r'set "\x4"', r"\x means nothing"),
        ("set \\", "there is nothing after the \\"),
    ],
)
def test_what_is_badly_quoted_is_refused_in_a_line(line, message):
    with pytest.raises(ConfigError) as caught:
        split(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_read_as_it_was_quoted_and_nothing_of_it_reaches_a_terminal(text):
    line = quoted(text)
    assert line.isprintable()
    if not any(ord(one) > 0xFFFF and not one.isprintable() for one in text):
        assert split(line) == [Word(text.encode(), is_bare=not line.startswith('"'))]


def test_a_value_may_be_the_bytes_of_a_file_and_a_quoted_one_is_literal(tmp_path):
    path = tmp_path / "a b"
    path.write_bytes(b"\xff\x00")
    for line in (f'@"{path}"', f"@'{path}'"):
        assert value_of(split(line)[0]) == b"\xff\x00"
    for line in ('"@file"', "'@file'", r"\@file", "@@file"):
        assert value_of(split(line)[0]) == b"@file"
    assert value_of(from_arguments([f"@{path}"])[0]) == b"\xff\x00"
    assert value_of(from_arguments(["@@file"])[0]) == b"@file"


def test_a_file_that_is_no_value_is_refused(tmp_path):
    (tmp_path / "large").write_bytes(bytes(1024 * 1024 + 1))
    for name, message in (("none", "No such file"), (".", "directory"), ("large", "1 MiB")):
        with pytest.raises(Refused, match=message):
            value_of(split(f"@{tmp_path}/{name}")[0])
    with pytest.raises(ConfigError, match="name of a file"):
        value_of(split("@")[0])


@pytest.mark.parametrize(
    ("line", "words", "last", "raw"),
    [
        ("ge", [], b"ge", "ge"),
        ("get ", [b"get"], b"", ""),
        ('get "a b', [b"get"], b"a b", '"a b'),
        ("get 'x' y", [b"get", b"x"], b"y", "y"),
    ],
)
def test_a_line_that_is_being_typed_is_read_as_far_as_it_goes(line, words, last, raw):
    found = read(line)
    assert [word.data for word in found.words] == words
    assert (found.last.data, found.raw) == (last, raw)
