"""The commands of quorum and confchange files: pure functions, asked one after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hstore.node.raft import membership, quorum
from hstore.node.raft.membership import (
    ConfigChange,
    ConfigChangeKind,
    Configuration,
    InvalidConfigChange,
)
from hstore.node.raft.quorum import VoteResult

from .commands import changes_of, describe_configuration
from .datadriven import Command

QUORUM_COMMANDS = frozenset({"committed", "vote"})
CHANGE_COMMANDS = frozenset({"simple", "enter-joint", "leave-joint"})

RESULTS = {
    VoteResult.WON: "VoteWon",
    VoteResult.LOST: "VoteLost",
    VoteResult.PENDING: "VotePending",
}

MISMATCHED = "error: mismatched input"


def ask_quorum(command: Command) -> str:
    """Answer `committed` or `vote`: the last line of what is printed; what stands above is a chart.

    Raises:
        ScenarioError: The command cannot be read.
    """
    command.only("cfg", "cfgj", "idx", "votes")
    if command.numbers():
        raise command.error("takes no plain arguments")
    halves = command.value_numbers("cfg"), _other_half(command)
    nodes = tuple(dict.fromkeys((*halves[0], *halves[1])))
    is_vote = command.name == "vote"
    given = command.values("votes" if is_vote else "idx")
    if len(given) != len(nodes):
        return MISMATCHED
    answers = set()
    # Which half is the old one makes no difference.
    for voters, outgoing in (halves, halves[::-1]):
        config = Configuration(voters=voters, outgoing=outgoing)
        by_node = {n: value for n, value in zip(nodes, given, strict=True) if value != "_"}
        answers.add(_vote(command, config, by_node) if is_vote else _commit(config, by_node))
    return " or ".join(sorted(answers))


def _other_half(command: Command) -> tuple[int, ...]:
    return () if command.values("cfgj") == ("zero",) else command.value_numbers("cfgj")


def _vote(command: Command, config: Configuration, by_node: dict[int, str]) -> str:
    if not set(by_node.values()) <= {"y", "n"}:
        raise command.error("a vote is y, n or _")
    votes = {node: value == "y" for node, value in by_node.items()}
    return RESULTS[quorum.vote_result(config, votes)]


def _commit(config: Configuration, by_node: dict[int, str]) -> str:
    index = quorum.committed(config, lambda node: int(by_node.get(node, 0)))
    return "∞" if index == quorum.INFINITE else str(index)


def is_same_answer(command: Command, expected: str, ours: str) -> bool:
    """Whether the last line that a file has says what we answer."""
    if ours == MISMATCHED or command.name == "vote":
        return expected.startswith(ours) if ours == MISMATCHED else expected == ours
    # The empty quorum has its chart on the same line.
    return re.sub(r"^<empty majority quorum>", "", expected) == ours


class Changer:
    """A configuration that changes by command, and since when each member is fed."""

    def __init__(self) -> None:
        self.config = Configuration()
        self.next: dict[int, int] = {}
        self.commands = 0

    def run(self, command: Command) -> list[str]:
        """Run `simple`, `enter-joint` or `leave-joint`; return what it prints.

        Raises:
            ScenarioError: The command cannot be read.
        """
        command.only("autoleave")
        _, changes = changes_of(command)
        last_index = self.commands
        self.commands += 1
        try:
            if command.name == "simple":
                self.config = membership.simple(self.config, changes)
            elif command.name == "enter-joint":
                is_auto = command.flag("autoleave")
                self.config = membership.enter_joint(self.config, changes, auto_leave=is_auto)
            elif changes:
                return ["this command takes no input"]
            else:
                self.config = membership.leave_joint(self.config)
        except InvalidConfigChange as error:
            return [str(error)]
        for change in changes:
            self._feed(change, max(last_index, 1))
        members = self.config.all_members()
        self.next = {node: self.next[node] for node in members}
        return [describe_configuration(self.config), *self._progress()]

    def _feed(self, change: ConfigChange, index: int) -> None:
        """A node that is new is fed from the last index on, one that stays as before."""
        if change.kind is not ConfigChangeKind.REMOVE:
            self.next.setdefault(change.node, index)
        elif change.node not in self.config.outgoing:
            self.next.pop(change.node, None)

    def _progress(self) -> Sequence[str]:
        learners = self.config.learners
        return [
            f"{node}: StateProbe match=0 next={index}{' learner' if node in learners else ''}"
            for node, index in self.next.items()
        ]
