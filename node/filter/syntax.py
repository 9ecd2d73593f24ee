"""From the text of a filter to a tree, by the grammar of the contract of services, section 2.7.

The grammar is that of `hashicorp/go-bexpr` (`grammar/grammar.peg`), so a word such as `not` or `in`
is a name where it cannot be anything else (`not == 1`), and the parser looks back in one place.
Every step goes on in the text or ends, so the time is linear in its length.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

EXPRESSION_BYTES_MAX = 4096
LEVELS_MAX = 64
_SHOWN = 40

_SPACE = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_/]*")
_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?=[ \t\r\n)]|\Z)")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`', re.DOTALL)
_ESCAPE = re.compile(
    r"""\\(?: ([abfnrtv\\"]) | ([0-7]{3}) | x([0-9a-fA-F]{2}) | u([0-9a-fA-F]{4})
        | U([0-9a-fA-F]{8}) )?""",
    re.VERBOSE,
)
_LETTERS = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))
_OPERATOR = re.compile(
    r"""[ \t\r\n]* (?P<equal> == | != ) [ \t\r\n]*
      | [ \t\r\n]+ (?P<not> not [ \t\r\n]+ )? (?P<word> contains | matches | in ) [ \t\r\n]+
      | [ \t\r\n]+ is [ \t\r\n]+ (?P<is_not> not [ \t\r\n]+ )? (?P<empty> empty )""",
    re.VERBOSE,
)


class FilterError(Exception):
    """A filter that cannot be used, or not on these objects; the text is for the user."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Failed to create boolean expression evaluator: {why}")


class _Mismatch(FilterError):
    """The text does not go on as this part of the grammar does."""


class Operator(enum.Enum):
    """What a match asks of a field."""

    EQUAL = "=="
    IN = "in"
    MATCHES = "matches"
    EMPTY = "is empty"


@dataclass(frozen=True, slots=True)
class Match:
    """One question about one field; `negated`: the opposite. Only `EMPTY` has no `value`."""

    selector: tuple[str, ...]
    operator: Operator
    negated: bool = False
    value: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a part."""

    part: Expression


@dataclass(frozen=True, slots=True)
class And:
    """All parts, looked at in this order until one is false."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any part, looked at in this order until one is true."""

    parts: tuple[Expression, ...]


Expression = Match | Not | And | Or


def parse(text: str) -> Expression:
    """Return the tree of an expression.

    Raises:
        FilterError: It is none, is longer than 4 KiB, or has more than 64 levels of `(` and `not`.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > EXPRESSION_BYTES_MAX:
        raise FilterError(f"it has {size:,} bytes: at most {EXPRESSION_BYTES_MAX:,} are taken")
    return _Parser(text).whole()


class _Parser:
    """One pass over a text; `_at` is where the next part begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Expression:
        self._skip_space()
        expression = self._either(0)
        self._skip_space()
        if self._at < len(self._text):
            raise self._mismatch("`and`, `or` or the end")
        return expression

    def _either(self, level: int) -> Expression:
        parts = [self._both(level)]
        while self._takes_word("or"):
            parts.append(self._both(level))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, level: int) -> Expression:
        parts = [self._opposite(level)]
        while self._takes_word("and"):
            parts.append(self._opposite(level))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _opposite(self, level: int) -> Expression:
        if level > LEVELS_MAX:
            raise FilterError(f"it has more than {LEVELS_MAX} levels of `(` and `not`")
        start = self._at
        if self._text.startswith("not", start) and self._has_space(start + 3):
            self._at = start + 3
            self._skip_space()
            try:
                return Not(self._opposite(level + 1))
            except _Mismatch as first:
                # Perhaps `not` is the name of a field, or a value: `not in Tags`.
                self._at = start
                try:
                    return self._match()
                except _Mismatch:
                    raise first from None
        return self._group(level) if self._text.startswith("(", start) else self._match()

    def _group(self, level: int) -> Expression:
        self._at += 1
        self._skip_space()
        expression = self._either(level + 1)
        self._skip_space()
        if not self._text.startswith(")", self._at):
            raise self._mismatch("`)`, `and` or `or`")
        self._at += 1
        return expression

    def _match(self) -> Match:
        selector = self._selector()
        value = ".".join(selector) if selector else self._literal()
        if value is None:
            raise self._mismatch("a field, a value, `not` or `(`")
        found = _OPERATOR.match(self._text, self._at)
        if found is None:
            raise self._mismatch("an operator such as `==`, `contains` or `is empty`")
        if found["word"] == "in":
            self._at = found.end()
            selector = self._selector()
            if not selector:
                raise self._mismatch("a field")
            return Match(selector, Operator.IN, bool(found["not"]), value)
        if not selector:
            raise self._mismatch("`in` or `not in` after a value")
        self._at = found.end()
        if found["empty"]:
            return Match(selector, Operator.EMPTY, bool(found["is_not"]))
        operator = Operator.EQUAL
        if found["word"]:
            operator = Operator.IN if found["word"] == "contains" else Operator.MATCHES
        return Match(
            selector, operator, bool(found["not"]) or found["equal"] == "!=", self._value()
        )

    def _value(self) -> str:
        selector = self._selector()
        value = ".".join(selector) if selector else self._literal()
        if value is None:
            raise self._mismatch("a value")
        return value

    def _selector(self) -> tuple[str, ...]:
        """Take a selector; empty: there is none here."""
        names = self._take(_NAME)
        if names is None:
            return ()
        path = [names]
        while True:
            start = self._at
            if self._text.startswith(".", start):
                self._at += 1
                name = self._take(_NAME) or self._take(_DIGITS)
                if name is None:
                    raise self._mismatch("a name after `.`")
                path.append(name)
            elif self._text.startswith("[", start):
                path.append(self._index())
            else:
                return tuple(path)

    def _index(self) -> str:
        self._at += 1
        self._skip_space()
        name = self._quoted()
        if name is None:
            raise self._mismatch("a text in quotes after `[`")
        self._skip_space()
        if not self._text.startswith("]", self._at):
            raise self._mismatch("`]`")
        self._at += 1
        return name

    def _literal(self) -> str | None:
        """Take a number as it is written, or a text in quotes; None: there is neither."""
        return self._take(_NUMBER) or self._quoted()

    def _quoted(self) -> str | None:
        quoted = self._take(_TEXT)
        if quoted is None:
            return None
        if quoted.startswith("`"):
            return quoted[1:-1].replace("\r", "")  # As Go reads raw strings.
        return unescaped(quoted[1:-1])

    def _takes_word(self, word: str) -> bool:
        """Take a word with white space on both sides, if it is here."""
        found = _SPACE.match(self._text, self._at)
        start = found.end() if found else self._at
        end = start + len(word)
        if start == self._at or not self._text.startswith(word, start) or not self._has_space(end):
            return False
        self._at = end
        self._skip_space()
        return True

    def _has_space(self, at: int) -> bool:
        return self._text[at : at + 1] in {" ", "\t", "\r", "\n"}

    def _skip_space(self) -> None:
        self._take(_SPACE)

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _mismatch(self, wanted: str) -> _Mismatch:
        if self._at == len(self._text):
            return _Mismatch(f"it ends where {wanted} should be")
        rest = self._text[self._at : self._at + _SHOWN]
        return _Mismatch(f"at character {self._at + 1}, {shown(rest)}: {wanted} should be there")


def unescaped(text: str) -> str:
    """Return what stands between the quotes of a Go string with its escapes resolved.

    Bytes that are no UTF-8, which `\\x` can make, are lone surrogates: they equal no text.

    Raises:
        FilterError: A bad escape, or a line break.
    """
    if "\n" in text:
        raise FilterError("a line break in a text in quotes: write it \\n")
    if "\\" not in text:
        return text
    pieces, start = bytearray(), 0
    for found in _ESCAPE.finditer(text):
        pieces += text[start : found.start()].encode("utf-8", "surrogatepass")
        pieces += _escaped(found)
        start = found.end()
    pieces += text[start:].encode("utf-8", "surrogatepass")
    return pieces.decode("utf-8", "surrogateescape")


def _escaped(found: re.Match[str]) -> bytes:
    letter, octal, two, four, eight = found.groups()
    if letter:
        return _LETTERS[letter].encode()
    if octal or two:
        number = int(octal, 8) if octal else int(two, 16)
        if number < 256:
            return bytes([number])
    elif four or eight:
        number = int(four or eight, 16)
        if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
            return chr(number).encode()
    raise FilterError(
        f"an escape that Go does not know: {shown(found.string[found.start() :][:10])}"
    )


def shown(text: str) -> str:
    """Return a text of the user's for a message of one line."""
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return '"' + cut.encode("unicode_escape").decode("ascii") + '"'
