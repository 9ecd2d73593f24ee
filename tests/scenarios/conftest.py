"""Finds the scenario files of `--scenarios DIR`, and tells at the end what was waived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .waivers import Waiver

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data"
FOLDERS = ("interaction", "quorum", "confchange")

WAIVED: pytest.StashKey[set[Waiver]] = pytest.StashKey()


def find_files(folder: Path) -> list[Path]:
    """Return the files in a folder, and in those of its folders that have a known name."""
    found = [folder, *(folder / name for name in FOLDERS)]
    return sorted(path for place in found for path in place.glob("*.txt"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("scenarios")
    folder = Path(given) if given else DEFAULT
    files = find_files(folder)
    if given and not files:
        raise pytest.UsageError(f"--scenarios {given}: no scenario files are there")
    cases: list[Any] = [pytest.param(p, id=str(p.relative_to(folder))) for p in files]
    if not cases:
        reason = "the published files are not there: ../shared/data"
        cases = [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    metafunc.parametrize("scenario", cases)


@pytest.fixture
def waived(pytestconfig: pytest.Config) -> set[Waiver]:
    """What the files of this run have waived so far."""
    return pytestconfig.stash.setdefault(WAIVED, set())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    waived: set[Waiver] = terminalreporter.config.stash.setdefault(WAIVED, set())
    rows = sorted(waived)
    if rows:
        terminalreporter.section(f"{len(rows)} facts of scenario files waived")
        for row in rows:
            terminalreporter.write_line(f"{row.file}:{row.line}: {row.reason}")
