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
from .verdict import Progress, Verdict


class Probes(Protocol):
    """Runs checks."""

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """Carry out one run of an http, tcp or script check. It has no deadline: its caller has.

        Args:
            definition: What to do.
            progress: Where the probe leaves how far it has come, for when it is cancelled.

        It raises nothing.

        Cancellation: nothing of the run is left. It may last 2 s until a process is gone.
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


class NodeProbes:
    """Runs checks as they are meant: over sockets, and as processes."""

    def __init__(self, settings: CheckSettings) -> None:
        targets, tls = Targets(settings.deny), Tls()
        self._http = HttpProbe(targets, tls)
        self._tcp = TcpProbe(targets, tls)
        self._script = ScriptProbe(is_allowed=settings.scripts)

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """As `Probes.run`."""
        if definition.kind == "http":
            return await self._http.run(definition, progress)
        if definition.kind == "tcp":
            return await self._tcp.run(definition, progress)
        if definition.kind == "script":
            return await self._script.run(definition, progress)
        return Verdict("critical", f"checks of kind {definition.kind!r} are not run")
