"""TCP checks: whether something takes a connection, and where it is asked for, TLS on it."""

from __future__ import annotations

from ..model.checks import CheckDefinition
from .connections import Tls, close_socket, connect, reason_of
from .output import shortened
from .targets import BadTarget, Targets
from .verdict import Progress, Verdict


class TcpProbe:
    """Runs TCP checks."""

    def __init__(self, targets: Targets, tls: Tls) -> None:
        self._targets = targets
        self._tls = tls

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """Carry out one check, as `Probes.run` says. Cancellation: the connection is closed."""
        start = f"TCP connect {shortened(definition.tcp)}"
        progress.so_far = lambda: Verdict("critical", f"{start}: no answer in time")
        try:
            await self._connect(definition)
        except (BadTarget, OSError) as error:
            return Verdict("critical", f"{start}: {reason_of(error)}")
        return Verdict("passing", f"{start}: Success")

    async def _connect(self, definition: CheckDefinition) -> None:
        host, port = _host_port(definition.tcp)
        sock = await connect(await self._targets.find(host, port))
        if definition.tcp_tls:
            name = definition.tls_server_name or host
            is_verified = not definition.tls_skip_verify
            connection = await self._tls.start(sock, name, is_verified=is_verified)
            connection.close()
        close_socket(sock)


def _host_port(text: str) -> tuple[str, int]:
    """Take `HOST:PORT` or `[IPv6]:PORT` apart.

    Raises:
        BadTarget: It is not that.
    """
    host, separator, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535
    if not host or not separator or not is_port:
        raise BadTarget("not HOST:PORT")
    return host, int(port)
