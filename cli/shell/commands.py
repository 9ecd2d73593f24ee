"""The commands of the shell: what each takes, what it does, and its help.

Each is a function of a `Context` and the words of a line. It prints its result, or raises an error
of `hstore.node.errors`. `shell.py` reads the lines and prints the errors.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from hstore.node.errors import ConfigError, Refused

from ..client.errors import NotFound
from ..client.plain import plain
from ..streams import ending_with_reader
from .words import Word, quoted, text_of, value_of

if TYPE_CHECKING:
    from .connection import Connection

SCAN_LIMIT = 100
"""Keys that `scan` shows without a limit."""

_PAGE = 64
"""Keys in one request of `scan`; their values have 64 MiB at most."""

_UPDATE_TRIES = 10
"""Tries of `update` with a value that is not UTF-8: another client may write between its steps."""

_REVISION_MAX = 2**64 - 1


class Output:
    """Where a command prints.

    Args:
        is_terminal: Show control characters as escapes; otherwise values are printed as they are.
    """

    def __init__(self, *, is_terminal: bool) -> None:
        self.is_terminal = is_terminal

    def line(self, text: str) -> None:
        """Print a line."""
        click.echo(text.encode("utf-8", "surrogateescape"))

    def note(self, text: str) -> None:
        """Print a remark, which is no result, to standard error."""
        click.echo(f"({text})", err=True)

    def value(self, data: bytes) -> None:
        """Print a value: text as it is, other bytes as base64."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.line(base64.b64encode(data).decode())
            self.note(f"base64 of {len(data):,} bytes that are not UTF-8")
        else:
            self.line(plain(text, keep="\n\t") if self.is_terminal else text)

    def key(self, key: str) -> None:
        """Print a key."""
        self.line(plain(key) if self.is_terminal else key)

    @staticmethod
    def pair(key: str, value: bytes) -> str:
        """Return key and value as one line that is harmless to a terminal."""
        try:
            shown = quoted(value.decode())
        except UnicodeDecodeError:
            shown = f"base64:{base64.b64encode(value).decode()}"
        return f"{quoted(key)} {shown}"


class Context(NamedTuple):
    """What a command works with."""

    connection: Connection
    out: Output
    is_interactive: bool = False


class Command(NamedTuple):
    """One command.

    Attributes:
        usage: Its name and arguments.
        about: What it does, in a line.
        examples: Lines to try.
        run: Runs it.
        fewest, most: How many arguments it takes.
        takes_key: Its first argument is a key or a prefix of keys.
        writes: It changes something: after an interruption the outcome is unknown.
    """

    usage: str
    about: str
    examples: tuple[str, ...]
    run: Callable[[Context, list[Word]], None]
    fewest: int
    most: int
    takes_key: bool = False
    writes: bool = False


def writes(line: str) -> bool:
    """Tell whether a line is a command that writes."""
    name = line.split(maxsplit=1)[:1]
    return bool(name) and name[0] in COMMANDS and COMMANDS[name[0]].writes


class Leave(Exception):
    """The user wants to leave the shell."""


def run(context: Context, words: list[Word]) -> None:
    """Run the command that `words` are.

    Raises:
        Leave: It is `exit`.
        ConfigError: There is no such command, or it does not take these words.
        HstoreError: The command failed.
    """
    name = words[0].data.decode(errors="replace")
    command = _command(name)
    arguments = words[1:]
    if not command.fewest <= len(arguments) <= command.most:
        raise ConfigError(f"usage: {command.usage}; `help {name}` has examples")
    command.run(context, arguments)


def _command(name: str) -> Command:
    try:
        return COMMANDS[name]
    except KeyError:
        raise ConfigError(
            f"there is no command {quoted(name)}; `help` lists the commands"
        ) from None


def _key(word: Word) -> str:
    key = text_of(word, "key")
    if not key:
        raise ConfigError("the key is empty: it must have 1 to 4,096 bytes")
    return key


def _prefix(words: list[Word]) -> str:
    return text_of(words[0], "prefix") if words else ""


def _number(word: Word, what: str) -> int:
    text = word.data.decode(errors="replace")
    if not (text.isascii() and text.isdigit()) or int(text[:21]) > _REVISION_MAX:
        raise ConfigError(f"{quoted(text)} is not a {what}: a whole number from 0 on")
    return int(text)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _get(context: Context, words: list[Word]) -> None:
    key = _key(words[0])
    found = context.connection.read(lambda client: client.get(key))
    context.out.value(found.data)
    if context.is_interactive:
        context.out.note(f"revision {found.revision}")


def _set(context: Context, words: list[Word]) -> None:
    key, value = _key(words[0]), value_of(words[1])
    if _is_text(value):
        text = value.decode()
        revision = context.connection.write(lambda client: client.write(key, text))
        context.out.line(f"revision {revision}")
    else:
        context.connection.write(lambda client: client.put(key, value))
        context.out.line(f"{len(value):,} bytes written")


def _update(context: Context, words: list[Word]) -> None:
    key, value = _key(words[0]), value_of(words[1])
    if _is_text(value):
        text = value.decode()
        revision = context.connection.write(lambda client: client.update(key, text))
        context.out.line(f"revision {revision}")
        return
    # Only /v1/kv takes values that are not UTF-8, and it has no update. So read the revision, and
    # write only if the key still has it.
    for _ in range(_UPDATE_TRIES):
        seen = context.connection.read(lambda client: client.get(key)).revision
        if context.connection.write(lambda client, cas=seen: client.put(key, value, cas)):  # type: ignore[misc]
            context.out.line(f"{len(value):,} bytes written")
            return
    raise Refused("nothing was changed: other clients kept writing this key")


def _del(context: Context, words: list[Word]) -> None:
    key = _key(words[0])
    context.out.line(f"revision {context.connection.write(lambda client: client.delete(key))}")


def _cas(context: Context, words: list[Word]) -> None:
    key, revision, value = _key(words[0]), _number(words[1], "revision"), value_of(words[2])
    if context.connection.write(lambda client: client.put(key, value, revision)):
        context.out.line("written")
        return
    try:
        now = context.connection.read(lambda client: client.get(key)).revision
    except NotFound:
        raise Refused(f"nothing was changed: there is no key {quoted(key)}") from None
    raise Refused(f"nothing was changed: {quoted(key)} has revision {now}, not {revision}")


def _keys(context: Context, words: list[Word]) -> None:
    prefix = _prefix(words)
    # Make sure that the node answers. After the first key is printed no other node is asked, since
    # it would begin with the first key again.
    context.connection.found()
    for key in context.connection.read(lambda client: client.keys(prefix)):
        context.out.key(key)


def _scan(context: Context, words: list[Word]) -> None:
    prefix = _prefix(words)
    limit = _number(words[1], "limit") if len(words) > 1 else SCAN_LIMIT
    after, left = "", limit
    while left > 0:
        count = min(left, _PAGE)
        page = context.connection.read(
            lambda client, after=after, count=count: client.scan(prefix, after, count)  # type: ignore[misc]
        )
        if not page and not after:
            raise NotFound(f"no key starts with {quoted(prefix)}")
        for after, value in page.items():
            context.out.line(context.out.pair(after, value))
        left -= count
        if len(page) < count:
            return
    if len(words) < 2 and limit:
        context.out.note(f"the first {limit}; scan PREFIX LIMIT shows more")


def _watch(context: Context, words: list[Word]) -> None:
    prefix = _prefix(words)
    if context.is_interactive:
        context.out.note("Ctrl-C ends it")
    with ending_with_reader():
        for seen in context.connection.watch(prefix):
            assert seen.key is not None
            if seen.value is None:
                context.out.line(f"{seen.revision} del {quoted(seen.key)}")
            else:
                context.out.line(f"{seen.revision} set {context.out.pair(seen.key, seen.value)}")


def _nodes(context: Context, _words: list[Word]) -> None:
    from ..show import listing

    connection = context.connection
    listing.show_once(connection.found(), connection.finder.connect)


def _leader(context: Context, _words: list[Word]) -> None:
    info = context.connection.found().info
    address = next((node.address for node in info.nodes if node.name == info.leader), None)
    if address is None:
        raise Refused("the cluster has no leader now; `nodes` shows which nodes are alive")
    context.out.line(f"{info.leader} {address}")


def _help(context: Context, words: list[Word]) -> None:
    if words:
        _help_on(context.out, words[0].data.decode(errors="replace"))
        return
    width = max(len(command.usage) for command in COMMANDS.values())
    for command in COMMANDS.values():
        context.out.line(f"{command.usage:<{width}}  {command.about}")
    context.out.line(_MORE)


def _help_on(out: Output, name: str) -> None:
    command = _command(name)
    out.line(f"{command.usage}\n  {command.about}")
    for example in command.examples:
        out.line(f"  > {example}")
    if "VALUE" in command.usage:
        out.line(_VALUES)


def _exit(_context: Context, _words: list[Word]) -> None:
    raise Leave


_MORE = "`help COMMAND` has examples. Tab completes, Ctrl-C clears the line, Ctrl-D leaves."
_VALUES = r"""A value with spaces stands in quotes. "..." knows \n \t \r \0 \\ \" \xHH \uHHHH, '...' nothing.
@FILE is the bytes of a file; "@..." or @@... is text that begins with @."""

COMMANDS = {
    command.usage.split()[0]: command
    for command in (
        Command("get KEY", "Print the value of a key.", ("get foo",), _get, 1, 1, takes_key=True),
        Command(
            "set KEY VALUE", "Create or overwrite a key.",
            ("set foo bar", r'set greeting "two words\n"', "set logo @logo.png"),
            _set, 2, 2, takes_key=True, writes=True,
        ),
        Command(
            "update KEY VALUE", "Overwrite a key that exists.", ("update foo baz",),
            _update, 2, 2, takes_key=True, writes=True,
        ),
        Command(
            "del KEY", "Delete a key.", ("del foo",), _del, 1, 1, takes_key=True, writes=True
        ),
        Command(
            "keys [PREFIX]", "Print the keys, or those that begin with a prefix.",
            ("keys", "keys services/"), _keys, 0, 1, takes_key=True,
        ),
        Command(
            "scan [PREFIX [LIMIT]]",
            f"Print keys with their values, in the order of keys, at most LIMIT [{SCAN_LIMIT}].",
            ("scan services/", 'scan "" 1000'), _scan, 0, 2, takes_key=True,
        ),
        Command(
            "cas KEY REVISION VALUE",
            "Write only if the key has this revision; 0: only if it does not exist.",
            ("cas lock 0 me", "cas foo 17 bar"), _cas, 3, 3, takes_key=True, writes=True,
        ),
        Command(
            "watch [PREFIX]", "Print each change of the keys that begin with a prefix, as it happens.",
            ("watch services/",), _watch, 0, 1, takes_key=True,
        ),
        Command("nodes", "Show the nodes of the cluster.", ("nodes",), _nodes, 0, 0),
        Command("leader", "Print the leader's name and address.", ("leader",), _leader, 0, 0),
        Command("help [COMMAND]", "List the commands, or explain one.", ("help set",), _help, 0, 1),
        Command("exit", "Leave.", ("exit",), _exit, 0, 0),
    )
}  # fmt: skip
