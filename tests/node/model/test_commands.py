"""The commands: which of them carry the cluster's time, and how it gets into them."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from hstore.node.model import commands
from hstore.node.model.commands import (
    ChangeSetting,
    Checkpoint,
    Command,
    Delete,
    DeletePrefix,
    Effect,
    Keyed,
    Put,
    RemoveMember,
)

ONCE = Keyed(b"once", b"d" * 16, Put(b"a", b"1", cas=2), 7)


def test_the_tag_of_every_command_is_where_it_is_looked_for() -> None:
    """`needs_time` reads the second and third byte: a short array, a tag of one character."""
    kinds = get_args(Command)
    tags = [kind.__struct_config__.tag for kind in kinds]

    assert len(set(tags)) == len(kinds)
    for kind, tag in zip(kinds, tags, strict=True):
        assert len(kind.__struct_fields__) < 15
        assert commands.encode(tag) == b"\xa1" + tag.encode()


@pytest.mark.parametrize(
    ("command", "is_timed"),
    [
        (ONCE, True),
        (msgspec.structs.replace(ONCE, command=DeletePrefix(b"")), True),
        (Put(b"k", b"\xa1k"), False),
        (Delete(b"k"), False),
        (Checkpoint(), False),
    ],
)
def test_a_command_with_a_time_needs_one(command: Command, is_timed: bool) -> None:
    assert commands.needs_time(commands.encode(command)) is is_timed


@pytest.mark.parametrize("data", [b"", b"\x91", b"\xc1", b"garbage", b"\x91\xa1?"])
def test_what_is_no_command_needs_no_time(data: bytes) -> None:
    assert not commands.needs_time(data)


def test_a_stamp_replaces_the_time_and_nothing_else() -> None:
    data = commands.stamped(commands.encode(ONCE), 1_000)

    assert commands.decode(data) == msgspec.structs.replace(ONCE, time_ms=1_000)


def test_a_command_without_a_time_cannot_be_stamped() -> None:
    with pytest.raises(TypeError):
        commands.stamped(commands.encode(Put(b"a", b"1")), 1_000)
    with pytest.raises(msgspec.DecodeError):
        commands.stamped(b"\x91\xa1?", 1_000)


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        (Put(b"k", b""), Effect.TAKES),
        (Put(b"k", b"", cas=3), Effect.TAKES),
        (Delete(b"k"), Effect.FREES),
        (Delete(b"k", cas=3), Effect.FREES),
        (DeletePrefix(b""), Effect.FREES),
        (ONCE, Effect.TAKES),
        (msgspec.structs.replace(ONCE, command=Delete(b"k")), Effect.FREES),
        (msgspec.structs.replace(ONCE, command=DeletePrefix(b"")), Effect.FREES),
        (Checkpoint(), Effect.SMALL),
        (RemoveMember(3), Effect.SMALL),
        (ChangeSetting("dns_ttl_s", 2), Effect.SMALL),
    ],
)
def test_only_values_take_room(command: Command, effect: Effect) -> None:
    assert commands.effect(commands.encode(command)) is effect


def test_garbage_under_a_keyed_tag_is_taken_for_a_value() -> None:
    assert commands.effect(commands.encode(ONCE)[:-4]) is Effect.TAKES
