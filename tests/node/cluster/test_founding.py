"""Which entries a founder alone appends; any other is somebody's who would lose by its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hstore.node.cluster.founding import Founding
from hstore.node.model import commands
from hstore.node.model.checks import SERF_HEALTH, Check, SetCheck
from hstore.node.model.commands import ClusterSettings, Command, InitCluster, Member, Put, PutMember
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.membership import Configuration

OWN = 7


class Facts:
    id = OWN

    def __init__(self, *entries: Entry) -> None:
        self.log: Sequence[Entry] | None = entries

    def whole_log(self) -> Sequence[Entry] | None:
        return self.log


def command(what: Command) -> Entry:
    return Entry(1, 1, EntryKind.COMMAND, commands.encode(what))


def config(*voters: int, learners: tuple[int, ...] = ()) -> Entry:
    data = membership.encode(Configuration(voters=voters, learners=learners))
    return Entry(1, 1, EntryKind.CONFIG, data)


def member(node: int) -> PutMember:
    return PutMember(Member(node, "n", "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"))


BEGINNING = (
    config(OWN),
    Entry(2, 2, EntryKind.NOOP, b""),
    command(InitCluster("00" * 8, ClusterSettings())),
    command(member(OWN)),
)


def is_fresh(*entries: Entry, is_founder: bool = True) -> bool:
    facts: Any = Facts(*BEGINNING, *entries)
    return Founding(facts, is_founder=is_founder).is_fresh()


def test_a_log_with_only_the_founders_own_entries_can_be_given_up() -> None:
    assert is_fresh()
    assert is_fresh(Entry(5, 3, EntryKind.NOOP, b""))
    assert is_fresh(command(SetCheck(Check(OWN, SERF_HEALTH, "Serf Health Status", "passing"))))
    assert not is_fresh(is_founder=False)


@pytest.mark.parametrize(
    "entry",
    [
        command(member(8)),
        config(OWN, 8),
        config(OWN, learners=(8,)),
        command(Put(b"k", b"v")),
        Entry(5, 1, EntryKind.COMMAND, b"of a newer version"),
    ],
    ids=["a member", "a voter", "a learner", "a write", "unknown"],
)
def test_a_log_with_any_other_entry_cannot_be_given_up(entry: Entry) -> None:
    assert not is_fresh(entry)


def test_a_log_whose_beginning_is_gone_and_one_that_was_written_to_are_not_looked_at_again() -> (
    None
):
    facts: Any = Facts(*BEGINNING)
    facts.log = None
    assert not Founding(facts, is_founder=True).is_fresh()

    facts.log = (command(Put(b"k", b"v")),)
    founding = Founding(facts, is_founder=True)
    assert not founding.is_fresh()
    facts.log = BEGINNING
    assert not founding.is_fresh()
