"""Text from anywhere, made harmless to a terminal."""

from __future__ import annotations

from hstore.cli.client.plain import plain, plain_cluster
from hstore.cli.shell.words import split


def test_what_a_terminal_would_obey_is_escaped():
    assert plain("a\x1b[2J\u202e\x9b\n", keep="\n") == "a\\x1b[2J\\u202e\\u009b\n"
    assert plain("grüße 日本") == "grüße 日本"


def test_an_escape_means_in_the_shell_the_character_that_it_stands_for():
    # `\x9b` would be one byte there, which is no UTF-8: two copies of this rule differed in that.
    for character in ("\x00", "\n", "\x1b", "\x7f", "\x9b", "\xad", "\u202e", "\ufeff"):
        (word,) = split(f'"{plain(character)}"')
        assert word.data.decode() == character


def test_half_a_character_and_one_beyond_16_bits_have_escapes_too():
    assert plain("\udc80\U000e0001") == "\\udc80\\U000e0001"


def test_more_characters_are_replaced_where_the_caller_wants_that():
    assert plain('a"b', also={'"': '\\"'}) == 'a\\"b'


def test_texts_of_a_list_in_a_reply_are_plain_too(make):
    node = make.node(1, reason="a\x1b[2J", alarms=("b\x1b[2J", "disk_short"))
    (shown,) = plain_cluster(make.info(node)).nodes
    assert shown.reason == "a\\x1b[2J"
    assert shown.alarms == ("b\\x1b[2J", "disk_short")
