"""How a line of the shell is read."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.cli.shell.words import (
    Word,
    as_arguments,
    from_arguments,
    quoted,
    read,
    split,
    value_of,
)
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


def value(line, *, has_input=False):
    return value_of(as_arguments(split(line))[0], has_input=has_input)


def test_a_value_may_be_the_bytes_of_a_file_and_a_quoted_one_is_literal(tmp_path):
    path = tmp_path / "a b"
    path.write_bytes(b"\xff\x00\r\n")
    for line in (f'@"{path}"', f"@'{path}'"):
        assert value(line) == b"\xff\x00\r\n"  # no byte is added or taken away at the end
    for line in ('"@file"', "'@file'", r"\@file", "@@file"):
        assert value(line) == b"@file"
    (word,) = as_arguments(from_arguments([f"@{path}"]))
    assert value_of(word, has_input=False) == b"\xff\x00\r\n"
    assert value_of("@@file", has_input=False) == b"@file"
    assert value_of("@@@file", has_input=False) == b"@@file"
    assert value(r'"\xff"') == b"\xff"


def test_a_file_that_is_no_value_is_refused(tmp_path):
    (tmp_path / "large").write_bytes(bytes(1024 * 1024 + 1))
    (tmp_path / "largest").write_bytes(bytes(1024 * 1024))
    assert len(value(f"@{tmp_path}/largest")) == 1024 * 1024
    for name, message in (("none", "No such file"), (".", "directory")):
        with pytest.raises(ConfigError, match=message):
            value(f"@{tmp_path}/{name}")
    with pytest.raises(Refused, match="1 MiB"):
        value(f"@{tmp_path}/large")
    with pytest.raises(ConfigError, match="name of a file"):
        value("@")


@pytest.mark.parametrize("data", [b"", b"\xff\x00", b"text\n", bytes(1024 * 1024)])
def test_a_value_may_come_from_standard_input_as_it_is(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert value("-", has_input=True) == data


def test_standard_input_that_is_no_value_is_refused(monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(bytes(1024 * 1024 + 1)))
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(Refused, match="standard input is larger than 1 MiB"):
        value("-", has_input=True)
    with pytest.raises(ConfigError, match="the shell's own"):
        value("-")
    assert value('"-"') == b"-"


@pytest.mark.parametrize(
    ("line", "words"),
    [("# get a", []), ("  #", []), ("get #a", [b"get", b"#a"]), ('"#" a', [b"#", b"a"])],
)
def test_only_a_line_that_begins_with_a_hash_is_a_comment(line, words):
    assert [word.data for word in split(line)] == words


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
