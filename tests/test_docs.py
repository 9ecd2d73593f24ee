"""What the documents name has to exist, and what exists has to be named where the tour promises it.

Reads text and source, and runs nothing. That a sentence is true no test can say; that the function
it speaks of was renamed, these can.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from hstore.cli.main import cli
from hstore.node.api import routes

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("node", "dns", "cli")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

# Called by clients through `hstore join`, not by users.
ROUTES_OF_OUR_OWN = {("POST", "/v1/cluster/join")}


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def section(text: str, title: str) -> str:
    """Give what stands under `## title`."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def code_in(text: str) -> list[str]:
    """Give the lines of fenced blocks, and every piece of inline code."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    return [line for block in fenced for line in block.splitlines()] + inline


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Give the names a module defines: functions, classes, constants, and `Class.attribute`."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + node.name)
            elif isinstance(node, ast.ClassDef):
                names.add(prefix + node.name)
                collect(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                targets = [*node.targets, *(e for t in node.targets for e in elements(t))]
                names.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    collect(ast.parse((ROOT / path).read_text()).body, "")
    return frozenset(names)


def elements(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple) else []


# --- ARCHITECTURE.md --------------------------------------------------------------------------


def test_every_name_that_the_architecture_gives_with_a_file_is_in_that_file() -> None:
    given = re.findall(r"`([\w/]+\.py):([\w.]+)`", text_of("ARCHITECTURE.md"))
    wrong = [
        f"{file}:{name}"
        for file, name in given
        if not (ROOT / file).is_file() or name not in names_in(Path(file))
    ]

    assert len(given) > 40
    assert wrong == []


def test_every_dotted_name_in_the_architecture_is_a_method_or_a_function_of_ours() -> None:
    """`Core.step_all` is a method of a class, `replication.propose` a function of a module."""
    known = {name for path in modules() for name in names_in(path) if "." in name}
    known |= {f"{path.stem}.{name}" for path in modules() for name in names_in(path)}
    pieces = re.findall(r"`([A-Za-z]\w*\.\w+)`", text_of("ARCHITECTURE.md"))
    others = re.compile(r"^(hstore|trio)\.|\.(py|md|toml|json|new)$")
    ours = {name for name in pieces if not others.search(name)}

    assert len(ours) > 40
    assert ours - known == set()


def test_every_rule_of_the_driver_has_a_row() -> None:
    rules = section(text_of("ARCHITECTURE.md"), "The rules of the driver")

    assert re.findall(r"^\| (D\d+) \|", rules, re.MULTILINE) == [
        f"D{number}" for number in range(1, 21)
    ]


# --- README.md --------------------------------------------------------------------------------


def test_readme_names_only_commands_that_hstore_has_and_all_of_them() -> None:
    named = {
        name
        for line in code_in(text_of("README.md"))
        for name in re.findall(r"(?:^|[\s$])hstore ([a-z]+)", line)
    }

    assert named == set(cli.commands)


def test_readme_lists_the_routes_that_are_served() -> None:
    listed = {
        (method, path)
        for row in section(text_of("README.md"), "HTTP API").splitlines()
        if row.startswith("| `")
        for method, path in re.findall(r"`([A-Z]+) (/[^`?]*)`", row.split(" | ")[0])
    }
    served = {
        (method.decode(), route.path.decode() + "<key>" * route.has_key)
        for route in routes.RECORDS
        for method in route.methods
    }

    assert listed == {(m, p) for m, p in served if m != "HEAD"} - ROUTES_OF_OUR_OWN


# --- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_and_make_target_that_a_document_names_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    pieces = code_in(text_of(name)) + re.findall(r"\]\(([^)#:]+)\)", text_of(name))
    paths = {
        path
        for piece in pieces
        for path in re.findall(r"^(?:(?:node|dns|cli|tests|configs)/|[A-Z]+\.md)[\w./-]*", piece)
    }
    made = {t for piece in pieces for t in re.findall(r"^make ([a-z]+)", piece)}

    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert made - targets == set()


@pytest.mark.parametrize("package", sorted({path.parent for path in modules()}), ids=str)
def test_a_package_docstring_maps_the_files_beside_it(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    named = set(re.findall(r"\b(\w+\.py)\b", docstring))

    assert named == {path.name for path in modules() if path.parent == package} - {"__init__.py"}
