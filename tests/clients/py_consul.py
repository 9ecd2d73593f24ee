"""py-consul's own tests, from its source on the index, with a node of ours in place of Consul."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from . import cache, place
from .outcome import Outcome

NAME, VERSION = "py-consul", "1.8.0"

PARTS = (
    "test_kv.py",
    "test_session.py",
    "test_txn.py",
    "test_status.py",
    "test_event.py",
    "test_coordinates.py",
)
"""What needs no service."""

PARTS_ALONE = ("test_operator.py::TestOperator::test_operator",)
"""What wants one node whose cluster never changed. The rest of `operator` is not built."""

FAST = PARTS[:3]
"""Those that every test run has."""

_CONFTEST = Path(__file__).parent / "files" / "py_consul_conftest.py"
_RUN_S = 120.0


def install() -> tuple[Path, Path]:
    """Return where the package is, and where its source."""
    return cache.pip(f"{NAME}-{VERSION}", f"{NAME}=={VERSION}"), cache.sdist(NAME, VERSION)


def run_all(address: str) -> Outcome:
    """Run all parts, against the node at `HOST:PORT` and one of its own.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    outcome = run(address)
    with place.one() as node:
        alone = run(node.address, PARTS_ALONE)
    outcome.passed += alone.passed
    outcome.failed |= alone.failed
    return outcome


def run(address: str, parts: Sequence[str] = PARTS) -> Outcome:
    """Run these parts against the node at `HOST:PORT`.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    package, source = install()
    outcome = Outcome(NAME, VERSION)
    with tempfile.TemporaryDirectory(prefix="hstore-clients-") as name:
        folder = Path(name)
        shutil.copytree(source / "tests", folder / "tests")
        shutil.copy(_CONFTEST, folder / "conftest.py")
        (folder / "pytest.ini").write_text("[pytest]\n")
        report = folder / "report.xml"
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--rootdir", name]
        command += [
            "-c",
            str(folder / "pytest.ini"),
            f"--junitxml={report}",
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(
            [*command, *(f"tests/api/{part}" for part in parts)],
            cwd=folder,
            env=_environment(address, package, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        if not report.exists():
            outcome.add("its tests begin", (done.stdout + done.stderr)[-500:] or "nothing was said")
            return outcome
        _read(report, outcome)
    return outcome


def _environment(address: str, package: Path, folder: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CONSUL_", "PYTEST_"))}
    paths = {"PYTHONPATH": f"{package}:{folder}", "HSTORE_API": address}
    return env | paths | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _read(report: Path, outcome: Outcome) -> None:
    for case in ElementTree.parse(report).iter("testcase"):
        part = case.get("classname", "").split(".")[-2].removeprefix("test_")
        name = f"{part}.{case.get('name', '').removeprefix('test_')}"
        wrong = case.find("failure")
        if wrong is None:
            wrong = case.find("error")
        said = "" if wrong is None else (wrong.get("message") or "no reason given")
        outcome.add(name, said.splitlines()[0][:300] if said else "")
