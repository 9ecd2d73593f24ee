"""Reads histories of maps of texts: one line of EDN for each call and each answer.

{:process 0, :type :invoke, :f :append, :key "7", :value "x 0 1 y"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .operation import Operation
from .pairing import Calls, FormatError
from .texts import Append, Get, Put

Action = Get | Put | Append

_LINE = re.compile(r"[^{\"]*\{(.*)\}$")
_PAIR = re.compile(r'[\s,]*:([\w-]+)\s+("(?:\\.|[^"\\])*"|\[[^\]]*\]|:?[\w.+/-]+)(?=[\s,]|$)[\s,]*')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_TIMED_OUT = ":timed-out"
_ACTIONS: dict[str, type[Get | Put | Append]] = {"get": Get, "put": Put, "append": Append}


def is_line(line: str) -> bool:
    """Tell whether a line is one of this format."""
    return "{" in line and ":process" in line and ":type" in line


def read(lines: Iterable[str]) -> list[Operation[Action]]:
    """Return the operations of a file.

    Raises:
        FormatError: A line is not blank, no comment, and cannot be understood; with its number.
    """
    calls: Calls[Action] = Calls()
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith(";"):
            with calls.at_line(number):
                _take(calls, _fields(text))
    return calls.operations()


def _take(calls: Calls[Action], fields: dict[str, str | None]) -> None:
    missing = {"process", "type", "f"} - fields.keys()
    if missing:
        raise FormatError(f"without {', '.join(f':{name}' for name in sorted(missing))}")
    process, f = fields["process"] or "", fields["f"] or ""
    if process.startswith(":"):
        return  # the nemesis, not a client
    make = _ACTIONS.get(f.removeprefix(":"))
    if make is None:
        raise FormatError(f"a map of texts does not know {f}")
    if fields["type"] != ":invoke":
        _answer(calls, process, make, fields)
        return
    key, value = fields.get("key"), fields.get("value")
    if key is None or (value is None and make is not Get):
        raise FormatError("a call without :key or :value")
    calls.begin(process, make(value or ""), key)


def _answer(
    calls: Calls[Action], process: str, make: type[Action], fields: dict[str, str | None]
) -> None:
    kind, key, value = fields["type"], fields.get("key"), fields.get("value")
    begun = calls.action(process)
    if type(begun) is not make or key not in (None, calls.key(process)):
        raise FormatError(f"process {process} called {begun} and is answered {fields}")
    if kind == ":info" or (kind == ":fail" and _TIMED_OUT in (value, fields.get("error"))):
        calls.end_unknown(process, is_harmless=make is Get)
    elif kind == ":fail":
        calls.never_was(process)
    elif kind != ":ok":
        raise FormatError(f"not a type of line: {kind}")
    elif make is Get:
        calls.end(process, Get(value or ""))
    elif value in (None, begun.value):
        calls.end(process, begun)
    else:
        raise FormatError(f"process {process} called {begun} and is answered {value!r}")


def _fields(text: str) -> dict[str, str | None]:
    """Return the fields of a map; keywords keep their colon, and nil is None."""
    whole = _LINE.match(text)
    if whole is None:
        raise FormatError(f"not a map: {text[:80]}")
    inner, place = whole[1], 0
    found: dict[str, str | None] = {}
    while inner[place:].strip():
        pair = _PAIR.match(inner, place)
        if pair is None:
            raise FormatError(f"not a field: {inner[place : place + 80].strip()}")
        found[pair[1]] = _scalar(pair[2])
        place = pair.end()
    return found


def _scalar(text: str) -> str | None:
    if text.startswith('"'):
        return _ESCAPE.sub(_unescaped, text[1:-1])
    return None if text == "nil" else text


def _unescaped(escape: re.Match[str]) -> str:
    name = escape[1]
    if len(name) == 5:
        return chr(int(name[1:], 16))
    if name not in _ESCAPES:
        raise FormatError(f"not an escape: {escape[0]}")
    return _ESCAPES[name]
