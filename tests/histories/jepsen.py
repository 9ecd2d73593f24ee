"""Reads histories as Jepsen logs them: one register, one line for each call and each answer.

    INFO  jepsen.util - 4    :invoke  :cas    [1 0]

Lines that are no such thing (of the nemesis, of the test itself) are passed over. A process does
one thing at a time, and after an answer that says nothing another process takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .models import Cas, Read, Write
from .operation import Operation
from .pairing import Calls, FormatError

Action = Read | Write | Cas

_LINE = re.compile(
    r"(?:^|\s)(?P<process>\d+)\s+:(?P<type>invoke|ok|fail|info)\s+:(?P<f>[\w-]+)(?:\s+(?P<value>\S.*))?$"
)
_CAS = re.compile(r"\[\s*(-?\d+)[\s,]+(-?\d+)\s*\]$")
_NUMBER = re.compile(r"-?\d+$")
_KNOWN = ("read", "write", "cas")


def is_line(line: str) -> bool:
    """Tell whether a line is one of this format."""
    return _LINE.search(line.strip()) is not None


def read(lines: Iterable[str]) -> list[Operation[Action]]:
    """Return the operations of a file.

    Raises:
        FormatError: A line is of this format and cannot be understood, with its number.
    """
    calls: Calls[Action] = Calls()
    for number, line in enumerate(lines, start=1):
        found = _LINE.search(line.strip())
        if found is None:
            continue
        with calls.at_line(number):
            _take(calls, found["process"], found["type"], found["f"], found["value"] or "")
    return calls.operations()


def _take(calls: Calls[Action], process: str, kind: str, f: str, value: str) -> None:
    if f not in _KNOWN:
        raise FormatError(f"a register does not know :{f}")
    if kind == "invoke":
        # What a read will see is not known yet; its answer says that.
        calls.begin(process, Read(None) if f == "read" else _asked(f, value))
        return
    begun = calls.action(process)
    if _name(begun) != f:
        raise FormatError(f"process {process} called :{_name(begun)} and is answered :{f}")
    if kind == "info" or (kind == "fail" and ":timed-out" in value):
        calls.end_unknown(process, is_harmless=f == "read")
    elif kind == "fail":
        if isinstance(begun, Cas):
            calls.end(process, begun._replace(is_done=False))
        else:
            calls.never_was(process)
    elif isinstance(begun, Read):
        calls.end(process, Read(_value(value)))
    else:
        if _asked(f, value) != begun:
            raise FormatError(f"process {process} called {begun} and is answered {value}")
        calls.end(process, begun._replace(is_done=True) if isinstance(begun, Cas) else begun)


def _name(action: Action) -> str:
    return type(action).__name__.lower()


def _asked(f: str, value: str) -> Write | Cas:
    if f == "cas":
        pair = _CAS.match(value)
        if pair is None:
            raise FormatError(f"not two numbers: {value!r}")
        return Cas(int(pair[1]), int(pair[2]))
    written = _value(value)
    if written is None:
        raise FormatError("nil cannot be written")
    return Write(written)


def _value(text: str) -> int | None:
    if text == "nil":
        return None
    if not _NUMBER.match(text):
        raise FormatError(f"not a number: {text!r}")
    return int(text)
