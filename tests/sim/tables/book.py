"""The tables of clients as the contract describes them: keys, sessions, locks, events, the catalog.

A second opinion on `hstore.node.state`, made from the contract alone: dictionaries that are copied
for each entry, no records, no batches, no savepoints but the page before. The book is written once,
in the order of the log, by whichever node applies an entry first; then every node is held against
the page of the index that it has come to.

Where the contract leaves a choice, the book follows what the node did: the millisecond in which a
lock delay ends, whether the name of a member is taken, and for how long a keyed write is kept.
"""

from __future__ import annotations

from hstore.node.model import commands
from hstore.node.model.commands import (
    BecomeOnly,
    ChangeMember,
    Denial,
    InitCluster,
    Keyed,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.raft.entry import Entry, EntryKind

from . import catalog, services_writing
from .members_writing import change_members
from .page import Page
from .writing import carry_out


class Book:
    """All pages of a run.

    Attributes:
        pages: By index; the first is empty.
        outcomes: What the first node to apply an entry made of it, by index.
    """

    def __init__(self) -> None:
        self.pages = [Page()]
        self.outcomes: dict[int, Outcome | None] = {}

    @property
    def last(self) -> Page:
        """The newest page."""
        return self.pages[-1]

    def close(self, index: int) -> None:
        """Nothing is known from here on; `index` is the last that is not."""
        while self.last.index < index:
            page = self.last.next(self.last.index + 1)
            page.is_open = False
            self.pages.append(page)

    def write(self, entry: Entry, outcome: Outcome | None) -> str:
        """Carry out the next entry, which a node has applied with this outcome.

        Returns:
            What is wrong with that outcome; empty: nothing.
        """
        page = self.last.next(entry.index)
        self.outcomes[entry.index] = outcome
        wrong = ""
        if entry.kind == EntryKind.COMMAND and outcome is not None and page.is_open:
            page, wrong = _carried_out(self.last, page, entry, outcome)
            catalog.note(self.last, page)
        self.pages.append(page)
        return wrong


def _carried_out(before: Page, page: Page, entry: Entry, outcome: Outcome) -> tuple[Page, str]:
    command = commands.decode(entry.data)
    page.time_ms = max(page.time_ms, getattr(command, "time_ms", 0))
    if isinstance(command, Keyed):
        denied = outcome.denial in (Denial.KEY_REUSED, Denial.KEYS_EXHAUSTED)
        if denied or command.key in page.answered:
            return page, ""
        page.answered |= {command.key}
        command = command.command
    if isinstance(command, (PutMember, ReplaceMember, RemoveMember, ChangeMember)):
        wrong = change_members(page, command, outcome) if outcome.ok else ""
        return page, f"{command} {wrong}" if wrong else ""
    if isinstance(command, BecomeOnly):
        page.is_open = False
        return page, ""
    if isinstance(command, InitCluster):
        return page, ""
    if isinstance(command, services_writing.COMMANDS):
        wrong = services_writing.carry_out(page, command, outcome)
        return page, f"{command} {wrong}" if wrong else ""
    return carry_out(before, page, command, outcome)
