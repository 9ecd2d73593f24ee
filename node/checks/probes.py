"""The runs of checks: what the runner asks, and what answers it in a node.

The simulator and tests of the runner give probes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from ..model.checks import CheckDefinition
from .connections import Tls
from .probe_http import HttpProbe
from .probe_script import ScriptProbe
from .probe_tcp import TcpProbe
from .targets import Targets
from .verdict import Verdict

HTTP_TIMEOUT_S, SCRIPT_TIMEOUT_S = 10.0, 30.0
"""Where a definition has none; also TCP has the first."""


class Probes(Protocol):
    """Runs checks."""

    async def run(self, definition: CheckDefinition) -> Verdict:
        """Carry out one run of an http, tcp or script check.

        It never raises, and is over when the timeout of the check is (`timeout_s`), or some 2 s later
        where a process has to be waited for; a caller that has a longer deadline still gives up then.

        Cancellation: nothing of the run is left.
        """
        ...


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What the settings of a node say about checks.

    Attributes:
        scripts: Whether script checks run here (`checks.script`).
        deny: What no check may connect to (`checks.deny`).
        probes: What runs them; None: sockets and processes of this machine.
    """

    scripts: bool = False
    deny: tuple[IPv4Network | IPv6Network, ...] = ()
    probes: Probes | None = None


NO_CHECK_SETTINGS = CheckSettings()


def timeout_s(definition: CheckDefinition) -> float:
    """Return after how many seconds a run of a check has failed."""
    if definition.timeout_ns:
        return definition.timeout_ns / 1e9
    return SCRIPT_TIMEOUT_S if definition.kind == "script" else HTTP_TIMEOUT_S


class NodeProbes:
    """Runs checks as they are meant: over sockets, and as processes."""

    def __init__(self, settings: CheckSettings) -> None:
        targets, tls = Targets(settings.deny), Tls()
        self._http = HttpProbe(targets, tls)
        self._tcp = TcpProbe(targets, tls)
        self._script = ScriptProbe(is_allowed=settings.scripts)

    async def run(self, definition: CheckDefinition) -> Verdict:
        """As `Probes.run`."""
        if definition.kind == "http":
            return await self._http.run(definition, timeout_s(definition))
        if definition.kind == "tcp":
            return await self._tcp.run(definition, timeout_s(definition))
        if definition.kind == "script":
            return await self._script.run(definition, timeout_s(definition))
        return Verdict("critical", f"checks of kind {definition.kind!r} are not run")
