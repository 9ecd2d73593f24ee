"""What the commands about keys and nodes do, whichever spelling they were given in.

Each is a function of a `Context` and of what the user said (`cli/keys.py` takes that from options and
arguments). It prints its result, or raises an error of `hstore.node.errors`.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from hstore.node.errors import ConfigError, HstoreError, Refused

from ..client.errors import NotFound, Unreachable
from ..client.plain import plain, plain_json
from ..client.sessions import info, look
from ..messages import tell
from ..streams import ending_with_reader
from .words import quoted, read_words, text_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..client.replies import KeyRow
    from .connection import Connection
    from .words import Word

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
        tell(f"({text})", is_error=True)

    def value(self, data: bytes, *, is_alone: bool = False) -> None:
        """Print a value: text as it is, other bytes as base64.

        Args:
            data: The value.
            is_alone: It is all that the program prints. Then other bytes, too, go into a file or a
                pipe as they are.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if is_alone and not self.is_terminal:
                click.echo(data)
                return
            self.line(base64.b64encode(data).decode())
            self.note(f"base64 of {len(data):,} bytes that are not UTF-8; --raw prints the bytes")
        else:
            self.line(plain(text, keep="\n\t") if self.is_terminal else text)

    def json(self, content: object) -> None:
        """Print an object as a line of JSON that is harmless to a terminal."""
        self.line(_json(content))

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
    """What a command works with.

    Attributes:
        connection: To the node that is asked.
        out: Where it prints.
        is_interactive: A person types the commands.
        is_shell: Other commands come before and after it from where standard input comes from.
        more: Reads the next line of a command that has several; None at the end. It may raise what
            `words.split` raises.
    """

    connection: Connection
    out: Output
    is_interactive: bool = False
    is_shell: bool = False
    more: Callable[[], list[Word] | None] = lambda: None


def of_standard_input() -> list[Word] | None:
    """Read a line of standard input, which has a command's own lines and nothing else.

    Raises:
        Refused: It cannot be read.
        ConfigError: As of `words.split`, or it is too long.
    """
    return read_words(sys.stdin.buffer)


def read(context: Context, key: str | None, *, is_raw: bool, as_json: bool) -> None:
    """Print a value; None: all keys and values."""
    if key is None:
        _read_all(context, is_raw=is_raw)
        return
    name = key_of(key)
    if as_json or (context.is_shell and not context.is_interactive and not is_raw):
        found = context.connection.read(lambda client: client.get(name))
        if as_json:
            member = value_member(found.data)
            context.out.json({"key": name, **member, "revision": found.revision})
        else:
            context.out.value(found.data)
    elif is_raw or not context.out.is_terminal:
        data = context.connection.read(lambda client: client.read(name))
        if is_raw:
            click.echo(data, nl=False)
        else:
            context.out.value(data, is_alone=True)
    else:
        _read_for_a_person(context, name)


def _read_for_a_person(context: Context, name: str) -> None:
    row = context.connection.read(lambda client: look(client, name)).row
    if row is None:
        raise NotFound(f"there is no key {quoted(name)}")
    context.out.value(data_of(row))
    held = [f"locked by {holder(context, row)}"] if row.session else []
    if context.is_interactive:
        held.insert(0, f"revision {row.modify_index}")
    if held:
        context.out.note(", ".join(held))


def holder(context: Context, row: KeyRow) -> str:
    """Name the session that holds a key, by its name where it has one."""
    with contextlib.suppress(HstoreError):
        found = context.connection.read(lambda client: info(client, row.session))
        if found.name:
            return f"{quoted(found.name)}, session {found.id}"
    return f"session {plain(row.session)}"


def data_of(row: KeyRow) -> bytes:
    """Return the value of a key as a node has shown it.

    Raises:
        Unreachable: No node shows it so.
    """
    try:
        return row.data()
    except ValueError:
        raise Unreachable(f"the value of {quoted(row.key)} did not come as base64") from None


def _read_all(context: Context, *, is_raw: bool) -> None:
    is_escaped = context.out.is_terminal and not is_raw
    if context.is_shell:
        context.connection.begin()  # after the first piece is printed, no other node can go on
    pieces = context.connection.read(lambda client: client.read_all())
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for piece in pieces:
        shown = plain(decoder.decode(piece), keep="\n\t") if is_escaped else piece
        click.echo(shown, nl=False)
    click.echo()


def write(context: Context, key: str, value: str, *, as_json: bool) -> None:
    """Create or overwrite a key."""
    name, data = key_of(key), value_of_said(context, value)
    if _is_text(data):
        text = data.decode()
        revision = context.connection.write(lambda client: client.write(name, text))
    else:
        revision = context.connection.write(lambda client: client.put(name, data)) or 0
    written(context, name, revision, as_json=as_json)


def update(context: Context, key: str, value: str, *, as_json: bool) -> None:
    """Overwrite a key that exists."""
    name, data = key_of(key), value_of_said(context, value)
    if _is_text(data):
        text = data.decode()
        revision = context.connection.write(lambda client: client.update(name, text))
        written(context, name, revision, as_json=as_json)
        return
    # Only /v1/kv takes values that are not UTF-8, and it has no update. So read the revision, and
    # write only if the key still has it.
    for _ in range(_UPDATE_TRIES):
        seen = context.connection.read(lambda client: client.get(name)).revision
        done = context.connection.write(lambda client, cas=seen: client.put(name, data, cas))  # type: ignore[misc]
        if done is not None:
            written(context, name, done, as_json=as_json)
            return
    raise Refused("nothing was changed: other clients kept writing this key")


def delete(context: Context, key: str, *, as_json: bool) -> None:
    """Delete a key that exists."""
    name = key_of(key)
    revision = context.connection.write(lambda client: client.delete(name))
    written(context, name, revision, as_json=as_json)


def cas(context: Context, key: str, revision: str, value: str, *, as_json: bool) -> None:
    """Write if the key has this revision."""
    name, wanted = key_of(key), number_of(revision, "revision")
    data = value_of_said(context, value)
    done = context.connection.write(lambda client: client.put(name, data, wanted))
    if done is not None:
        written(context, name, done, as_json=as_json)
        return
    try:
        now = context.connection.read(lambda client: client.get(name)).revision
    except NotFound:
        raise Refused(f"nothing was changed: there is no key {quoted(name)}") from None
    raise Refused(f"nothing was changed: {quoted(name)} has revision {now}, not {wanted}")


def keys(context: Context, prefix: str | None, *, as_json: bool) -> None:
    """Print the keys that begin with a prefix."""
    begin = text_of(prefix or "", "prefix")
    # Make sure that the node answers. After the first key is printed no other node is asked, since
    # it would begin with the first key again.
    context.connection.begin()
    found = context.connection.read(lambda client: client.keys(begin))
    if as_json:
        _print_all(context.out, "[", (_json(key) for key in found), "]")
        return
    for key in found:
        context.out.key(key)


def scan(
    context: Context, prefix: str | None, limit: str | None, usual: int, *, as_json: bool
) -> None:
    """Print keys with their values; without a limit as many as `usual`."""
    most = usual if limit is None else number_of(limit, "limit")
    pairs = _pairs(context, text_of(prefix or "", "prefix"), most)
    if as_json:
        shown = (f"{_json(key)}:{_json(_json_value(value))}" for key, value in pairs)
        _print_all(context.out, "{", shown, "}")
        return
    count = 0
    for key, value in pairs:
        context.out.line(context.out.pair(key, value))
        count += 1
    if limit is None and count == usual:
        context.out.note(f"the first {usual}; scan PREFIX LIMIT shows more")


def _pairs(context: Context, prefix: str, limit: int) -> Iterable[tuple[str, bytes]]:
    after, left = "", limit
    while left > 0:
        count = min(left, _PAGE)
        page = context.connection.read(
            lambda client, after=after, count=count: client.scan(prefix, after, count)  # type: ignore[misc]
        )
        if not page and not after:
            raise NotFound(f"no key starts with {quoted(prefix)}")
        for after, value in page.items():
            yield after, value
        left -= count
        if len(page) < count:
            return


def watch(context: Context, prefix: str | None, *, as_json: bool) -> None:
    """Print each change of the keys that begin with a prefix, until it is interrupted."""
    begin = text_of(prefix or "", "prefix")
    if context.is_interactive:
        context.out.note("Ctrl-C ends it")
    with ending_with_reader():
        for seen in context.connection.watch(begin):
            if seen.key is None:
                continue  # It says only how far the watch has come.
            if as_json:
                what = {"deleted": True} if seen.value is None else value_member(seen.value)
                context.out.json({"key": seen.key, "revision": seen.revision, **what})
            elif seen.value is None:
                context.out.line(f"{seen.revision} del {quoted(seen.key)}")
            else:
                context.out.line(f"{seen.revision} set {context.out.pair(seen.key, seen.value)}")


def nodes(context: Context, *, is_watch: bool, as_json: bool) -> int:
    """Show the nodes of the cluster; return 1 when it has no leader, else 0."""
    from ..show import listing

    connection = context.connection
    if is_watch:
        return listing.watch(connection.finder, connection.addresses(), as_json=as_json)
    return listing.show_once(connection.begin(), connection.finder.connect, as_json=as_json)


def leader(context: Context, *, as_json: bool) -> None:
    """Print the leader's name and address."""
    info = context.connection.begin().info
    address = next((node.address for node in info.nodes if node.name == info.leader), None)
    if address is None:
        raise Refused("the cluster has no leader now; `hstore list` shows why")
    if as_json:
        context.out.json({"name": info.leader, "address": address})
    else:
        context.out.line(f"{info.leader} {address}")


# --- what they share --------------------------------------------------------------------------


def written(context: Context, key: str, revision: int, *, as_json: bool) -> None:
    """Print the revision of a write; a node of an older version does not always tell it."""
    if as_json:
        context.out.json({"key": key, "revision": revision or None})
    else:
        context.out.line(f"revision {revision}" if revision else "written")


def key_of(said: str) -> str:
    """Return a word as a key.

    Raises:
        ConfigError: It is none.
    """
    key = text_of(said, "key")
    if not key:
        raise ConfigError("the key is empty: it must have 1 to 4,096 bytes")
    return key


def value_of_said(context: Context, said: str) -> bytes:
    """Return the value that a word stands for; `words.value_of` says how."""
    return value_of(said, has_input=not context.is_shell)


def number_of(text: str, what: str) -> int:
    """Return a word as a number, such as a revision; `what` names it.

    Raises:
        ConfigError: It is none.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:21]) > _REVISION_MAX:
        raise ConfigError(f"{quoted(text)} is not a {what}: a whole number from 0 on")
    return int(text)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json(content: object) -> str:
    return plain_json(msgspec.json.encode(content).decode())


def value_member(data: bytes) -> dict[str, str]:
    """Return the member of a JSON object that holds a value, as `GET /read/<key>` has it."""
    if _is_text(data):
        return {"value": data.decode()}
    return {"value_base64": base64.b64encode(data).decode()}


def _json_value(data: bytes) -> Any:
    """Return a value as `GET /read` has it."""
    return data.decode() if _is_text(data) else {"base64": base64.b64encode(data).decode()}


def _print_all(out: Output, begin: str, parts: Iterable[str], end: str) -> None:
    """Print a JSON text whose parts arrive one by one; nothing is printed before the first."""
    before = begin
    for part in parts:
        click.echo(f"{before}{part}", nl=False)
        before = ","
    out.line(begin + end if before == begin else end)
