"""What an install of hstore is: its metadata, its one import name, and what a wheel carries.

A layout can work in a checkout and break in an install; these tests look at the installed package
and at a wheel built from a copy of the sources.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.wheels import allowed_pythons

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("node", "dns", "cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert importlib.metadata.version("hstore") == PROJECT["project"]["version"]


def test_the_changelog_knows_the_version() -> None:
    assert PROJECT["project"]["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_every_python_that_may_install_it_is_a_classifier_and_is_tried_by_make() -> None:
    prefix = "Programming Language :: Python :: "
    said = [c.removeprefix(prefix) for c in PROJECT["project"]["classifiers"] if prefix in c]
    makefile = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^PYTHONS := .*", makefile, re.MULTILINE)
    tried = re.findall(r"python(3\.\d+)", line)
    makes = re.search(r"\((3, \d+)\) <= sys.version_info < \((3, \d+)\)", makefile)

    assert makes is not None
    first, end = (bound.replace(", ", ".") for bound in makes.groups())
    assert PROJECT["project"]["requires-python"] == f">={first},<{end}"
    assert said == ["3", *allowed_pythons()]
    assert tried == allowed_pythons()[::-1]


def test_every_command_can_be_loaded() -> None:
    installed = importlib.metadata.distribution("hstore")
    commands = installed.entry_points.select(group="console_scripts")

    assert {command.name for command in commands} == set(PROJECT["project"]["scripts"])
    assert all(callable(command.load()) for command in commands)


def test_hstore_is_a_namespace_so_that_others_may_add_to_it() -> None:
    hstore = importlib.import_module("hstore")

    assert getattr(hstore, "__file__", None) is None


@pytest.mark.parametrize("name", ROOMS)
def test_the_rooms_take_no_top_level_import_name(name: str) -> None:
    """`dns` belongs to dnspython; a package of that name here would hide or overwrite it."""
    spec = importlib.util.find_spec(name)
    found = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]

    assert not any(Path(place).is_relative_to(ROOT / name) for place in found if place)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Give the names of the files in a wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, copy], check=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_a_wheel_carries_every_module_and_each_room_says_it_is_typed(wheel: set[str]) -> None:
    sources = {
        f"hstore/{path.relative_to(ROOT)}" for room in ROOMS for path in (ROOT / room).rglob("*.py")
    }

    assert sources - wheel == set()
    assert {f"hstore/{room}/py.typed" for room in ROOMS} - wheel == set()


def test_a_wheel_carries_every_file_of_the_dashboard(wheel: set[str]) -> None:
    files = {p for p in (ROOT / "node/web").rglob("*") if p.is_file() and p.suffix != ".pyc"}

    assert {f"hstore/{path.relative_to(ROOT)}" for path in files} - wheel <= {
        "hstore/node/web/DESIGN.md"
    }


def test_a_wheel_writes_nothing_outside_its_own_folders(wheel: set[str]) -> None:
    version = PROJECT["project"]["version"]

    assert {name.split("/")[0] for name in wheel} == {"hstore", f"hstore-{version}.dist-info"}
    assert "hstore/__init__.py" not in wheel


def test_a_wheel_carries_the_licence(wheel: set[str]) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel)
