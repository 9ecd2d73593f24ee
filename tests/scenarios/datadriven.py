"""Files of commands: a command with its arguments, its input, a rule, the output it must have.

A command is one line, or several that end in a backslash, up to a line `----`; what stands between
is its input. The output ends at an empty line; one that contains empty lines stands between two
pairs of rules. Lines that begin with `#` before a command are comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RULE = "----"

_ARGUMENT = re.compile(r"([^\s=]+)(?:=(\([^)]*\)|[^\s(]*))?(?=\s|$)")


class ScenarioError(Exception):
    """A file cannot be run: what is said begins with file and line."""


@dataclass(frozen=True, slots=True)
class Argument:
    """`key`, `key=value` or `key=(value, ...)`; `values` is None for the first form."""

    key: str
    values: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: The first word.
        arguments: The other words.
        input: The lines between the command and the rule.
        line: Where the command stands, from 1.
        output: What it must print, as (line number, text).
    """

    file: str
    line: int
    name: str
    arguments: tuple[Argument, ...]
    input: tuple[str, ...]
    output: tuple[tuple[int, str], ...] = field(repr=False)

    def error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{self.file}:{self.line}: {self.name}: {text}")

    def only(self, *known: str) -> None:
        """Refuse any `key=value` whose key is not one of these."""
        for argument in self.arguments:
            if argument.values is not None and argument.key not in known:
                raise self.error(f"unknown argument {argument.key}=")

    def numbers(self) -> list[int]:
        """Return the plain arguments, which must be numbers."""
        plain = [a.key for a in self.arguments if a.values is None]
        if not all(word.isdecimal() for word in plain):
            raise self.error(f"not all numbers: {' '.join(plain)}")
        return [int(word) for word in plain]

    def values(self, key: str) -> tuple[str, ...]:
        return tuple(v for a in self.arguments if a.key == key for v in a.values or ())

    def value(self, key: str, default: str = "") -> str:
        values = self.values(key)
        if len(values) > 1:
            raise self.error(f"{key}= takes one value")
        return values[0] if values else default

    def value_numbers(self, key: str) -> tuple[int, ...]:
        values = self.values(key)
        if not all(value.isdecimal() for value in values):
            raise self.error(f"{key}= takes numbers, not {' '.join(values)}")
        return tuple(map(int, values))

    def number(self, key: str, default: int) -> int:
        if not self.value(key):
            return default
        return self.value_numbers(key)[0]

    def flag(self, key: str) -> bool:
        value = self.value(key, "false")
        if value not in ("true", "false"):
            raise self.error(f"{key}= is true or false, not {value}")
        return value == "true"


def parse(file: str, text: str) -> list[Command]:
    """Cut a file into its commands.

    Raises:
        ScenarioError: It is not of this form.
    """
    reader = _Reader(file, text.splitlines())
    commands = []
    while (command := reader.command()) is not None:
        commands.append(command)
    return commands


class _Reader:
    def __init__(self, file: str, lines: list[str]) -> None:
        self.file = file
        self.lines = lines
        self.at = 0

    def error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{self.file}:{self.at}: {text}")

    def next(self) -> str:
        self.at += 1
        return self.lines[self.at - 1]

    def is_at(self, *expected: str) -> bool:
        """Whether the next lines are these."""
        following = self.lines[self.at : self.at + len(expected)]
        return [line.rstrip() for line in following] == list(expected)

    def command(self) -> Command | None:
        while self.at < len(self.lines):
            words = self.next().strip()
            if not words or words.startswith("#"):
                continue
            line = self.at
            while words.endswith("\\") and self.at < len(self.lines):
                words = words[:-1].rstrip() + " " + self.next().strip()
            name, arguments = self._words(words)
            given = self._input()
            return Command(self.file, line, name, arguments, given, self._output())
        return None

    def _words(self, words: str) -> tuple[str, tuple[Argument, ...]]:
        name, _, rest = words.partition(" ")
        arguments = []
        rest = rest.strip()
        while rest:
            match = _ARGUMENT.match(rest)
            if match is None:
                raise self.error(f"cannot read the arguments from here on: {rest}")
            key, value = match.groups()
            arguments.append(Argument(key, None if value is None else _values(value)))
            rest = rest[match.end() :].strip()
        return name, tuple(arguments)

    def _input(self) -> tuple[str, ...]:
        begin = self.at
        while not self.is_at(RULE):
            if self.at >= len(self.lines):
                self.at = begin
                raise self.error(f"no line {RULE} after this command")
            self.at += 1
        given = tuple(self.lines[begin : self.at])
        self.at += 1
        return given

    def _output(self) -> tuple[tuple[int, str], ...]:
        output = []
        if self.is_at(RULE):
            begin = self.at
            self.at += 1
            while not self.is_at(RULE, RULE):
                if self.at >= len(self.lines):
                    self.at = begin
                    raise self.error("the output that begins with two rules does not end with two")
                output.append((self.at + 1, self.next()))
            self.at += 2
        else:
            while self.at < len(self.lines) and self.lines[self.at].strip():
                output.append((self.at + 1, self.next()))
        return tuple(output)


def _values(value: str) -> tuple[str, ...]:
    if value.startswith("("):
        value = value[1:-1]
    return tuple(part.strip() for part in value.split(",") if part.strip())
