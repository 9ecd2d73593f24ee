"""A file, run against our nodes, and what does not agree.

Command by command, all the facts of the expected output are compared with those of ours (see
`facts.py`), and what every node has shown so far with what ours has shown. From the first membership
change on that would say little: the files' nodes act on it when they apply it, ours when they
append it. Then only where a `stabilize` of all nodes has run, and at the end, is compared: what
every node has shown, and what is asked about them. Yet every entry and every vote that a file names
anywhere must be one of ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from hstore.node.raft.roles import Role

from . import tables
from .commands import LEVELS, ROLES, Cluster, NotOffered, describe_configuration
from .datadriven import Command, ScenarioError, parse
from .facts import Fact, Kind, read
from .nodes import Node
from .waivers import NOT_TOLD, POLICIES, STEPS_DOWN, WAIVERS, Waiver

_QUESTIONS = ("raft-log", "raft-state", "status", "log-level", "_breakpoint")
_Ballot = tuple[tuple[str | int, ...], tuple[str | int, ...]]
_STRICT = (
    Kind.ROLE, Kind.ENTRY, Kind.SNAPSHOT, Kind.VOTE, Kind.APPEND, Kind.WRITE, Kind.STORED,
    Kind.LOG, Kind.LOG_ENDS, Kind.STATE, Kind.MEMBER,
)  # fmt: skip
_REPEATED = (Kind.ROLE, Kind.VOTE, Kind.APPEND)
_SHOWN_BY_QUESTIONS = (Kind.LOG, Kind.LOG_ENDS, Kind.STATE, Kind.MEMBER)


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """Something on which the file and our nodes do not agree."""

    line: int
    text: str


@dataclass(slots=True)
class Shown:
    """What a file has shown of one node; None: it has not been shown lately.

    Attributes:
        entries: Of its log, by index.
        last: The last index of its log.
    """

    role: Fact | None = None
    hard_state: Fact | None = None
    configuration: Fact | None = None
    entries: dict[int, Fact] = field(default_factory=dict)
    last: Fact | None = None

    def take(self, fact: Fact) -> None:
        if fact.kind is Kind.ROLE:
            self.role = fact
        elif fact.kind is Kind.HARD_STATE:
            self.hard_state = fact
        elif fact.kind is Kind.CONFIGURATION:
            self.configuration = fact
        elif fact.kind is Kind.SNAPSHOT:
            self.entries.clear()
            self.last = fact
        elif fact.kind is Kind.ENTRY:
            index = int(fact.value[1])
            for later in [i for i in self.entries if i >= index]:
                del self.entries[later]
            self.entries[index] = self.last = fact


@dataclass(slots=True)
class Result:
    """What came of a file.

    Attributes:
        waived: What did not agree and need not.
        compared: Facts of the file that had to agree as they stand.
        named: Facts after a change of membership: what they name had to be ours at some time.
        unsupported: Why the file ends earlier than it could, if it does.
    """

    deviations: list[Deviation] = field(default_factory=list)
    waived: list[Waiver] = field(default_factory=list)
    compared: set[Fact] = field(default_factory=set)
    named: set[Fact] = field(default_factory=set)
    unsupported: str = ""


def replay(name: str, text: str) -> Result:
    """Run a file.

    Raises:
        ScenarioError: It cannot be run.
    """
    commands = parse(name, text)
    if not commands:
        raise ScenarioError(f"{name}:1: no commands")
    names = {command.name for command in commands}
    if names & tables.QUORUM_COMMANDS:
        return _replay_each(commands, tables.QUORUM_COMMANDS, _compare_quorum)
    if names & tables.CHANGE_COMMANDS:
        changer = tables.Changer()
        return _replay_each(
            commands, tables.CHANGE_COMMANDS, lambda c: _compare_lines(c, changer.run(c))
        )
    return _Replay(name, commands).run()


def replay_file(path: Path) -> Result:
    return replay(path.name, path.read_text())


def _replay_each(
    commands: list[Command],
    known: frozenset[str],
    compare: Callable[[Command], Iterator[Deviation]],
) -> Result:
    result = Result()
    for command in commands:
        if command.name not in known:
            raise command.error("unknown command")
        result.deviations += compare(command)
        # The chart above the answer of a quorum is decoration.
        answer = command.output[-1:] if known is tables.QUORUM_COMMANDS else command.output
        result.compared.update(
            Fact(Kind.ANSWER, (command.line,), (text,), line) for line, text in answer
        )
    return result


def _compare_quorum(command: Command) -> Iterator[Deviation]:
    line, expected = command.output[-1] if command.output else (command.line, "")
    ours = tables.ask_quorum(command)
    if not tables.is_same_answer(command, expected, ours):
        yield Deviation(line, f"{expected}; ours: {ours}")


def _compare_lines(command: Command, ours: list[str]) -> Iterator[Deviation]:
    expected = [text.rstrip() for _, text in command.output]
    for position, (wanted, got) in enumerate(zip_longest(expected, ours)):
        if wanted != got:
            line = command.output[position][0] if wanted is not None else command.line
            yield Deviation(line, f"{wanted}; ours: {got}")


class _Replay:
    def __init__(self, name: str, commands: list[Command]) -> None:
        self.name = name
        self.commands = commands
        self.cluster = Cluster()
        self.shown: dict[int, Shown] = {}
        self.result = Result()
        self.found: set[Deviation] = set()
        self.is_changed = False
        self.is_settled = True
        self.traced: dict[int, int] = {}
        self.late: list[Fact] = []
        self.votes: list[Fact] = []
        self.first_index = 0
        self.keeps_leading: set[int] = set()

    def run(self) -> Result:
        last = max((i for i, c in enumerate(self.commands) if c.name not in _QUESTIONS), default=-1)
        for position, command in enumerate(self.commands):
            try:
                lines = self._run(command)
            except NotOffered as reason:
                self.result.unsupported = f"{self.name}:{command.line}: {reason}"
                break
            self._compare(command, lines, is_end=position >= last)
        self._compare_late()
        self._sort_out()
        return self.result

    def _run(self, command: Command) -> list[str]:
        known = set(self.cluster.nodes)
        self.traced = {number: node.shown for number, node in self.cluster.nodes.items()}
        lines = self.cluster.run(command)
        for number in self.cluster.nodes.keys() - known:
            self._begin(command, number)
        for reason in self.cluster.silences:
            self._waive(command.line, reason)
        self.cluster.silences.clear()
        return lines

    def _begin(self, command: Command, number: int) -> None:
        """A node begins as `add-nodes` says, whether or not that is printed."""
        node = self.cluster.nodes[number]
        start = self.shown[number] = Shown()
        key = (number,)
        config = describe_configuration(node.configuration())
        start.role = Fact(Kind.ROLE, key, ("StateFollower",), command.line)
        hard = 0, 0, command.number("index", 0)
        start.hard_state = Fact(Kind.HARD_STATE, key, hard, command.line)
        start.configuration = Fact(Kind.CONFIGURATION, key, (config,), command.line)
        self.first_index = max(self.first_index, hard[2])
        if not command.flag("step-down-on-removal"):
            self.keeps_leading.add(number)

    # -- one command ------------------------------------------------------------------------

    def _compare(self, command: Command, lines: list[str], *, is_end: bool) -> None:
        self.is_changed = self.is_changed or command.name == "propose-conf-change"
        is_full = command.name == "stabilize" and not command.numbers()
        if command.name not in _QUESTIONS:
            self.is_settled = is_full
        is_shown = self._is_shown(command)
        expected = read(command, command.output) if is_shown else []
        ours = read(command, ((command.line, line) for line in lines)) if is_shown else []
        self.votes += [fact for fact in ours if fact.kind is Kind.VOTE]
        self._learn(expected, is_shown=is_shown)
        if not self.is_changed:
            self._compare_all(command, expected, ours)
        elif self.is_settled or is_end:
            asked = [f for f in expected if f.kind in _SHOWN_BY_QUESTIONS]
            answered = [f for f in ours if f.kind in _SHOWN_BY_QUESTIONS]
            self._compare_ordered(command, asked, answered)
        if self.is_changed:
            self.late += expected
        if not self.is_changed or is_full or is_end:
            self._compare_shown(is_settled=is_full)

    def _is_shown(self, command: Command) -> bool:
        quiet = LEVELS[-1]
        level = command.value("log-level") if command.name == "stabilize" else ""
        return not self.cluster.is_quiet and level.lower() != quiet

    def _learn(self, expected: list[Fact], *, is_shown: bool) -> None:
        if not is_shown:
            # Much may have happened behind it. What is new is shown again.
            self.shown = {number: Shown() for number in self.shown}
        for fact in expected:
            if fact.key and isinstance(fact.key[0], int) and fact.key[0] in self.shown:
                self.shown[fact.key[0]].take(fact)

    def _deviates(self, line: int, text: str) -> None:
        self.found.add(Deviation(line, text))

    # -- before any change of membership ----------------------------------------------------

    def _compare_all(self, command: Command, expected: list[Fact], ours: list[Fact]) -> None:
        self._compare_ordered(command, *(
            [fact for fact in facts if fact.kind in _STRICT] for facts in (expected, ours)
        ))  # fmt: skip
        for fact in expected:
            if fact.kind in (Kind.COMMITTED, Kind.APPLIED):
                self.result.compared.add(fact)
                self._compare_committed(fact)
            if fact.kind is Kind.COMMITTED:
                node = self.cluster.nodes[int(fact.key[0])]
                if int(fact.value[1]) > node.known_hard.commit:
                    self._deviates(fact.line, f"{fact} is beyond our {node.known_hard.commit}")
        self._compare_passed(expected, ours)

    def _compare_ordered(self, command: Command, expected: list[Fact], ours: list[Fact]) -> None:
        self.result.compared.update(expected)
        for kind_key, wanted in _grouped(expected).items():
            values = [fact.value for fact in _grouped(ours).get(kind_key, ())]
            if [fact.value for fact in wanted] == values:
                continue
            if {fact.value for fact in wanted} == set(values) and _is_repeated(
                kind_key[0], expected, ours
            ):
                continue
            left = Counter(values)
            for position, fact in enumerate(wanted):
                if not left[fact.value]:
                    got = values[position] if position < len(values) else None
                    policy = self._policy(fact, got) if fact.kind is Kind.STATE and got else None
                    if policy is not None:
                        self._waive(fact.line, policy)
                    else:
                        self._deviates(fact.line, f"{fact}; ours: {_plain(got)}")
                left[fact.value] -= 1
            if len(values) > len(wanted) or Counter(values) == Counter(f.value for f in wanted):
                self._deviates(command.line, f"{wanted[0]}: ours are others, {len(values)} in all")
        missing = _grouped(ours).keys() - _grouped(expected).keys()
        for kind, key in missing:
            facts = _grouped(ours)[kind, key]
            self._deviates(command.line, f"ours alone has {facts[0]} (and {len(facts) - 1} more)")

    def _compare_passed(self, expected: list[Fact], ours: list[Fact]) -> None:
        """Every hard state shown is one that our node went through, in this order."""
        for (_, key), wanted in _grouped(f for f in expected if f.kind is Kind.HARD_STATE).items():
            self.result.compared.update(wanted)
            got = [f.value for f in ours if f.kind is Kind.HARD_STATE and f.key == key]
            if [fact.value for fact in wanted] == got:
                continue
            node = self.cluster.nodes[int(key[0])]
            since = self.traced[node.id]
            passed = iter([(h.term, h.vote, h.commit) for h in node.trace[since:]])
            for fact in wanted:
                if not any(value == fact.value for value in passed):
                    self._deviates(fact.line, f"{fact}; ours: {got}")
                    break

    # -- at any time ------------------------------------------------------------------------

    def _compare_entry(self, fact: Fact) -> None:
        term, index, text = fact.value[-3:]
        if self.cluster.entries.get((int(term), int(index))) != text:
            self._deviates(fact.line, f"{fact} is in no log of ours")

    def _compare_committed(self, fact: Fact) -> None:
        """What is committed is the same in all logs, so there is one entry that it can be."""
        index = int(fact.value[1])
        for node in self.cluster.nodes.values():
            log = node.core.log
            if log.snapshot_index < index <= log.commit:
                text = self.cluster.describe_entry(log.entries[index - log.snapshot_index - 1])
                if text != "{}/{} {}".format(*fact.value):
                    self._deviates(fact.line, f"{fact}; ours: {text}")
                return
        self._compare_entry(fact)

    def _compare_shown(self, *, is_settled: bool) -> None:
        for number, shown in self.shown.items():
            node = self.cluster.nodes[number]
            if shown.role is not None:
                self._compare_value(shown.role, (ROLES[node.known[0]],))
            if shown.hard_state is not None:
                hard = node.known_hard
                self._compare_value(shown.hard_state, (hard.term, hard.vote, hard.commit))
            if shown.configuration is not None and (is_settled or not self.is_changed):
                config = describe_configuration(node.configuration())
                self._compare_value(shown.configuration, (config,))
            if is_settled:
                self._compare_log(shown, node)

    def _compare_value(self, fact: Fact, ours: tuple[str | int, ...]) -> None:
        self.result.compared.add(fact)
        if fact.value == ours:
            return
        policy = self._policy(fact, ours)
        if policy is not None:
            self._waive(fact.line, policy)
        else:
            self._deviates(fact.line, f"{fact}; ours: {_plain(ours)}")

    def _waive(self, line: int, reason: str) -> None:
        waiver = Waiver(self.name, line, reason)
        if waiver not in self.result.waived:
            self.result.waived.append(waiver)

    def _compare_log(self, shown: Shown, node: Node) -> None:
        log = node.core.log
        if shown.last is not None:
            position = 0 if shown.last.kind is Kind.SNAPSHOT else 1
            end = Fact(Kind.LAST, (node.id,), (shown.last.value[position],), shown.last.line)
            self._compare_value(end, (log.last_index,))
        ours = {entry.index: entry for entry in log.entries}
        for index, fact in shown.entries.items():
            if index in ours:
                text = self.cluster.describe_entry(ours[index])
                term_index, _, rest = text.partition(" ")
                self._compare_value(fact, (*map(int, term_index.split("/")), rest))

    def _compare_late(self) -> None:
        """After a change: what a file names must be ours, whenever that was."""
        by_asker: dict[_Ballot, set[tuple[str | int, ...]]] = {}
        for fact in self.votes:
            by_asker.setdefault((fact.key[1:], fact.value[:2]), set()).add(fact.value)
        for fact in self.late:
            if fact.kind in (Kind.COMMITTED, Kind.APPLIED):
                self.result.named.add(fact)
                self._compare_committed(fact)
            elif fact.kind in (Kind.ENTRY, Kind.LOG, Kind.STORED):
                self.result.named.add(fact)
                self._compare_entry(fact)
            elif fact.kind is Kind.APPEND:
                self.result.named.add(fact)
                self._compare_entry(_entry_of(fact))
                self._compare_late_append(fact)
            elif fact.kind is Kind.VOTE:
                ours = by_asker.get((fact.key[1:], fact.value[:2]))
                if ours is not None:
                    self.result.named.add(fact)
                    if fact.value not in ours:
                        self._deviates(fact.line, f"{fact}; ours: {_plain(min(ours))}")
            elif fact.kind in (Kind.HARD_STATE, Kind.STATE, Kind.ROLE):
                self._compare_late_state(fact)

    def _compare_late_append(self, fact: Fact) -> None:
        term, prev_index, prev_term, _ = fact.value
        _, index, _ = _entry_of(fact).value
        leader = self.cluster.nodes[int(str(fact.key[1]), 16)]
        is_known = (prev_term, prev_index) in self.cluster.entries
        is_known = is_known or prev_term == int(prev_index == self.first_index)
        is_leader = any(role is Role.LEADER and term == at for role, at in leader.roles)
        if not (is_leader and is_known and int(prev_index) + 1 == index):
            self._deviates(fact.line, f"{fact}; ours: nothing of the kind")

    def _compare_late_state(self, fact: Fact) -> None:
        node = self.cluster.nodes[int(fact.key[0])]
        if fact.kind is Kind.HARD_STATE:
            is_ours = fact.value[:2] in [(hard.term, hard.vote) for hard in node.trace]
        elif fact.kind is Kind.STATE:
            is_ours = (fact.value[0], fact.value[2]) in [(ROLES[r], term) for r, term in node.roles]
        else:
            is_ours = fact.value[0] in [ROLES[role] for role, _ in node.roles]
        if not is_ours:
            self._deviates(fact.line, f"{fact}; ours was never that")

    # -- what may deviate -------------------------------------------------------------------

    def _policy(self, fact: Fact, ours: tuple[str | int, ...]) -> str | None:
        """Return why this may deviate in any file, if it may."""
        node = self.cluster.nodes[int(fact.key[0])]
        if self._is_stepped_down(fact, ours, node):
            return STEPS_DOWN
        newest = max(self.cluster.nodes.values(), key=lambda other: other.core.log.applied)
        is_removed = node.id not in newest.configuration().all_members()
        if not is_removed or node.core.log.applied == newest.core.log.applied:
            return None
        limits = {Kind.HARD_STATE: newest.core.log.commit, Kind.LAST: newest.core.log.last_index}
        if fact.kind in limits:
            is_behind = int(ours[-1]) < int(fact.value[-1]) <= limits[fact.kind]
            return NOT_TOLD if is_behind and ours[:-1] == fact.value[:-1] else None
        is_member_still = fact.kind is Kind.STATE and (
            ours == (fact.value[0], "Voter", fact.value[2]) and fact.value[1] == "Non-Voter"
        )
        return NOT_TOLD if is_member_still or fact.kind is Kind.CONFIGURATION else None

    def _is_stepped_down(self, fact: Fact, ours: tuple[str | int, ...], node: Node) -> bool:
        return (
            node.id in self.keeps_leading
            and fact.kind in (Kind.ROLE, Kind.STATE)
            and (fact.value[0], ours[0]) == ("StateLeader", "StateFollower")
            and fact.value[1:] == ours[1:]
            and not node.configuration().is_voter(node.id)
            and (Role.LEADER, node.core.term) in node.roles
        )

    def _sort_out(self) -> None:
        table = {(w.file, w.line): w for w in WAIVERS if w.reason not in POLICIES}
        for deviation in sorted(self.found):
            waiver = table.get((self.name, deviation.line))
            if waiver is None:
                self.result.deviations.append(deviation)
            else:
                self._waive(waiver.line, waiver.reason)
        self.result.waived.sort()


_Groups = dict[tuple[Kind, tuple[str | int, ...]], list[Fact]]


def _grouped(facts: Iterable[Fact]) -> _Groups:
    groups: _Groups = {}
    for fact in facts:
        groups.setdefault((fact.kind, fact.key), []).append(fact)
    return groups


def _is_repeated(kind: Kind, expected: list[Fact], ours: list[Fact]) -> bool:
    """Whether the same was said once more, or less, which is one batch more or less.

    As often in all, it was said to somebody else.
    """
    counts = [sum(fact.kind is kind for fact in facts) for facts in (expected, ours)]
    return kind in _REPEATED and counts[0] != counts[1]


def _entry_of(append: Fact) -> Fact:
    match = re.fullmatch(r"(\d+)/(\d+) (.*)", str(append.value[-1]))
    assert match is not None
    value = int(match[1]), int(match[2]), match[3]
    return Fact(Kind.MENTION, (), value, append.line)


def _plain(value: Sequence[str | int] | None) -> str:
    return "nothing" if value is None else " ".join(map(str, value))
