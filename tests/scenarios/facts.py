"""What an output says: the facts that must agree, each with the line it stands on.

The same reading serves the output a file expects and the one our nodes print. What need not agree
is passed over: heartbeats, empty appends, other responses, the words of a log (but for what they
say of a configuration), and how a leader feeds its peers. An append counts as its entries, each
with the entry before it, so that it does not matter how many a message carries.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .datadriven import Command

Lines = Iterable[tuple[int, str]]


class Kind(enum.Enum):
    """What a fact is about; in parentheses its key, then its value."""

    ROLE = "role"  # (node): role
    HARD_STATE = "term, vote and commit"  # (node): term, vote, commit
    ENTRY = "new entry of the log"  # (node): term, index, text
    COMMITTED = "committed entry"  # (node): term, index, text
    SNAPSHOT = "snapshot in place of the log"  # (node): index, term, configuration
    VOTE = "vote"  # (way, from, to): kind, term, and the log's end or the verdict
    APPEND = "append"  # (way, from, to): term, prev index, prev term, entry
    WRITE = "hard state to be written"  # (way, from, to): term, vote, commit
    STORED = "entry to be written"  # (way, from, to): term, index, text
    LOG = "entry in the log"  # (node): term, index, text
    LOG_ENDS = "first and last index"  # (node): first, last
    LAST = "last index of the log"  # (node): index
    STATE = "role, membership and term"  # (node): role, voter or not, term
    MEMBER = "member"  # (node): id, learner or not
    CONFIGURATION = "configuration"  # (node): text
    ANSWER = "answer"  # (line of the command): text
    APPLIED = "entry to be applied"  # (): term, index, text
    MENTION = "entry"  # (): term, index, text


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing an output says.

    Attributes:
        key: Whom it is about; facts of one kind and key have an order.
        line: Where it stands.
    """

    kind: Kind
    key: tuple[str | int, ...]
    value: tuple[str | int, ...]
    line: int

    def __str__(self) -> str:
        return f"{self.kind.value} {self.key}: {' '.join(map(str, self.value))}"


_SECTION = re.compile(r"> (\d+) (.+)")
_ENTRY = re.compile(r"(\d+)/(\d+) (Entry\w+(?: .*)?)")
_ROLE = re.compile(r"Lead:\w+ State:(\w+)")
_HARD_STATE = re.compile(r"HardState Term:(\d+)(?: Vote:(\d+))? Commit:(\d+)")
_SNAPSHOT = re.compile(r"Snapshot Index:(\d+) Term:(\d+) ConfState:(.*)")
_MESSAGE = re.compile(
    r"(?P<dropped>dropped: )?(?P<frm>\w+)->(?P<to>\w+) (?P<kind>Msg\w+) Term:(?P<term>\d+) "
    r"Log:(?P<log_term>\d+)/(?P<log_index>\d+)(?P<rejected> Rejected \(Hint: \d+\))?"
    r"(?: Commit:(?P<commit>\d+))?(?: Vote:(?P<vote>\d+))?(?P<rest>.*)"
)
_STATE = re.compile(r"(\d+): (State\w+) \((Voter|Non-Voter)\) Term:(\d+) Lead:\d+")
_PROGRESS = re.compile(r"(\d+): State\w+.*?( learner)?")
_EMPTY_LOG = re.compile(r"log is empty: first index=(\d+), last index=(\d+)")
_CONFIGURATION = re.compile(r"INFO (\d+) switched to configuration (.*)")

_REQUESTS = ("MsgVote", "MsgPreVote")
_VERDICTS = ("MsgVoteResp", "MsgPreVoteResp")


def read(command: Command, lines: Lines) -> list[Fact]:
    """Return the facts in the output of a command."""
    return list(_Reading(command).read(lines))


class _Reading:
    """The output of one command, line by line.

    Attributes:
        node: Whose section it is.
        part: Within a section: what the lines are a list of.
        append: The append whose entries stand on lines of their own.
        depth: Lists of responses that are open: what stands there waits for the disk.
    """

    def __init__(self, command: Command) -> None:
        self.name = command.name
        plain = [a.key for a in command.arguments if a.values is None]
        self.node = int(plain[0]) if plain and plain[0].isdecimal() else 0
        self.part = ""
        self.append: re.Match[str] | None = None
        self.previous: tuple[int, int] = (0, 0)
        self.depth = 0

    def read(self, lines: Lines) -> Iterator[Fact]:
        for number, line in lines:
            section = _SECTION.fullmatch(line)
            if section:
                self.node, self.part = int(section[1]), section[2]
            else:
                yield from self._line(number, line.strip())

    def _line(self, number: int, text: str) -> Iterator[Fact]:
        if match := _CONFIGURATION.fullmatch(text):
            yield Fact(Kind.CONFIGURATION, (int(match[1]),), (match[2],), number)
        elif self.append is not None:
            yield from self._entry_of_append(number, text)
        elif self.depth and text == "]":
            self.depth -= 1
        elif match := _MESSAGE.fullmatch(text):
            yield from self._message(number, match)
        elif match := _ENTRY.fullmatch(text):
            yield from self._entry(number, match)
        else:
            yield from self._other(number, text)

    def _other(self, number: int, text: str) -> Iterator[Fact]:
        if match := _ROLE.fullmatch(text):
            yield Fact(Kind.ROLE, (self.node,), (match[1],), number)
        elif match := _HARD_STATE.fullmatch(text):
            hard = int(match[1]), int(match[2] or 0), int(match[3])
            yield Fact(Kind.HARD_STATE, (self.node,), hard, number)
        elif match := _SNAPSHOT.fullmatch(text):
            snapshot = int(match[1]), int(match[2]), match[3]
            yield Fact(Kind.SNAPSHOT, (self.node,), snapshot, number)
        elif match := _STATE.fullmatch(text):
            state = match[2], match[3], int(match[4])
            yield Fact(Kind.STATE, (int(match[1]),), state, number)
        elif self.name == "status" and (match := _PROGRESS.fullmatch(text)):
            role = "learner" if match[2] else "voter"
            yield Fact(Kind.MEMBER, (self.node,), (int(match[1]), role), number)
        elif match := _EMPTY_LOG.fullmatch(text):
            ends = int(match[1]), int(match[2])
            yield Fact(Kind.LOG_ENDS, (self.node,), ends, number)
        elif text in ("Entries:", "CommittedEntries:", "Messages:", "Processing:", "Responses:"):
            self.part = text

    def _entry(self, number: int, match: re.Match[str]) -> Iterator[Fact]:
        kind = {"Entries:": Kind.ENTRY, "CommittedEntries:": Kind.COMMITTED}.get(self.part)
        if self.name in ("raft-log", "compact"):
            kind = Kind.LOG
        if kind is not None:
            value = int(match[1]), int(match[2]), match[3]
            yield Fact(kind, (self.node,), value, number)

    def _message(self, number: int, match: re.Match[str]) -> Iterator[Fact]:
        kind, rest = match["kind"], match["rest"]
        if kind in (*_REQUESTS, *_VERDICTS) and match["frm"] != match["to"]:
            verdict = "rejected" if match["rejected"] else "granted"
            said = [verdict] if kind in _VERDICTS else [match["log_term"], match["log_index"]]
            yield Fact(Kind.VOTE, self._way(match), (kind, int(match["term"]), *said), number)
        if kind == "MsgStorageAppend":
            hard = int(match["term"]), int(match["vote"] or 0), int(match["commit"] or 0)
            yield Fact(Kind.WRITE, self._way(match), hard, number)
        if rest.startswith(" Entries:["):
            self.append = match
            self.previous = int(match["log_index"]), int(match["log_term"])
            inner = rest.removeprefix(" Entries:[").removesuffix(" Responses:[")
            if inner:
                yield from self._entry_of_append(number, inner.removesuffix("]"))
                self.append = None
        if rest.endswith("Responses:["):
            self.depth += 1

    def _way(self, match: re.Match[str]) -> tuple[str, str, str]:
        way = "received"
        if match["dropped"]:
            way = "dropped"
        elif self.depth:
            way = "queued"
        elif self.part in ("Messages:", "Responses:"):
            way = "sent"
        return way, match["frm"], match["to"]

    def _entry_of_append(self, number: int, text: str) -> Iterator[Fact]:
        append = self.append
        assert append is not None
        if text.startswith("]"):
            self.append = None
            self.depth += text.endswith("Responses:[")
            return
        entry = _ENTRY.fullmatch(text)
        if entry is None:
            return
        term, index = int(entry[1]), int(entry[2])
        if append["kind"] == "MsgApp":
            value = int(append["term"]), *self.previous, text
            yield Fact(Kind.APPEND, self._way(append), value, number)
        elif append["kind"] == "MsgStorageAppend":
            yield Fact(Kind.STORED, self._way(append), (term, index, entry[3]), number)
        elif append["kind"].startswith("MsgStorageApply"):
            yield Fact(Kind.APPLIED, (), (term, index, entry[3]), number)
        self.previous = index, term
