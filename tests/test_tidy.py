"""The house rules that no other tool checks: sizes, imports of the core, what lies in the root.

Reads the files and runs none of them, so it says the same whether or not the code works. The
rules are explained in CONTRIBUTING.md; a limit that is in the way is a reason to split, and only
after that a reason to change the limit here.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("node", "dns", "cli")

ROOT_ENTRIES = {
    *ROOMS, "tests", "configs", "docs", "findings", "pyproject.toml",
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile",
    ".git", ".gitignore", ".ci",
}  # fmt: skip

MODULE_LINES = 500
TEST_MODULE_LINES = 800
FUNCTION_LINES = 60

# What a deterministic core can be made of. All else is I/O, a clock, or somebody else's business.
CORE_MAY_IMPORT = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "functools", "heapq",
    "itertools", "msgspec", "random", "typing",
}  # fmt: skip
# The module is allowed for this one name: a generator that is handed in, with its own seed.
CORE_MAY_IMPORT_FROM_RANDOM = {"Random"}

type_of_function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def ignored_patterns() -> tuple[str, ...]:
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return tuple(line.rstrip("/") for line in lines if line and not line.startswith("#"))


def is_ignored(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in ignored_patterns())


def project_files(folder: Path = ROOT) -> Iterator[Path]:
    """Give each file that belongs to the project, whether or not git is there to ask."""
    for path in sorted(folder.iterdir()):
        if is_ignored(path.name) or path.name == ".git":
            continue
        if path.is_dir():
            yield from project_files(path)
        else:
            yield path


def modules(*folders: str) -> list[Path]:
    return [p for f in folders for p in project_files(ROOT / f) if p.suffix == ".py"]


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def at(path: Path, node: ast.stmt | ast.expr | None = None) -> str:
    where = str(path.relative_to(ROOT))
    return where if node is None else f"{where}:{node.lineno}"


def length_without_docstring(function: type_of_function) -> int:
    first = function.body[0]
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def imports_of(path: Path) -> Iterator[tuple[ast.Import | ast.ImportFrom, str, str | None]]:
    """Give (statement, module, name or None) of each absolute import, wherever it stands."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield from ((node, node.module, alias.name) for alias in node.names)


# --- sizes ------------------------------------------------------------------------------------


def test_no_module_is_longer_than_its_ceiling() -> None:
    too_long = {
        at(path): lines
        for folder in (*ROOMS, "tests")
        for path in modules(folder)
        if (lines := path.read_text().count("\n"))
        > (TEST_MODULE_LINES if folder == "tests" else MODULE_LINES)
    }

    assert too_long == {}


def test_no_function_is_longer_than_its_ceiling() -> None:
    too_long = {
        f"{at(path, node)} {node.name}": lines
        for path in modules(*ROOMS, "tests")
        for node in ast.walk(parse(path))
        if isinstance(node, type_of_function)
        if (lines := length_without_docstring(node)) > FUNCTION_LINES
    }

    assert too_long == {}


# --- what stands in a module ------------------------------------------------------------------


def test_every_module_begins_with_a_docstring() -> None:
    without = [at(path) for path in modules(*ROOMS) if not ast.get_docstring(parse(path))]

    assert without == []


def test_no_module_asserts() -> None:
    """Python leaves them out with -O. A broken invariant of a node is a CoreBug."""
    asserts = [
        at(path, node)
        for path in modules(*ROOMS)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Assert)
    ]

    assert asserts == []


def test_every_module_postpones_its_annotations() -> None:
    def has_future(path: Path) -> bool:
        return any(module == "__future__" for _, module, _ in imports_of(path))

    def is_only_a_docstring(path: Path) -> bool:
        return len(parse(path).body) == 1

    without = [
        at(path)
        for path in modules(*ROOMS, "tests")
        if not has_future(path) and not is_only_a_docstring(path)
    ]

    assert without == []


def test_node_and_dns_print_nothing() -> None:
    prints = [
        at(path, node)
        for path in modules("node", "dns")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert prints == []


def test_every_event_of_the_log_has_a_constant_name() -> None:
    """What differs between two lines of one kind stands in fields: so one kind can be looked for."""
    computed = [at(path, call) for path, call in log_calls() if not is_text(call.args[0])]

    # The kinds of alarms, and those of `LINES`: closed lists, which a test compares with the page.
    assert {one.partition(":")[0] for one in computed} == {
        "node/cluster/alarms.py", "node/cluster/timeline.py",
    }  # fmt: skip
    assert len(computed) == 2


def log_calls() -> Iterator[tuple[Path, ast.Call]]:
    """Give each call that writes a line of the log."""
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for path in modules(*ROOMS):
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Call):  # getattr(_log, level)(...)
                if any(name_of(one) in {"_log", "log"} for one in called.args):
                    yield path, node
            elif isinstance(called, ast.Attribute) and called.attr in levels:
                yield from [(path, node)] * (name_of(called.value) in {"_log", "log"})


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_nothing_is_marked_as_unfinished() -> None:
    # Put together here, so that this file does not find itself.
    marks = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")

    assert lines_that_match(marks, project_files()) == []


def test_no_text_names_a_folder_of_somebodys_machine() -> None:
    # A made-up "/home/ada" in a test is nobody's; the home of whoever runs this one is somebody's.
    own = "|".join(re.escape(str(path)) for path in (ROOT, Path.home()) if path != Path("/"))
    home = re.compile(rf"(?<![\w.:/*-])(?:/root|/work|{own})/\w")
    # The one folder beside the checkout that may be named is the optional test data.
    beside = re.compile(r"\.\./shared/(?!data\b)")

    assert lines_that_match(home, project_files()) == []
    assert lines_that_match(beside, project_files()) == []


def lines_that_match(pattern: re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    return [
        f"{at(path)}:{number}: {line.strip()}"
        for path in paths
        if path.suffix != ".png"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


# --- imports ----------------------------------------------------------------------------------


def test_no_module_imports_asyncio_or_pickle() -> None:
    # ruff bans them too (TID251), but there one comment on the line is enough to be let through.
    banned = {"asyncio", "pickle"}
    found = [
        at(path, node)
        for path in modules(*ROOMS, "tests")
        for node, module, _ in imports_of(path)
        if module.split(".")[0] in banned
    ]

    assert found == []


def test_a_room_imports_its_own_modules_relatively() -> None:
    # Other rooms by their full name, and never by the folder's: that works in the checkout only.
    # A file that is also run as a script is let through: relative imports cannot work there.
    wrong = [
        f"{at(path, node)}: {module}"
        for room in ROOMS
        for path in modules(room)
        if at(path) != "cli/mgmt.py"
        for node, module, _ in imports_of(path)
        if module.split(".")[0] in ROOMS or f"{module}.".startswith(f"hstore.{room}.")
    ]

    assert wrong == []


def test_the_core_imports_only_what_cannot_surprise_it() -> None:
    surprising = [
        f"{at(path, node)}: {module}"
        for path in modules("node/raft")
        for node, module, _ in imports_of(path)
        if module.split(".")[0] not in CORE_MAY_IMPORT
    ]

    assert surprising == []


def test_the_core_imports_nothing_from_the_rooms_around_it() -> None:
    outside = [
        at(path, node)
        for path in modules("node/raft")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom)
        if node.level > len(path.relative_to(ROOT / "node" / "raft").parts)
    ]

    assert outside == []


def test_the_core_draws_no_chance_of_its_own() -> None:
    """`random.random()` and its like share one hidden generator: no run could be repeated."""
    by_name = [
        at(path, node)
        for path in modules("node/raft")
        for node, module, name in imports_of(path)
        if module == "random" and name is not None and name not in CORE_MAY_IMPORT_FROM_RANDOM
    ]
    by_attribute = [
        at(path, node)
        for path in modules("node/raft")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id == "random"
        if node.attr not in CORE_MAY_IMPORT_FROM_RANDOM and imports_module(path, "random")
    ]

    assert by_name + by_attribute == []


def imports_module(path: Path, wanted: str) -> bool:
    return any(module == wanted and name is None for _, module, name in imports_of(path))


def test_the_rooms_above_the_driver_do_not_reach_behind_a_replica() -> None:
    """They ask `Replica.facts`; what core and state are made of can change without them."""
    above = [p for p in modules("node") if p.parent.name not in {"driver", "raft", "state"}]
    reached = [
        at(path, node)
        for path in above
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute)
        if node.attr == "core" or (node.attr == "state" and name_of(node.value).endswith("replica"))
    ]

    assert above
    assert reached == []


def name_of(node: ast.expr) -> str:
    """Return `c` of `a.b.c` and of `c`; of anything else, nothing."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


# --- the house --------------------------------------------------------------------------------


def test_packages_in_pyproject_are_the_folders_that_are_packages() -> None:
    """A package that is missing there works in a checkout and is missing in an install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(ROOT) for path in modules(*ROOMS)}
    with_init = {
        path.parent.relative_to(ROOT) for path in modules(*ROOMS) if path.stem == "__init__"
    }

    assert folders == with_init
    assert project["tool"]["setuptools"]["packages"] == sorted(
        ".".join(("hstore", *folder.parts)) for folder in with_init
    )


def test_the_root_holds_only_what_a_person_expects_there() -> None:
    entries = {path.name for path in ROOT.iterdir() if not is_ignored(path.name)}

    assert entries - ROOT_ENTRIES == set()


def test_every_dependency_is_declared_and_every_declared_one_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in project["dependencies"]}
    imported = {
        module.split(".")[0]
        for path in modules(*ROOMS)
        for _, module, _ in imports_of(path)
    }  # fmt: skip

    distributions = {"prometheus_client": "prometheus-client", "re2": "google-re2"}
    imported = {distributions.get(name, name) for name in imported}

    assert imported - sys.stdlib_module_names - {"hstore"} == declared


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]

    assert [line for line in lines if ">=" not in line] == []


# --- these rules themselves -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    return 1\n", 2),
        ('def f():\n    """Said.\n\n    More.\n    """\n    return 1\n', 2),
        ("@wraps\n@twice\ndef f(\n    a,\n):\n    return a\n", 4),
    ],
    ids=["plain", "docstring", "decorators"],
)
def test_length_counts_neither_docstring_nor_decorators(source: str, lines: int) -> None:
    function = ast.parse(source).body[0]
    assert isinstance(function, type_of_function)

    assert length_without_docstring(function) == lines


def test_the_hour_of_full_load_may_take_its_hour() -> None:
    """`make soak` ended each test after half of that."""
    found = re.search(r"faulthandler_timeout=(\d+) tests/soak", (ROOT / "Makefile").read_text())
    assert found is not None
    assert int(found[1]) >= 1.25 * 3600
