"""What every test may use.

Owns the rule for outside tools, the Hypothesis profiles and the options of the command line, and
nothing else: fixtures of one room belong into that room's own `conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import settings

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Time is no claim of a property test, and a busy machine is no counterexample: no deadline.
settings.register_profile("default", deadline=None, print_blob=True)
# The same examples in each run, so that a red run says something about the change it came with.
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if IN_CI else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options stand here, because only this file is read before the command line is."""
    parser.addoption(
        "--scenarios",
        metavar="DIR",
        help="scenario files to replay, or folders interaction, quorum and confchange of them "
        "(default: ../shared/data)",
    )
    parser.addoption(
        "--mutant",
        metavar="NAME",
        help="put a mistake of the gallery (tests/mutants) in: which tests notice it?",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Put the mistake in before any test has looked at the code, and leave it to the end."""
    name = config.getoption("--mutant")
    if name:
        # Imported here: what it imports is what is tested.
        from tests.mutants.gallery import named  # noqa: PLC0415

        kept = contextlib.ExitStack()
        kept.enter_context(named(name).applied())
        config.add_cleanup(kept.close)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Share the tests out among several processes, when there are (`pytest -n`, as in `make test`).

    A file stays together, for what its tests share; so do all with real processes, for they take the
    same ports and wait more than they work. Those come first: the rest fills the other cores meanwhile.
    """
    if not hasattr(config, "workerinput"):
        return
    system = config.rootpath / "tests" / "system"
    for item in items:
        group = "system" if system in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: system not in item.path.parents)


def find_tool(name: str, *, in_ci: bool) -> str:
    """Find a program, or end the test: skipped at a user's, failed where all has to be there."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"needs the program `{name}`, which is not installed"
    if in_ci:
        pytest.fail(f"{reason}: add its package to `packages` in .ci/run", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Return a function that gives the path of a program, or skips; with CI=true it fails."""
    return lambda name: find_tool(name, in_ci=IN_CI)
