"""What the documents name has to exist, and what exists has to be named where the tour promises it.

Reads text and source, and runs nothing. That a sentence is true no test can say; that the function
it speaks of was renamed, these can.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from hstore.cli.main import cli
from hstore.node.api import routes
from hstore.node.cluster import alarms, timeline
from tests.test_tidy import log_calls

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("node", "dns", "cli")

DESIGN_PAGES = tuple(
    str(path.relative_to(ROOT))
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("DESIGN.md"))
)
# Pages that speak of the code: what they name in it has to exist.
TOUR = ("ARCHITECTURE.md", *DESIGN_PAGES, "tests/TESTING.md", "tests/bench/EXPERIMENTS.md")
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *TOUR,
    *(
        str(path.relative_to(ROOT))
        for folder in ("docs", "findings")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
)

ARCHITECTURE_BYTES_MAX = 20_000
"""What can be read at one sitting; what is longer belongs on the page of a room."""

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


DOTTED = re.compile(r"`([A-Za-z]\w*\.\w+)`")


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


# --- the tour ---------------------------------------------------------------------------------


def test_every_name_that_a_page_gives_with_a_file_is_in_that_file() -> None:
    given = {
        (page, file, name)
        for page in DOCUMENTS
        for file, name in re.findall(r"`([\w/]+\.py):([\w.]+)`", text_of(page))
    }
    wrong = [
        f"{page}: {file}:{name}"
        for page, file, name in sorted(given)
        if not (ROOT / file).is_file() or name not in names_in(Path(file))
    ]

    assert len(given) > 40
    assert wrong == []


def test_every_dotted_name_in_the_tour_is_a_method_or_a_function_of_ours() -> None:
    """`Core.step_all` is a method of a class, `replication.propose` a function of a module."""
    known = {name for path in modules() for name in names_in(path) if "." in name}
    known |= {f"{path.stem}.{name}" for path in modules() for name in names_in(path)}
    pieces = {name for page in TOUR for name in re.findall(DOTTED, text_of(page))}
    others = re.compile(r"^(hstore|trio|gc)\.|\.(py|md|toml|json|new|js|css|html)$")
    ours = {name for name in pieces if not others.search(name)}

    assert len(ours) > 40
    assert ours - known == set()


def test_every_rule_of_the_driver_has_a_row() -> None:
    rules = section(text_of("node/driver/DESIGN.md"), "The rules of the driver")

    assert re.findall(r"^\| (D\d+) \|", rules, re.MULTILINE) == [
        f"D{number}" for number in range(1, 21)
    ]


def test_the_architecture_can_be_read_at_one_sitting() -> None:
    assert len(text_of("ARCHITECTURE.md").encode()) < ARCHITECTURE_BYTES_MAX


def test_every_room_has_a_row_in_the_architecture() -> None:
    rows = re.findall(
        r"^\| `([\w/]+)/` \|", section(text_of("ARCHITECTURE.md"), "The rooms"), re.MULTILINE
    )

    assert sorted(rows) == sorted({str(path.parent) for path in modules()})


@pytest.mark.parametrize("page", [*DESIGN_PAGES, "tests/TESTING.md", "tests/bench/EXPERIMENTS.md"])
def test_the_architecture_links_every_page_of_the_tour(page: str) -> None:
    assert f"]({page})" in text_of("ARCHITECTURE.md")


def test_the_index_of_the_documents_links_each_of_them() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert {page for page in pages if f"]({page})" not in text_of("docs/README.md")} == set()


# --- what users read --------------------------------------------------------------------------


def commands_named_in(page: str) -> set[str]:
    return {
        name
        for line in code_in(text_of(page))
        for name in re.findall(r"(?:^|[\s$])hstore ([a-z]+)", line)
    }


def test_the_page_of_the_command_line_names_all_commands() -> None:
    assert commands_named_in("docs/command-line.md") == set(cli.commands)


@pytest.mark.parametrize("page", DOCUMENTS)
def test_a_document_names_only_commands_that_hstore_has(page: str) -> None:
    assert commands_named_in(page) - set(cli.commands) == set()


def test_the_page_of_the_api_lists_the_routes_that_are_served() -> None:
    # A page may call the last part of a path what it is: `<id>`, `<node>`.
    listed = {
        (method, re.sub("<[a-z]+>", "<key>", path))
        for row in text_of("docs/http.md").splitlines()
        if row.startswith("| `")
        for method, path in re.findall(r"`([A-Z]+) (/[^`?]*)`", row.split(" | ")[0])
    }
    served = {
        (method.decode(), route.path.decode() + "<key>" * route.has_key)
        for route in routes.RECORDS
        for method in route.methods
    }

    assert listed == {(m, p) for m, p in served if m != "HEAD"} - ROUTES_OF_OUR_OWN


def test_the_page_of_the_log_has_each_event_with_its_level() -> None:
    listed = re.findall(
        r"^\| `([^`]+)` \| (\w+) \| ", section(text_of("docs/logs.md"), "Events"), re.MULTILINE
    )
    levels = {"exception": "error"}
    logged = {
        (call.args[0].value, levels.get(call.func.attr, call.func.attr))
        for _, call in log_calls()
        if isinstance(call.func, ast.Attribute) and isinstance(call.args[0], ast.Constant)
    }
    logged |= {(event, level) for level, event in timeline.LINES.values()}
    logged |= {(kind, "error") for kind in get_args(alarms.Kind)}
    logged |= {("log lines dropped", "warning"), ("the process ends", "error")}  # `logs.line`

    assert sorted(listed) == sorted(logged)
    kinds = re.search(r"The kinds are (.*?)\.", text_of("docs/logs.md"))
    assert kinds is not None
    assert set(re.findall("`(.*?)`", kinds[1])) == set(get_args(timeline.Kind))


# --- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_and_make_target_that_a_document_names_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    pieces = code_in(text_of(name))
    paths = {
        path
        for piece in pieces
        for path in re.findall(
            r"^(?:(?:node|dns|cli|tests|configs|docs|findings)/|[A-Z]+\.md)[\w./-]*", piece
        )
    }
    made = {t for piece in pieces for t in re.findall(r"^make ([a-z]+)", piece)}

    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert made - targets == set()


def own_address() -> str:
    """Give the address of the sources that the package's metadata name."""
    address: str = tomllib.loads(text_of("pyproject.toml"))["project"]["urls"]["Source"]
    return address


def links_in(name: str) -> list[str]:
    """Give a document's links to files of ours; those by our own address as if they were relative."""
    path = own_address().removeprefix("https://github.com/")
    own = rf"https://(?:github\.com/{path}/blob/main|raw\.githubusercontent\.com/{path}/main)/"
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    return [re.sub(own, "", link) for link in links if ":" not in link or re.match(own, link)]


def test_the_package_index_can_follow_every_link_of_the_readme() -> None:
    """It shows README.md at its own address, where a relative link leads nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", text_of("README.md"))

    assert len(links_in("README.md")) == len(links) > 8
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file_and_to_a_heading_in_it(name: str) -> None:
    wrong = []
    for link in links_in(name):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors_in(target)):
            wrong.append(link)

    assert wrong == []


def anchors_in(page: Path) -> set[str]:
    """Give the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("package", sorted({path.parent for path in modules()}), ids=str)
def test_a_package_docstring_gives_its_words_and_what_never_belongs_into_it(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""

    assert re.search(r"^Words\. ", docstring, re.MULTILINE)
    assert re.search(r"^Never here: ", docstring, re.MULTILINE)


@pytest.mark.parametrize("package", sorted({path.parent for path in modules()}), ids=str)
def test_a_package_docstring_maps_the_files_beside_it(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    named = set(re.findall(r"\b(\w+\.py)\b", docstring))

    assert named == {path.name for path in modules() if path.parent == package} - {"__init__.py"}


@pytest.mark.parametrize("path", sorted(modules()), ids=str)
def test_a_module_that_a_text_in_the_code_names_is_there(path: Path) -> None:
    """Also where its path begins below `node/`, as the rooms of a node name each other."""
    named = re.findall(r"`(?!httpx/)((?:\w+/)+\w+\.py)`", (ROOT / path).read_text())
    bases = (ROOT, ROOT / "node", ROOT / path.parent, ROOT / path.parts[0])

    assert [one for one in named if not any((base / one).exists() for base in bases)] == []
