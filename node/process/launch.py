"""How the process of a node was started, and what it tells other processes of itself.

Owns the run record while the node runs, and the lines for the process that waits for the node's
start. Processes are started by the command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import structlog

from ..config.sources import VARIABLE_PREFIX
from ..discovery import run_record
from ..discovery.run_record import RunRecord

if TYPE_CHECKING:
    from ..config.settings import NodeSettings
    from ..node import Node

AGAIN = -1
"""In place of an exit status: the node has stopped, and its process shall begin it anew."""

_log = structlog.get_logger()


class LogStart(msgspec.Struct, frozen=True):
    """A log file, and how many bytes were in it before this run."""

    log_file: str
    bytes_before: int


class Waiting(msgspec.Struct, frozen=True):
    """A node does not serve yet, because it waits for something, for as long as it takes."""

    waits_because: str


class Launch(msgspec.Struct, frozen=True):
    """How this process was started.

    Attributes:
        arguments: Those of `hstore` that start it again, the command first.
        env: Its environment.
        log_file: Where its standard error goes, if that is the log of a node in the background.
        ready_pipe: Where another process waits for two lines of JSON: the log file with its size
            (`LogStart`), and, once the node serves, the run record. Closed after that. Between them
            there may be lines of a node that waits (`Waiting`).
        kept: Those of the arguments that belong to this process only, and stay with it.
    """

    arguments: tuple[str, ...]
    env: Mapping[str, str]
    log_file: str = ""
    ready_pipe: int | None = None
    kept: tuple[str, ...] = ()

    def tell_log(self) -> None:
        """Tell the waiting process where it can read why the node ended, should it end."""
        if self.log_file:
            self._tell(LogStart(self.log_file, os.stat(self.log_file).st_size))  # noqa: PTH116

    def tell_waiting(self, why: str) -> None:
        """Tell the waiting process that the node waits too, and why."""
        self._tell(Waiting(why))

    async def keep_record(self, node: Node, settings: NodeSettings) -> None:
        """Write the run record, and again whenever something in it has changed, until cancelled.

        A record that cannot be written is a warning, once.
        """
        last, is_warned, seen = None, False, -1
        while True:
            seen = await node.administration.wait_cluster_change(seen)
            record = self._record(node, settings)
            if record == last:
                continue
            try:
                run_record.write(record, self.env)
            except (OSError, ValueError) as error:  # ValueError: a path that is not UTF-8
                if not is_warned:
                    _log.warning("the record of this run cannot be written", why=str(error))
                is_warned = True
            if last is None:
                self._tell(record)
                if self.ready_pipe is not None:
                    os.close(self.ready_pipe)
            last = record

    def forget(self, settings: NodeSettings) -> None:
        """Remove the record of a node that is no member any more: it cannot be started again."""
        run_record.forget(self.env, settings.data_dir)

    def _record(self, node: Node, settings: NodeSettings) -> RunRecord:
        process = run_record.process_of(os.getpid())
        if process is None:
            process = run_record.Process(os.getpid(), 0, "")  # no /proc: never taken for running
        identity = node.replica.storage.identity
        member = node.replica.facts.members.get(identity.node_id)
        return RunRecord(
            process=process,
            name=node.process.name,
            node_id=f"{identity.node_id:016x}",
            cluster_id=identity.cluster_id,
            zone=node.process.zone,
            learner=member.learner if member else settings.learner,
            listen=str(settings.listen),
            address=settings.api_address,
            peer_address=settings.peer_address,
            dns_address=settings.dns_address,
            data_dir=str(settings.data_dir),
            arguments=self.arguments,
            variables={n: v for n, v in self.env.items() if n.startswith(VARIABLE_PREFIX)},
            directory=os.getcwd(),  # noqa: PTH109 - as text
            log_file=self.log_file,
        )

    def _tell(self, what: LogStart | Waiting | RunRecord) -> None:
        if self.ready_pipe is not None:
            with contextlib.suppress(OSError, ValueError):  # the process that waited is gone
                os.write(self.ready_pipe, msgspec.json.encode(what) + b"\n")
