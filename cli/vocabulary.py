"""The words of the command line, which are those of the shell too, and how they are read.

A command may have two names: `get` and `read` are one object. A word that is no command is answered
with the one that was perhaps meant. What the commands do is in `main.py` and `keys.py`; the shell
splits its lines in `shell/words.py`. `--help` needs this module, so it imports next to nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NUMBER = re.compile(r"-[0-9.]+")


class Literal(str):
    """A word that stood in quotes in the shell: it is no option, and names no file."""

    __slots__ = ()


class Commands(click.Group):
    """A group of commands that says which one was perhaps meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; see click."""
        word = args[0]
        is_word = not ctx.resilient_parsing and not word.startswith("-")
        if is_word and self.get_command(ctx, word) is None:
            ctx.fail(f"there is no command {word!r}{did_you_mean(word, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command, with all of its names."""
        del ctx
        rows = [(", ".join(names), one) for names, one in by_names(self) if not one.hidden]
        width = formatter.width - 6 - max(len(names) for names, _ in rows)
        with formatter.section("Commands"):
            formatter.write_dl([(names, one.get_short_help_str(width)) for names, one in rows])


class WrongWords(click.UsageError):
    """There are too many arguments, or too few: its command says how it is called."""

    def __init__(self) -> None:
        super().__init__("too many arguments, or too few")


class KeyCommand(click.Command):
    """A command of the shell's own, mostly about keys, which takes its arguments by options or in their order.

    Attributes:
        takes: What follows its name, as a user types it.
        needs: The options without which it says nothing, for those who have only options.
        examples: What may follow its name.
        is_write: It changes something: after an interruption the outcome is unknown.
    """

    takes = ""
    needs: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    is_write = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; what was quoted, a number, and a bare `-` are arguments."""
        flags = {
            name: one for one in self.params if isinstance(one, click.Option) for name in one.opts
        }
        options: list[str] = []
        arguments: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word == "--" and not isinstance(word, Literal):
                arguments += rest
                break
            is_argument = isinstance(word, Literal) or not word.startswith("-") or word == "-"
            if is_argument or _NUMBER.fullmatch(word):
                arguments.append(word)
                continue
            options.append(word)
            option = flags.get(word)
            if option is not None and not option.is_flag:
                if not rest:
                    break  # click says that its value is missing
                options.append(rest.pop(0))
        end = ["--"] if arguments else []
        return super().parse_args(ctx, [*options, *end, *arguments])

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; see click."""
        try:
            return super().invoke(ctx)
        except WrongWords:
            raise click.UsageError(f"usage: {self.usage(ctx.info_name or '')}", ctx) from None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the parts of the first line of its help: the arguments as well, which click sees as one.

        What `takes` has of options is among the options already.
        """
        pieces = [piece for piece in super().collect_usage_pieces(ctx) if piece]
        return [*pieces, self.takes] if self.takes and not self.takes.startswith("[-") else pieces

    def usage(self, name: str) -> str:
        """Return how it is called by one of its names."""
        return f"{name} {self.takes}".rstrip()


def by_names(group: click.Group) -> list[tuple[list[str], click.Command]]:
    """Return each command of a group once, with its names, its own before the others."""
    found: dict[int, tuple[list[str], click.Command]] = {}
    for name, one in sorted(group.commands.items()):
        names = found.setdefault(id(one), ([], one))[0]
        names.insert(0 if name == one.name else len(names), name)
    return sorted(found.values(), key=lambda row: row[0])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a clause about what was perhaps meant by a mistyped word; empty: nothing is near it.

    Near is one typing error, or one for every three letters.
    """
    word = word.lower()
    most = max(1, len(word) // 3)
    alike = (one for one in known if abs(len(one) - len(word)) <= most)
    typos, meant = min(((_typos(word, one), one) for one in alike), default=(most + 1, ""))
    return f"; did you mean {meant}?" if typos <= most else ""


def _typos(word: str, meant: str) -> int:
    """Count letters that are wrong, missing, too many, or two that have changed places."""
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, typed in enumerate(word, 1):
        before, last, row = row, before, [i]
        for j, letter in enumerate(meant, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (typed != letter)))
            if i > 1 and j > 1 and typed == meant[j - 2] and word[i - 2] == letter:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def as_key_command(
    name: str,
    takes: str,
    *,
    examples: Iterable[str],
    needs: Iterable[str] = (),
    is_write: bool = False,
) -> Callable[[Callable[..., Any]], KeyCommand]:
    """Return the decorator of a command about keys."""

    def decorate(function: Callable[..., Any]) -> KeyCommand:
        command = click.command(name, cls=KeyCommand)(function)
        command.takes = takes
        command.needs = tuple(needs)
        command.examples = tuple(examples)
        command.is_write = is_write
        return command

    return decorate
