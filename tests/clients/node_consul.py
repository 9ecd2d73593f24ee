"""The npm package `consul`: by a script of ours, and by the tests in its own repository.

The package on the index has no tests in it. They need Consul's default ports and a node that is called
`node1`, so they run in a network namespace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from . import cache, place, scripted
from .outcome import Outcome, Unavailable

VERSION = "2.0.1"
NAME = "npm-consul"
SUITE = "node-consul"

_REPOSITORY = "https://github.com/silas/node-consul.git"
_HELPER = Path(__file__).parent / "files" / "node_consul_helper.js"
_SCRIPT = Path(__file__).parent / "scripts" / "by_node_consul.js"
RACES = frozenset(("Watch: work", "Watch: exponential retry"))
"""Tests that measure time: they write three values in a row and want to see each with reads that wait for
1 ms, and a wait of 200 ms to last for no more than 220. A busy machine loses; they may try again."""

_TRIES = 3
_NODE = "node1"
_PARTS = (
    "kv",
    "session",
    "transaction",
    "status",
    "event",
    "watch",
    "agent",
    "catalog",
    "health",
)

OUT = {
    "Agent join should make node2 join cluster": "`agent/join` is to come",
    "Agent forceLeave should remove node2 from the cluster": "`agent/force-leave` is to come",
}
"""What is not run, and why not."""

_PATIENCE_MS = 10_000
_RUN_S = 180.0


def install() -> Path:
    """Return a folder whose `node_modules` has the package.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    return cache.npm(f"consul-{VERSION}", f"consul@{VERSION}")


def run(address: str) -> Outcome:
    """Run our script against the node at `HOST:PORT`.

    Raises:
        Unavailable: It is not installed and cannot be.
    """
    modules = install() / "node_modules"
    client = scripted.Scripted(NAME, VERSION, _SCRIPT.name)
    command = ["env", f"NODE_PATH={modules}", "node", str(_SCRIPT), address]
    return scripted.run(command, client, modules)


def install_suite() -> tuple[Path, Path]:
    """Return a folder with `node_modules` for its tests, and one with the tests.

    Raises:
        Unavailable: One of them cannot be had.
    """
    if shutil.which("node") is None:
        raise Unavailable("node is not installed")
    tests = cache.repository(SUITE, _REPOSITORY, VERSION)
    beside = ("mocha@10.8.2", "should@13.2.3", "async@3.2.6", "uuid@10.0.0")
    return cache.npm(f"{SUITE}-{VERSION}", f"consul@{VERSION}", *beside), tests


def run_suite() -> Outcome:
    """Run its own tests against nodes on Consul's ports: each file wants a new one.

    Raises:
        Unavailable: Something of it cannot be had here.
    """
    packages, source = install_suite()
    outcome = Outcome(SUITE, VERSION, left_out=dict(OUT))
    with tempfile.TemporaryDirectory(prefix="hstore-clients-") as name:
        folder = Path(name)
        tests = folder / "test" / "acceptance"
        shutil.copytree(source / "test" / "acceptance", tests)
        shutil.copytree(source / "lib", folder / "lib")
        shutil.copy(_HELPER, tests / "helper.js")
        (folder / "node_modules").symlink_to(packages / "node_modules")
        mocha = ["node", str(packages / "node_modules/mocha/bin/mocha.js"), "--exit"]
        mocha += ["--reporter", "json", "--timeout", str(_PATIENCE_MS)]
        mocha += ["--invert", "--grep", "|".join(f"^{test}$" for test in OUT)]
        for part in _PARTS:
            found = _run_part(part, mocha, folder)
            tries = 1
            while found.failed and RACES.issuperset(found.failed) and tries < _TRIES:
                found = _run_part(part, mocha, folder)
                tries += 1
            outcome.passed += found.passed
            outcome.failed |= found.failed
            if tries > 1:
                outcome.note = f"{tries} tries at {part}, whose tests measure time"
    return outcome


def _run_part(part: str, mocha: list[str], folder: Path) -> Outcome:
    """Run one file of its tests against a node of its own."""
    outcome = Outcome(SUITE, VERSION)
    report = folder / f"{part}.json"
    report.unlink(missing_ok=True)
    file = folder / "test" / "acceptance" / f"{part}.js"
    # Its own helper switches scripts on, too.
    with place.alone_on_default_ports(_NODE, "env", "HSTORE_CHECKS_SCRIPT=true") as enter:
        said = _run([*mocha, "--reporter-option", f"output={report}", str(file)], enter, folder)
    if report.exists():
        _read(json.loads(report.read_text()), outcome)
    else:
        outcome.add(f"the tests of {part} begin", said[-500:] or "nothing was said")
    return outcome


def _run(command: list[str], enter: list[str], folder: Path) -> str:
    """Run a command in the network of the node; return what it said."""
    done = subprocess.run(
        [*enter, *command],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONSUL_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    return done.stdout + done.stderr


def _read(report: dict[str, Any], outcome: Outcome) -> None:
    for one in report["passes"]:
        outcome.add(_name(one))
    for one in report["failures"]:
        said = str(one["err"].get("message", "no reason given")).replace("\n", " ")
        outcome.add(_name(one), said[:300])
    if not report["failures"] and not report["passes"]:
        outcome.add("its tests run", "there were none")


def _name(test: dict[str, Any]) -> str:
    return str(test["fullTitle"]).replace(" should ", ": ", 1)
