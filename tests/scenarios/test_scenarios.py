"""Every scenario file agrees with our core, but for what is waived."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import DEFAULT, find_files
from .replay import replay_file
from .waivers import WAIVERS, Waiver

OWN = sorted((Path(__file__).parent / "own").glob("*.txt"))


def check(path: Path) -> list[Waiver]:
    """Run a file; fail where it deviates, skip where it needs what we do not offer."""
    result = replay_file(path)
    lines = [f"{path.name}:{d.line}: {d.text}" for d in result.deviations]
    assert not lines, "\n".join(lines)
    if result.unsupported:
        pytest.skip(f"agrees as far as it can be run: {result.unsupported}")
    return result.waived


def test_a_file_agrees_with_our_core(scenario: Path, waived: set[Waiver]) -> None:
    # Before it can be skipped.
    waived.update(replay_file(scenario).waived)
    check(scenario)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_of_our_own_agrees_with_our_core(path: Path) -> None:
    check(path)


def test_the_table_is_what_the_published_files_need() -> None:
    files = find_files(DEFAULT)
    if not files:
        pytest.skip("the published files are not there: ../shared/data")

    assert sorted(row for path in files for row in replay_file(path).waived) == sorted(WAIVERS)
