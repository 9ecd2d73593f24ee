"""What the commands to a node have in common: their connection, and words in place of options.

In a shell they talk to the shell's node, unless -h names another one.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from . import options as opt
from .vocabulary import WrongWords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .shell.commands import Context

key_first = click.argument(
    "words",
    nargs=-1,
    metavar="",
    type=click.UNPROCESSED,
    shell_complete=opt.complete_first_key,
)
"""Arguments in their order, of which the first is a key."""


def connected(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the callback of a command that talks to a node: `-h` and `--zone` become its `context`."""

    @opt.host
    @opt.zone
    @wraps(function)
    def callback(*, host: str | None, zone: str | None, **said: Any) -> Any:
        with _opened(host, zone) as context:
            return function(context, **said)

    return callback


def texts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the callback of a command that takes nothing but text: all else is refused first.

    What stood in quotes in the shell (`Literal`) is an ordinary text for it, too.
    """

    @wraps(function)
    def callback(**said: Any) -> Any:
        return function(**{name: _as_text(value) for name, value in said.items()})

    return callback


def _as_text(said: Any) -> Any:
    from .shell.words import text_of

    if isinstance(said, tuple):
        return tuple(map(_as_text, said))
    return text_of(said, f"word {said!r}") if isinstance(said, str) else said


@contextmanager
def _opened(host: str | None, zone: str | None) -> Iterator[Context]:
    """Yield the shell's connection, or one for this command alone."""
    shell: Context | None = click.get_current_context().obj
    if shell is not None and host is None and zone is None:
        yield shell
        return
    from .shell.commands import Context, Output, of_standard_input
    from .shell.connection import Connection

    out = shell.out if shell else Output(is_terminal=sys.stdout.isatty())
    with Connection(opt.finder(zone), host, out.note, is_brief=True) as connection:
        if shell is not None:
            yield shell._replace(connection=connection)
        else:
            yield Context(connection, out, more=of_standard_input)


def filled(words: tuple[str, ...], *said: str | None) -> list[str]:
    """Return all arguments: those that no option has given are taken from the words, in their order.

    Raises:
        WrongWords: There are too many, or too few.
    """
    filled = [one for one in filled_if_any(words, *said) if one is not None]
    if len(filled) < len(said):
        raise WrongWords()
    return filled


def filled_if_any(words: tuple[str, ...], *said: str | None) -> list[str | None]:
    """Return what `filled` does, with None in place of what is not there."""
    left = list(words)
    filled = [left.pop(0) if one is None and left else one for one in said]
    if left:
        raise WrongWords()
    return filled
