"""Sentences for a person: errors, remarks, and what a command has done.

At a terminal they are broken between words, and never within a `command`, which is there to be
copied. Into a pipe or a file each line goes as it is. Tables and values are not for this module.
"""

from __future__ import annotations

import os
import re
import sys

import click

_WORD = re.compile(r"\S*?`[^`\n]*`\S*|\S+")
_WIDTH_MIN = 20


def tell(text: str, *, is_error: bool = False) -> None:
    """Print a text, on standard error if it is an error or a remark."""
    stream = sys.stderr if is_error else sys.stdout
    click.echo(folded(text, _width(stream)), err=is_error)


def folded(text: str, width: int | None) -> str:
    """Return a text whose lines have at most `width` columns, where words and commands allow it."""
    if width is None:
        return text
    return "\n".join(row for line in text.split("\n") for row in _rows(line, width))


def _rows(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    rows: list[str] = []
    for word in _WORD.findall(line):
        if rows and len(rows[-1]) + 1 + len(word) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(indent + word)
    return rows


def _width(stream: object) -> int | None:
    """Return the columns of the terminal that a stream is; None: it is none."""
    try:
        fd = stream.fileno()  # type: ignore[attr-defined]
        columns = os.get_terminal_size(fd).columns
    except (AttributeError, OSError, ValueError):
        return None
    return columns if columns >= _WIDTH_MIN else None
