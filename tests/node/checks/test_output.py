"""What is kept of what is said: bytes, with a note on how many there were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hstore.node.checks.output import first_bytes, last_bytes, shortened


def test_what_fits_is_kept_as_it_is():
    assert first_bytes("x" * 4096, 4096) == "x" * 4096
    assert last_bytes(b"x" * 4096, 4096) == "x" * 4096
    assert first_bytes("", 1) == last_bytes(b"", 1) == ""


def test_a_word_keeps_its_first_bytes_and_an_answer_its_last():
    assert first_bytes("abcdef", 4) == "abcd… (captured 4 of 6 bytes)"
    assert last_bytes(b"abcdef", 4) == "cdef… (captured 4 of 6 bytes)"


def test_bytes_are_counted_and_not_characters():
    assert first_bytes("ä" * 3, 4) == "ää… (captured 4 of 6 bytes)"
    assert last_bytes("ä".encode() * 3, 4) == "ää… (captured 4 of 6 bytes)"


def test_no_character_is_kept_in_halves():
    assert first_bytes("ää", 3) == "ä… (captured 2 of 4 bytes)"
    assert last_bytes("ää".encode(), 3).startswith("ä…")


def test_what_is_not_utf_8_is_replaced_and_still_bounded():
    assert last_bytes(b"a\xffb", 10) == "a�b"
    assert len(last_bytes(b"\xff" * 10_000, 100).encode()) <= 100 + 64


def test_more_than_what_is_at_hand_can_be_counted():
    assert last_bytes(b"abcdef", 4, total=1000) == "cdef… (captured 4 of 1000 bytes)"


@given(st.text(), st.integers(1, 64))
def test_a_cut_word_is_a_beginning_of_it(text, limit):
    cut = first_bytes(text, limit)
    kept, note, _ = cut.rpartition("… (captured ")
    if len(text.encode()) <= limit:
        assert cut == text
    else:
        assert note
        assert text.startswith(kept)
        assert limit - 3 <= len(kept.encode()) <= limit


@given(st.binary(max_size=300), st.integers(1, 64))
def test_a_cut_answer_is_never_longer_than_its_limit(whole, limit):
    cut = last_bytes(whole, limit)
    kept = cut.rpartition("… (captured ")[0] if len(whole) > limit else cut
    assert len(kept.encode()) <= limit


def test_a_line_has_no_control_characters_and_an_end():
    assert shortened("a\r\nb\x00") == "a��b�"
    assert shortened("x" * 2000) == "x" * 1024 + "…"
    assert shortened("ok") == "ok"
