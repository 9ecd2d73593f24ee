"""Clients without tests of their own that would fit: each by a script of ours below `scripts/`.

Clients that are no libraries, and that no package index has, are stood in for by the requests that
their sources make.

A script is a program of its own, since several of these packages are called `consul`: it says one
JSON line a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .outcome import Outcome

_SCRIPTS = Path(__file__).parent / "scripts"
_RUN_S = 330.0


@dataclass(frozen=True, slots=True)
class Scripted:
    """A client and its script.

    Attributes:
        name, version: As the index has them.
        script: A file below `scripts/`.
        more: Other packages that it needs.
        has_package: Whether there is a package. Else the script makes the requests that the source of
            the client makes, in that version.
    """

    name: str
    version: str
    script: str
    more: tuple[str, ...] = ()
    has_package: bool = True

    def install(self) -> Path:
        """Return where the package is.

        Raises:
            Unavailable: It is not installed and cannot be.
        """
        if not self.has_package:
            return _SCRIPTS
        name = f"{self.name}-{self.version}"
        return cache.pip(name, f"{self.name}=={self.version}", *self.more)

    def run(self, address: str) -> Outcome:
        """Run the script against the node at `HOST:PORT`.

        Raises:
            Unavailable: It is not installed and cannot be.
        """
        return run([sys.executable, str(_SCRIPTS / self.script), address], self, self.install())


def run(command: list[str], client: Scripted, package: Path) -> Outcome:
    """Run a script that says one JSON line a test, to its end."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CONSUL_", "PATRONI_"))}
    env |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    outcome = Outcome(client.name, client.version)
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        _read((late.stdout or b"").decode(), outcome)
        outcome.add("the script ends", f"not within {_RUN_S:g} s")
        return outcome
    _read(done.stdout, outcome)
    if done.returncode:
        end = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        outcome.add("the script ends well", f"status {done.returncode}: {end[:300]}")
    return outcome


def _read(said: str, outcome: Outcome) -> None:
    for line in said.splitlines():
        if line.startswith("{"):
            test = json.loads(line)
            outcome.add(test["name"], test["fault"])


SCRIPTED = (
    Scripted("python-consul", "1.1.0", "by_python_consul.py"),
    Scripted("python-consul2", "0.1.5", "by_python_consul.py"),
    Scripted("consul-kv", "0.7.4", "by_consul_kv.py"),
    Scripted("consulate", "0.6.0", "by_consulate.py"),
    Scripted("patroni", "4.1.5", "by_patroni.py", ("psycopg[binary]",)),
    Scripted("go-api", "1.20", "by_go_api.py", has_package=False),
    Scripted("prometheus", "2.53", "by_prometheus.py", has_package=False),
    Scripted("traefik", "3.1", "by_traefik.py", has_package=False),
    Scripted("consul-template", "0.39", "by_consul_template.py", has_package=False),
)
