"""A line of the shell as words: quotes, escapes, and values that come from a file.

The grammar, of which `help set` is the short form: spaces separate words. In '...' every character
stands for itself. In "..." there are the escapes \\n \\t \\r \\0 \\\\ \\" \\' \\xHH (one byte) and
\\uHHHH. Elsewhere a backslash makes the next character stand for itself. A value that begins with @,
neither quoted nor escaped, is the bytes of that file; @@ begins a value with one @. A line that begins
with # is a comment.

It knows no command, sends no request and prints nothing.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hstore.node.errors import ConfigError, Refused
from hstore.node.model.commands import VALUE_BYTES_MAX

from ..client.plain import plain
from ..vocabulary import Literal

LINE_BYTES_MAX = 8 << 20
"""The longest line of a pipe: a value of 1 MiB and its key, both written as escapes."""

_PIECE = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    | '(?P<single>[^']*)(?P<single_end>'?)
    | "(?P<double>(?:[^"\\]|\\.)*)(?P<double_end>"?)
    | \\(?P<escaped>.?)
    | (?P<plain>[^ \t\r\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.[\x80-\xbf]*)|$)", re.DOTALL)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"0": b"\0", b"\\": b"\\", b'"': b'"', b"'": b"'"}
_NEEDS_NO_QUOTES = re.compile(r"[\w./:%+,=~-][\w./:%+,=~@-]*")


class Word(NamedTuple):
    """One word.

    Attributes:
        data: Its bytes, without quotes and escapes.
        is_bare: It begins with a character that is neither quoted nor escaped.
    """

    data: bytes
    is_bare: bool


class Line(NamedTuple):
    """A line that may be incomplete.

    Attributes:
        words: Its complete words.
        last: The word at its end, where the cursor is; empty after a space.
        raw: The same word as it was typed.
        problem: What is wrong with the line as it stands; empty: nothing.
    """

    words: list[Word]
    last: Word
    raw: str
    problem: str


def split(text: str) -> list[Word]:
    """Split a line into words.

    Raises:
        ConfigError: A quote is not closed, or an escape is unknown.
    """
    if text.lstrip().startswith("#"):
        return []
    line = read(text)
    if line.problem:
        raise ConfigError(line.problem)
    return [*line.words, line.last] if line.raw else line.words


def read(text: str) -> Line:
    """Split a line that may be incomplete."""
    words: list[Word] = []
    word, begin, problem = Word(b"", is_bare=False), 0, ""
    for match in _PIECE.finditer(text):
        if match["space"] is not None:
            if match.start() > begin:
                words.append(word)
            word, begin = Word(b"", is_bare=False), match.end()
            continue
        data, wrong = _piece(match)
        is_first = match.start() == begin
        problem = problem or wrong
        word = Word(word.data + data, match["plain"] is not None if is_first else word.is_bare)
    return Line(words, word, text[begin:], problem)


def _piece(match: re.Match[str]) -> tuple[bytes, str]:
    """Return the bytes of a piece of a word, and what is wrong with it."""
    if match["plain"] is not None:
        return _bytes(match["plain"]), ""
    if match["single"] is not None:
        return _bytes(match["single"]), "" if match["single_end"] else "a quote ' is not closed"
    if match["escaped"] is not None:
        return _bytes(match["escaped"]), "" if match["escaped"] else "there is nothing after the \\"
    data, wrong = _unescaped(_bytes(match["double"]))
    return data, wrong if match["double_end"] else 'a quote " is not closed'


def _unescaped(raw: bytes) -> tuple[bytes, str]:
    wrong: list[str] = []

    def replaced(match: re.Match[bytes]) -> bytes:
        byte, code, other = match.groups()
        if byte is not None:
            return bytes.fromhex(byte.decode())
        if code is not None:
            return chr(int(code, 16)).encode("utf-8", "surrogatepass")
        if other not in _SIMPLE:
            shown = (other or b"").decode(errors="replace")
            wrong.append(rf'\{shown} means nothing within "": write \\ for a backslash')
        return _SIMPLE.get(other, b"")

    data = _ESCAPE.sub(replaced, raw)
    return data, wrong[0] if wrong else ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Unreadable(Refused):
    """Lines that cannot be read at all: it is the fault of no line."""


def read_words(lines: BinaryIO) -> list[Word] | None:
    """Read a line and split it; None at the end.

    Raises:
        Unreadable: It cannot be read.
        ConfigError: It is too long, or as `split` says.
    """
    try:
        line = lines.readline(LINE_BYTES_MAX + 1)
    except OSError as error:  # a directory, a terminal that is gone, ...
        raise Unreadable(f"standard input cannot be read: {error.strerror}") from None
    if len(line) > LINE_BYTES_MAX:
        raise ConfigError(f"the line is longer than {LINE_BYTES_MAX >> 20} MiB")
    return split(line.decode("utf-8", "surrogateescape")) if line else None


def from_arguments(arguments: list[str]) -> list[Word]:
    """Return the words of a command line, from which the system's shell has removed the quotes."""
    return [Word(_bytes(one), is_bare=True) for one in arguments]


def as_arguments(words: list[Word]) -> list[str]:
    """Return words as a command line has them; those that stood in quotes as `Literal`."""
    return [
        os.fsdecode(word.data) if word.is_bare else Literal(os.fsdecode(word.data))
        for word in words
    ]


def quoted(text: str) -> str:
    """Return a word as a user would type it."""
    if _NEEDS_NO_QUOTES.fullmatch(text):
        return text
    return f'"{plain(text, also=_QUOTE)}"'


_QUOTE = {'"': '\\"', "\\": "\\\\"}


def text_of(said: str, what: str) -> str:
    """Return a word as text.

    Raises:
        ConfigError: It is not UTF-8.
    """
    try:
        return os.fsencode(said).decode()
    except UnicodeError:
        raise ConfigError(f"the {what} is not UTF-8") from None


def value_of(said: str, *, has_input: bool) -> bytes:
    """Return the value that a word stands for: its bytes, or those of a file or of standard input.

    Args:
        said: The word; a `Literal` stands for itself.
        has_input: Standard input is there for a value.

    Raises:
        ConfigError: The file cannot be read, or the word is not UTF-8.
        Refused: There are more bytes than a value may have.
    """
    if isinstance(said, Literal):
        return os.fsencode(said)
    if said == "-":
        if not has_input:
            raise ConfigError('standard input is the shell\'s own: write "-" for the character')
        return _whole(sys.stdin.buffer, "standard input")
    if said.startswith("@") and not said.startswith("@@"):
        return _of_file(said[1:])
    try:
        return os.fsencode(said).decode().encode()[said.startswith("@@") :]
    except UnicodeError:
        raise ConfigError(
            f"-v: {plain(repr(said))} is not UTF-8; -v @FILE and -v - take values of any bytes"
        ) from None


def _of_file(name: str) -> bytes:
    if not name:
        raise ConfigError("@ stands before the name of a file; @@ is the character")
    try:
        with Path(name).expanduser().open("rb") as file:
            return _whole(file, plain(name))
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{plain(name)} cannot be read ({reason}); @@{plain(name)} is the text with one @"
        ) from None


def _whole(file: BinaryIO, name: str) -> bytes:
    try:
        value = file.read(VALUE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror})") from None
    if len(value) > VALUE_BYTES_MAX:
        raise Refused(f"{name} is larger than 1 MiB, the most that a value can have")
    return value
