"""Tables of quorums and membership changes that others published, replayed case by case.

They lie beside the checkout, not in it; without them these tests are skipped. The joint files of
`confchange` need `enter-joint` and `leave-joint`, which the core does not offer yet: only the
files of simple changes are replayed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hstore.node.raft import membership, quorum
from hstore.node.raft.membership import Change, ChangeKind, Configuration, InvalidChange
from hstore.node.raft.quorum import VoteResult

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

CONFCHANGE = (
    "simple_idempotency.txt", "simple_promote_demote.txt", "simple_safety.txt", "update.txt",
    "zero.txt",
)  # fmt: skip

RESULTS = {
    VoteResult.WON: "VoteWon",
    VoteResult.LOST: "VoteLost",
    VoteResult.PENDING: "VotePending",
}

KINDS = {"v": ChangeKind.ADD_VOTER, "l": ChangeKind.ADD_LEARNER, "r": ChangeKind.REMOVE}


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a data-driven file: the lines before the rule, and those behind it."""

    place: str
    command: list[str]
    expected: list[str]


def read_cases(path: Path) -> Iterator[Case]:
    blocks = re.split(r"\n\s*\n", path.read_text())
    for number, block in enumerate(blocks, 1):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            rule = lines.index("----")
            yield Case(f"{path.name}:{number}", lines[:rule], lines[rule + 1 :])


def missing(folder: str) -> list[Any]:
    reason = f"the published tables are not there: ../shared/data/{folder}"
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]


def quorum_cases() -> list[Any]:
    files = sorted((DATA / "quorum").glob("*.txt"))
    cases = [pytest.param(c, id=c.place) for path in files for c in read_cases(path)]
    return cases or missing("quorum")


def arguments(line: str) -> dict[str, list[str]]:
    return {
        name: [] if value == "zero" else re.findall(r"\w+", value)
        for name, value in re.findall(r"(\w+)=(\([^)]*\)|\w+)", line)
    }


@pytest.mark.parametrize("case", quorum_cases())
def test_quorums_decide_as_published(case: Case) -> None:
    (line,) = case.command
    args = arguments(line)
    config = Configuration(
        voters=tuple(map(int, args.get("cfg", ()))),
        outgoing=tuple(map(int, args.get("cfgj", ()))),
    )
    mirrored = Configuration(voters=config.outgoing, outgoing=config.voters)
    nodes = list(dict.fromkeys((*config.voters, *config.outgoing)))
    given = args.get("idx", args.get("votes", []))
    by_node = {n: v for n, v in zip(nodes, given, strict=True) if v != "_"}

    if line.startswith("vote"):
        votes = {node: value == "y" for node, value in by_node.items()}
        assert [RESULTS[quorum.vote_result(config, votes)]] == case.expected[-1:]
        assert [RESULTS[quorum.vote_result(mirrored, votes)]] == case.expected[-1:]
    else:
        assert line.startswith("committed")
        indexes = {node: int(value) for node, value in by_node.items()}
        for each in (config, mirrored):
            index = quorum.committed(each, lambda node: indexes.get(node, 0))
            shown = "∞" if index == quorum.INFINITE else str(index)
            # The chart above it is decoration; the empty quorum has its chart on the same line.
            assert shown == re.findall(r"∞|\d+", case.expected[-1])[-1]


class Changer:
    """A configuration and its progress lines, as the published harness keeps them."""

    def __init__(self) -> None:
        self.config = Configuration()
        self.next: dict[int, int] = {}
        self.commands = 0

    def run(self, case: Case) -> list[str]:
        assert case.command[0] == "simple"
        words = " ".join(case.command[1:]).split()
        # "u" tells a node's data elsewhere; it is no change of membership.
        changes = [Change(KINDS[word[0]], int(word[1:])) for word in words if word[0] in KINDS]
        last_index = self.commands
        self.commands += 1
        try:
            self.config = membership.simple(self.config, changes)
        except InvalidChange as error:
            return [str(error)]
        # A node that is new starts at the last index, one that stays keeps its progress.
        self.next = {
            node: self.next.get(node, max(last_index, 1)) for node in self.config.all_members()
        }
        return self.lines()

    def lines(self) -> list[str]:
        def shown(name: str, nodes: Sequence[int]) -> str:
            return f"{name}=({' '.join(map(str, nodes))})"

        first = shown("voters", self.config.voters)
        if self.config.learners:
            first += " " + shown("learners", self.config.learners)
        return [first] + [
            f"{node}: StateProbe match=0 next={index}"
            + (" learner" if node in self.config.learners else "")
            for node, index in self.next.items()
        ]


@pytest.mark.parametrize("name", CONFCHANGE)
def test_simple_changes_end_as_published(name: str) -> None:
    path = DATA / "confchange" / name
    if not path.is_file():
        pytest.skip("the published tables are not there: ../shared/data/confchange")
    changer = Changer()
    cases = list(read_cases(path))

    assert cases
    for case in cases:
        assert (case.place, changer.run(case)) == (case.place, case.expected)
