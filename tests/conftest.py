"""What every test may use.

Owns the rule for outside tools, the Hypothesis profiles and the options of the command line, and
nothing else: fixtures of one room belong into that room's own `conftest.py`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # has no types

# A machine may be set to keep no compiled code. Then each process of the tests would compile every
# module anew, which takes longer than what most of them do: 0.3 s for a node, 15 s for the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

_SYSTEM = "tests/system/"
_MACHINES = ("outages", "resolvers", "several_hosts", "three_machines")
"""System tests with network namespaces of their own: no port there is one of the others'."""
_BROWSER = "tests/web/test_dashboard"
"""A browser before real nodes: in the process of the system tests, whose ports its nodes would take."""
_OWN_CLUSTERS = (
    "background", "check_scripts", "default_ports", "demo", "descriptors", "dns_services",
    "finding", "full_disk", "guide", "log_lost", "outsiders", "overload", "partitions", "recover",
    "recovery", "snapshot", "stop", "story", "streams",
)  # fmt: skip
"""System tests that do without the `shared` cluster: half of the time of all."""
_MUTANTS = "tests/mutants/"
_ORDER = (_SYSTEM, "tests/sim/", "tests/test_tidy.py", "tests/node/cluster/")
"""What takes longest begins first; mutants, which share nothing, fill what is left at the end."""

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

    A file stays together, for what its tests share. Those with real processes wait more than they
    work, so they are three groups and not fifty files: more at once would be late for what they time.
    Each group has its own ports (`tests/system/place.py`). Mutants share nothing: as one file they
    would keep one process busy after all the others have ended.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_MUTANTS):
            return nodeid
        if nodeid.startswith(_BROWSER):
            return "own clusters"
        file = nodeid.partition("::")[0]
        if not file.startswith(_SYSTEM):
            return file
        name = file.removeprefix(f"{_SYSTEM}test_").removesuffix(".py")
        if name in _MACHINES:
            return "machines"
        return "own clusters" if name in _OWN_CLUSTERS else "shared cluster"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Have the files shared out."""
    return _OneProcessPerFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest when several processes share the tests out."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place_in_order(item.nodeid))


def _place_in_order(nodeid: str) -> int:
    if nodeid.startswith(_MUTANTS):
        return len(_ORDER) + 1
    return next((n for n, start in enumerate(_ORDER) if nodeid.startswith(start)), len(_ORDER))


def pytest_collection_finish() -> None:
    """Spare the collector of garbage what lasts: it looked through 11,000 tests again and again."""
    gc.collect()
    gc.freeze()


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
