"""What every test may use.

Owns the rule for outside tools, the Hypothesis profiles and the options of the command line, and
nothing else: fixtures of one room belong into that room's own `conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # has no types

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

_SYSTEM = "tests/system/"
_MACHINES = ("outages", "resolvers", "several_hosts", "three_machines")
"""System tests with network namespaces of their own: no port there is one of the others'."""
_BROWSER = "tests/web/test_dashboard"
"""A browser before real nodes: in the process of the system tests, whose ports its nodes would take."""
_MUTANTS = "tests/mutants/"

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


class _OneProcessPerFile(LoadScopeScheduling):  # type: ignore[misc]  # its base is Any
    """Shares the tests out among several processes (`pytest -n`, as in `make test`).

    A file stays together, for what its tests share; and so do all with real processes, for they take
    the same ports, and wait more than they work: those with machines of their own apart from those
    without. Mutants share nothing: as one file they would keep
    one process busy for two minutes after all the others have ended.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_MUTANTS):
            return nodeid
        if nodeid.startswith(tuple(f"{_SYSTEM}test_{name}.py" for name in _MACHINES)):
            return "machines"
        return _SYSTEM if nodeid.startswith((_SYSTEM, _BROWSER)) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Have the files shared out."""
    return _OneProcessPerFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with real processes when there are several of ours: the rest fills the other cores."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(_SYSTEM))


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
