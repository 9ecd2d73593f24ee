"""A mistake put into the code on purpose, for as long as it is wanted.

It is written as a change of the source, the way somebody would make it. The changed source is
compiled, and functions that came out differently get the new code in place: whoever holds them
holds the mistaken ones. A change whose old text is not in the file exactly once is refused: the
code has gone on, and the mutant must be thought of again.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_IS_FUNCTION = 0x2
"""The flag CO_NEWLOCALS: a function has it, the body of a class has not."""


class Outdated(Exception):
    """The code that a mutant changes is not there any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake.

    Attributes:
        name: What is wrong, in a few words joined by hyphens.
        bugs: Numbers of the real bugs of this kind.
        about: What the change does.
        changes: (file below the root, old text, new text).
        layer: "A" when cores alone show it, "B" when the whole node has to be there.
    """

    name: str
    bugs: tuple[int, ...]
    about: str
    changes: tuple[tuple[str, str, str], ...]
    layer: str = "A"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mistake in, and take it out again.

        Raises:
            Outdated: The code has changed.
        """
        undo: list[tuple[FunctionType, CodeType]] = []
        try:
            for file in dict.fromkeys(file for file, _, _ in self.changes):
                for function, code in self._altered(file):
                    undo.append((function, function.__code__))
                    function.__code__ = code
            yield
        finally:
            for function, code in reversed(undo):
                function.__code__ = code

    def _altered(self, file: str) -> Iterator[tuple[FunctionType, CodeType]]:
        path = ROOT / file
        source = new = _source(path)
        for name, old_text, new_text in self.changes:
            if name == file:
                if new.count(old_text) != 1:
                    times = new.count(old_text)
                    raise Outdated(f"{self.name}: {times} times in {file}, not once: {old_text}")
                new = new.replace(old_text, new_text)
        before, after = _compiled(source, path), dict(_functions(_compile(new, path)))
        altered = [name for name, code in after.items() if not _is_same(code, before.get(name))]
        if not altered or set(after) != set(before):
            raise Outdated(f"{self.name}: must alter some functions of {file}, and add none")
        module = importlib.import_module(_module_of(file))
        for name in altered:
            yield _live(module, name), after[name]


def one_change(
    name: str,
    about: str,
    file: str,
    old: str,
    new: str,
    layer: str = "A",
    bugs: tuple[int, ...] = (),
) -> Mutant:
    """Return a mistake that changes one place of one file; see `Mutant`."""
    return Mutant(name, bugs, about, ((file, old, new),), layer)


@functools.cache
def _source(path: Path) -> str:
    return path.read_text()


@functools.cache
def _compiled(source: str, path: Path) -> dict[str, CodeType]:
    return dict(_functions(_compile(source, path)))


def _compile(source: str, path: Path) -> CodeType:
    code: CodeType = compile(source, str(path), "exec", dont_inherit=True)
    return code


def _module_of(file: str) -> str:
    dotted = file.removesuffix(".py").replace("/", ".")
    return dotted if file.startswith("tests/") else f"hstore.{dotted}"


def _functions(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    """Give (qualified name, code) of each function of a module or class; not those inside others."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and not constant.co_name.startswith("<"):
            name = prefix + constant.co_name
            if constant.co_flags & _IS_FUNCTION:
                yield name, constant
            else:
                yield from _functions(constant, f"{name}.")


def _is_same(code: CodeType, other: CodeType | None) -> bool:
    """Whether two codes do the same; where they stand does not matter."""
    if other is None or len(code.co_consts) != len(other.co_consts):
        return False
    if (code.co_code, code.co_names, code.co_varnames) != (
        other.co_code, other.co_names, other.co_varnames,
    ):  # fmt: skip
        return False
    return all(
        _is_same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else a == b
        for a, b in zip(code.co_consts, other.co_consts, strict=True)
    )


def _live(module: Any, name: str) -> FunctionType:
    found: Any = module
    *owners, last = name.split(".")
    for owner in owners:
        found = getattr(found, owner)
    found = vars(found)[last]
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, classmethod | staticmethod):
        found = found.__func__
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, FunctionType)
    return found
