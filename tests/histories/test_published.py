"""Histories that others recorded and judged: our verdict on each is theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .checker import Verdict
from .files import histories_in, judge

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = _ROOT.parent / "shared" / "data" / "histories"

_LINEARIZABLE_LOGS = {5, 7, 25, 31, 45, 49, 51, 53, 67, 75, 87, 101}
"""By the number in the name; the maps say it in their names."""


def expected(name: str) -> Verdict:
    number = re.fullmatch(r"etcd_(\d+)\.log", name)
    is_fine = int(number[1]) in _LINEARIZABLE_LOGS if number else name.endswith("-ok.txt")
    return Verdict.LINEARIZABLE if is_fine else Verdict.NOT_LINEARIZABLE


@pytest.fixture
def published() -> Path:
    if not _FOLDER.is_dir():
        pytest.skip("the published histories are not there: ../shared/data/histories")
    return _FOLDER


def test_every_published_history_gets_the_verdict_that_was_published(published: Path) -> None:
    paths = histories_in(published)
    verdicts = {path.name: judge(path).verdict for path in paths}

    assert len(verdicts) >= 54
    assert verdicts == {path.name: expected(path.name) for path in paths}


def test_the_command_prints_one_line_a_file_by_name(published: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.histories", str(published)],
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )

    names = sorted(path.name for path in published.iterdir())
    assert done.stdout.splitlines() == [f"{name} {expected(name).value}" for name in names]
    assert done.stderr == ""
