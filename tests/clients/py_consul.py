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
    "api/test_kv.py",
    "api/test_session.py",
    "api/test_txn.py",
    "api/test_status.py",
    "api/test_event.py",
    "api/test_coordinates.py",
    "test_aio.py",
)
"""What any node can be asked."""

LEAVE = "api/test_agent.py::TestAgent::test_agent_leave"
"""Ends its node."""

PARTS_ALONE = (
    "api/test_agent.py",
    "api/test_catalog.py",
    "api/test_health.py",
    "api/test_operator.py",
)
"""What wants one node on Consul's ports, whose cluster has no other and never changed.

Its checks ask that node whether it is there.
"""

UNASKED = ("test_base.py", "test_callback.py", "test_std.py", "test_utils.py")
"""Tests of the client alone: they ask no node."""

_ACL = "tokens are not built"
_MESH = "the service mesh is not built"
_LATER = "is to come"

OUT = {
    "api/test_acl.py": _ACL,
    "api/test_acl_templated_policy.py": _ACL,
    "api/test_agent.py::TestAgent::test_agent_token_set": _ACL,
    "api/test_connect.py": _MESH,
    "api/test_config.py": f"configuration entries: {_MESH}",
    "api/test_discovery_chain.py": f"discovery chains: {_MESH}",
    "api/test_agent.py::TestAgent::test_agent_service_connect": _MESH,
    "api/test_agent.py::TestAgent::test_agent_service_register_kind_proxy_locality": _MESH,
    "api/test_catalog.py::TestCatalog::test_catalog_gateway_services": f"gateways: {_MESH}",
    "api/test_operator.py::TestOperator::test_keyring_without_encryption_errors": (
        "a keyring: there is no gossip, and so no key of it"
    ),
    "api/test_health.py::TestHealth::test_health_ingress": f"gateways: {_MESH}",
    "api/test_agent.py::TestAgent::test_agent_force_leave_prune": f"`agent/force-leave`: {_LATER}",
    "api/test_query.py": f"prepared queries: {_LATER}",
    "api/test_snapshot.py": f"`/v1/snapshot`: {_LATER}",
    "api/test_operator.py::TestOperator::test_autopilot_configuration": f"autopilot: {_LATER}",
    "api/test_operator.py::TestOperator::test_autopilot_health": f"autopilot: {_LATER}",
    "api/test_operator.py::TestOperator::test_usage": f"`operator/usage`: {_LATER}",
    "test_aio.py::TestAsyncioConsul::test_agent_services": (
        "it wants no `TaggedAddresses` of a service that has none; here they are `{}`"
    ),
}
"""What is not run, file or test, and why not."""

FAST = PARTS[:3]
"""Those that every test run has."""

_CONFTEST = Path(__file__).parent / "files" / "py_consul_conftest.py"
_RUN_S = 120.0
_SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""


def install() -> tuple[Path, Path]:
    """Return where the package is, and where its source."""
    package = cache.pip(
        f"{NAME}-{VERSION}-asyncio", f"{NAME}[asyncio]=={VERSION}", "pytest-asyncio==1.3.0"
    )
    return package, cache.sdist(NAME, VERSION)


def run_all(address: str) -> Outcome:
    """Run all parts, against the node at `HOST:PORT` and two of their own.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    outcome = run(address)
    for parts in (PARTS_ALONE, (LEAVE,)):
        # Its own fixture switches scripts on, too.
        with place.alone_on_default_ports(
            place.NAMES[0], "env", "HSTORE_CHECKS_SCRIPT=true"
        ) as enter:
            alone = run(f"127.0.0.1:{place.API_PORT}", parts, enter)
        outcome.passed += alone.passed
        outcome.failed |= alone.failed
    outcome.left_out |= OUT
    unknown = unknown_tests(install()[1] / "tests")
    if unknown:
        outcome.add("all its tests are known", f"run or left out: {', '.join(unknown)}")
    return outcome


def unknown_tests(tests: Path) -> list[str]:
    """Return the files of its tests that are neither run nor left out, and what is left out in vain."""
    files = {str(path.relative_to(tests)) for path in tests.rglob("test_*.py")}
    named = {*PARTS, *PARTS_ALONE, *UNASKED, *(test for test in OUT if "::" not in test)}
    texts = {name: (tests / name).read_text() for name in files & named}
    gone = (
        test
        for test in (*OUT, LEAVE)
        if "::" in test and f"def {test.split('::')[2]}(" not in texts.get(test.split("::")[0], "")
    )
    return sorted([*(files ^ named), *gone])


def run(address: str, parts: Sequence[str] = PARTS, enter: Sequence[str] = ()) -> Outcome:
    """Run these parts against the node at `HOST:PORT`.

    `enter`: the words that put a command into the node's network.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    package, source = install()
    outcome = Outcome(NAME, VERSION)
    with tempfile.TemporaryDirectory(prefix="hstore-clients-") as name:
        folder = Path(name)
        shutil.copytree(source / "tests", folder / "tests")
        shutil.copy(_CONFTEST, folder / "conftest.py")
        (folder / "pytest.ini").write_text(_SETTINGS)
        report = folder / "report.xml"
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--rootdir", name]
        command += ["-c", str(folder / "pytest.ini"), f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"]
        out = {*OUT, LEAVE} - {*parts}
        command += [f"--deselect=tests/{test}" for test in sorted(out)]
        done = subprocess.run(
            [*enter, *command, *(f"tests/{part}" for part in parts)],
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
