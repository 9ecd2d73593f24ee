"""Judges files of histories: which format each has, and what the checker says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import edn, jepsen
from .checker import MOST_STEPS, Result, check
from .models import Register
from .pairing import FormatError
from .texts import Text

_MOST_BYTES = 64 << 20
"""Files are read whole; one of 50 clients has less than 1 MiB."""


def judge(path: Path, most_steps: int = MOST_STEPS) -> Result[Any]:
    """Judge a file; the first line that is of a format says which one it has.

    Raises:
        FormatError: It is of no known format, or is broken.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FormatError(f"larger than {_MOST_BYTES} bytes")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as error:
        raise FormatError(str(error)) from error
    for line in lines:
        if edn.is_line(line):
            return check(edn.read(lines), Text(), most_steps)
        if jepsen.is_line(line):
            return check(jepsen.read(lines), Register(), most_steps)
    raise FormatError("no line is one of a Jepsen log or of a map of texts")


def histories_in(folder: Path) -> list[Path]:
    """Return the files of a folder by name, the hidden ones left out.

    Raises:
        FormatError: There is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise FormatError("there is no such folder")
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not found:
        raise FormatError("there is no file in it")
    return found
