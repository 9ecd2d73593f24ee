"""Changes of one compared fact in a scenario file; the run of each changed file must fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .datadriven import ScenarioError
from .facts import Fact, Kind
from .replay import Result, replay

_ENTRY = r"(\d+)/(\d+) (Entry\w+)( .*?)?(?=\]|$)"
_NUMBERS = {
    Kind.HARD_STATE: ("Term:", "Vote:", "Commit:"),
    Kind.SNAPSHOT: ("Index:", "Term:", "Voters:["),
    Kind.STATE: ("Term:",),
    Kind.LOG_ENDS: ("first index=", "last index="),
    Kind.VOTE: ("Term:",),
    Kind.APPEND: ("Term:",),
    Kind.WRITE: ("Term:", "Vote:", "Commit:"),
    Kind.CONFIGURATION: ("voters=(",),
}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One line, changed in one fact."""

    line: int
    before: str
    after: str

    def apply(self, text: str) -> str:
        lines = text.splitlines()
        lines[self.line - 1] = self.after
        return "\n".join(lines) + "\n"


def mutations(text: str, result: Result) -> list[Mutation]:
    """Return every change of a compared fact that is made here, of a file and what it came to."""
    lines = text.splitlines()
    waived = {waiver.line for waiver in result.waived}
    made: dict[Mutation, None] = {}
    for fact in sorted(result.compared | result.named, key=lambda f: (f.line, f.kind.name)):
        before = lines[fact.line - 1]
        if fact.line in waived:
            continue
        for after in _changed(fact, before, is_named=fact not in result.compared):
            if after != before:
                made[Mutation(fact.line, before, after)] = None
    return list(made)


def is_noticed(name: str, text: str, mutation: Mutation) -> bool:
    """Whether the changed file fails."""
    try:
        return bool(replay(name, mutation.apply(text)).deviations)
    except ScenarioError:
        return True


def _changed(fact: Fact, line: str, *, is_named: bool) -> Iterator[str]:
    kind = fact.kind
    if is_named:
        yield from _other_verdict(line) if kind is Kind.VOTE else _other_entry(line)
        return
    for prefix in _NUMBERS.get(kind, ()):
        yield from _raised(line, prefix)
    for change in _CHANGES.get(kind, ()):
        yield from change(line)


def _other_log_of_message(line: str) -> Iterator[str]:
    if "Resp" not in line and "Msg" in line:
        yield from _raised(line, r"Log:")
        yield from _raised(line, r"Log:\d+/")
        yield from _raised(line, r"\d->")


def _other_membership(line: str) -> Iterator[str]:
    yield line.replace("(Voter)", "(Non-Voter)") if "(V" in line else line.replace("Non-", "")


def _other_member(line: str) -> Iterator[str]:
    yield line.removesuffix(" learner") if line.endswith(" learner") else f"{line} learner"
    yield from _raised(line, "^")


def _raised(line: str, prefix: str) -> Iterator[str]:
    """Change the number behind a prefix, up and down."""
    prefix = re.sub(r"(?<!\\)([\[(])", r"\\\1", prefix)
    match = re.search(rf"({prefix})(\d+)", line)
    if match:
        for by in (1, -1):
            number = int(match[2]) + by
            if number >= 0:
                yield f"{line[: match.start(2)]}{number}{line[match.end(2) :]}"


def _other_role(line: str) -> Iterator[str]:
    roles = ("StateFollower", "StatePreCandidate", "StateCandidate", "StateLeader")
    for role in roles:
        yield re.sub(r"\bState[A-Z]\w+", role, line)


def _other_verdict(line: str) -> Iterator[str]:
    if "VoteResp" in line:
        rejected = " Rejected (Hint: 0)"
        yield line.replace(rejected, "") if rejected in line else line + rejected


def _other_entry(line: str) -> Iterator[str]:
    match = re.search(_ENTRY, line)
    if match is None:
        return
    term, index, kind, data = int(match[1]), int(match[2]), match[3], match[4] or ""
    other = f'{data[:-1]}x"' if kind == "EntryNormal" else f"{data} v9"
    for changed in (
        f"{term + 1}/{index} {kind}{data}",
        f"{term}/{index + 1} {kind}{data}",
        f"{term}/{index} {kind}{other}",
    ):
        yield line[: match.start()] + changed + line[match.end() :]


def _other_answer(line: str) -> Iterator[str]:
    results = ("VoteWon", "VoteLost", "VotePending")
    if line in results:
        yield from results
    elif re.search(r"\d", line):
        for match in re.finditer(r"\d+", line):
            yield f"{line[: match.start()]}{int(match[0]) + 1}{line[match.end() :]}"
    else:
        yield f"not {line}"


_Change = Callable[[str], Iterator[str]]
_CHANGES: dict[Kind, tuple[_Change, ...]] = {
    Kind.ROLE: (_other_role,),
    Kind.STATE: (_other_role, _other_membership),
    Kind.VOTE: (_other_verdict, _other_log_of_message),
    Kind.APPEND: (_other_entry, _other_log_of_message),
    Kind.ENTRY: (_other_entry,),
    Kind.COMMITTED: (_other_entry,),
    Kind.LOG: (_other_entry,),
    Kind.STORED: (_other_entry,),
    Kind.APPLIED: (_other_entry,),
    Kind.MEMBER: (_other_member,),
    Kind.ANSWER: (_other_answer,),
}
