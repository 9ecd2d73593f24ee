"""Sentences for a person: where they are broken at a terminal, and that they are not elsewhere."""

from __future__ import annotations

import pytest

from hstore.cli.messages import folded, tell


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("short", ["short"]),
        ("x" * 20, ["x" * 20]),
        ("one two three four five six", ["one two three four", "five six"]),
        ("type `hstore stop -h n1` there", ["type", "`hstore stop -h n1`", "there"]),
        ("it: `hstore stop -h 192.0.2.1`; more", ["it:", "`hstore stop -h 192.0.2.1`;", "more"]),
        ("first\n  a list that is too long", ["first", "  a list that is too", "  long"]),
        ("a ` alone, and one that goes on", ["a ` alone, and one", "that goes on"]),
        ("", [""]),
    ],
)
def test_lines_break_between_words_and_never_within_a_command(text, rows):
    assert folded(text, 20).split("\n") == rows


def test_into_a_pipe_a_line_goes_as_it_is(capfd):
    tell("word " * 50)
    tell("word " * 50, is_error=True)
    out, err = capfd.readouterr()
    assert out == err == "word " * 50 + "\n"
