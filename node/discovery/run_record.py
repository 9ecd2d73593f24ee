"""The record of what runs on this machine: one small file for each node, kept after its end.

    $XDG_STATE_HOME/hstore/nodes/<digest of the data directory>.json     mode 0600

Owns the files, and the proof that a process is the one that was recorded. A process id is given
again to others, so it counts together with the start time of the process and the boot of the
machine: all three are the same for one process only, and stay the same when it executes another
program. Where the system does not tell them (no /proc), no recorded node counts as running.

Nothing secret is in a record. A directory that cannot be used costs the record, never the node, and so
does one that other users may write; a record of another user is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..config import own_files

KEPT_MAX = 64
"""Records of nodes that have ended; the oldest go first. A machine has a handful of nodes, but
experiments and tests in temporary directories come and go."""

_BYTES_MAX = 1 << 20
"""A record takes a few KiB; what is longer is none."""

_PROC = Path("/proc")
_ENDED_STATES = frozenset("ZXx")  # proc(5): a zombie still has its id, and runs no more


class Process(msgspec.Struct, frozen=True):
    """One process, for as long as the machine is not booted again.

    Attributes:
        pid: Its id.
        started: When it started, in clock ticks since the boot (proc(5), field 22 of `stat`).
        boot: The id of the boot.
    """

    pid: int
    started: int
    boot: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node that runs on this machine, or ran.

    Attributes:
        process: The process that runs it, or ran it last.
        name: Its name; empty while the cluster has not given it one.
        node_id, cluster_id: 16 hex digits each.
        zone: The DNS domain of its cluster.
        learner: Whether it is not to vote.
        listen: `HOST:PORT` where its API listens, which may be a wildcard.
        address, peer_address, dns_address: `HOST:PORT`, as others reach it.
        data_dir: Its directory, absolute.
        arguments: Those of `hstore` that start it again, the command first.
        variables: The `HSTORE_*` of its environment.
        directory: Its working directory.
        log_file: Where it logs, absolute; empty: to its standard error.
    """

    process: Process
    name: str
    node_id: str
    cluster_id: str
    zone: str
    learner: bool
    listen: str
    address: str
    peer_address: str
    dns_address: str
    data_dir: str
    arguments: tuple[str, ...]
    variables: dict[str, str]
    directory: str
    log_file: str = ""


def folder(env: Mapping[str, str]) -> Path | None:
    """Return where the records of a user are; None where there can be none (no home directory)."""
    state = Path(env.get("XDG_STATE_HOME") or "")
    if not state.is_absolute():
        # The base directory specification: a relative path in the variable is to be ignored.
        if not env.get("HOME"):
            return None
        state = Path(env["HOME"]) / ".local" / "state"
    return state / "hstore" / "nodes"


def records(env: Mapping[str, str]) -> list[RunRecord]:
    """Return what is recorded for this user, the last written first.

    A file that cannot be read, or is of another version, is left out.
    """
    return [record for _, record in _files(env)]


def record_of(env: Mapping[str, str], data_dir: Path) -> RunRecord | None:
    """Return the record of the node of a data directory, if there is one."""
    where = folder(env)
    return _read(where / _file_name(str(data_dir))) if where else None


def running(env: Mapping[str, str]) -> list[RunRecord]:
    """Return the records of the nodes that run now, the last written first."""
    return [record for record in records(env) if is_running(record)]


def running_here(env: Mapping[str, str]) -> list[RunRecord]:
    """Return the records of running nodes whose addresses are those of this network."""
    return [record for record in running(env) if shares_network(record)]


def is_running(record: RunRecord) -> bool:
    """Tell whether the recorded process still runs; another one with its id does not count.

    A process that is stopped (SIGSTOP) or hangs is running.
    """
    return process_of(record.process.pid) == record.process


def process_of(pid: int) -> Process | None:
    """Return a process that runs; None where there is none, or it cannot be told."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    # The second field is the program's name in parentheses, in which anything may stand.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in _ENDED_STATES:
        return None
    return Process(pid, int(fields[19]), boot)


def shares_network(record: RunRecord) -> bool:
    """Tell whether the recorded process sees the network that this one sees.

    In another network namespace its addresses belong to other nodes, or to none.
    """
    try:
        theirs = (_PROC / str(record.process.pid) / "ns/net").readlink()
        return theirs == (_PROC / "self/ns/net").readlink()
    except OSError:
        return True


def kill(record: RunRecord, wait_s: float) -> bool:
    """End the recorded process by SIGKILL, and wait for that; return whether it is gone.

    Args:
        record: Of a node of this machine. Where it does not run, nothing is done.
        wait_s: In seconds. The kernel may take its time, such as for a disk that hangs.

    Raises:
        PermissionError: It belongs to another user.
    """
    try:
        handle = os.pidfd_open(record.process.pid)
    except ProcessLookupError:
        return True
    try:
        # Through the handle: between the look and the signal the id cannot become another's.
        if is_running(record):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], wait_s)
        return not is_running(record)
    finally:
        os.close(handle)


def write(record: RunRecord, env: Mapping[str, str]) -> None:
    """Write a record in place of the last one of its directory; a reader sees one or the other.

    Raises:
        OSError: There is no place for it.
    """
    where = folder(env)
    if where is None:
        raise FileNotFoundError("HOME is not set")
    own_files.make_directory(where)
    # One process at a time has the data directory, so no other writes this file.
    content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    own_files.replace(where / _file_name(record.data_dir), content)
    _forget_oldest(env)


def forget(env: Mapping[str, str], data_dir: Path) -> None:
    """Remove the record of a node that is none any more. That there is none is no error."""
    where = folder(env)
    if where is not None:
        with contextlib.suppress(OSError):
            (where / _file_name(str(data_dir))).unlink()


def _forget_oldest(env: Mapping[str, str]) -> None:
    ended = [(file, record) for file, record in _files(env) if not is_running(record)]
    for file, _ in ended[KEPT_MAX:]:
        with contextlib.suppress(OSError):
            file.unlink()


def _files(env: Mapping[str, str]) -> list[tuple[Path, RunRecord]]:
    where = folder(env)
    found = []
    with contextlib.suppress(OSError):
        for file in where.glob("*.json") if where else ():
            record = _read(file)
            if record is not None:
                found.append((file.stat().st_mtime_ns, file, record))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [(file, record) for _, file, record in found]


def _read(file: Path) -> RunRecord | None:
    try:
        # A node is started again with the arguments in it: another user must not have written them.
        return msgspec.json.decode(own_files.read_own(file, _BYTES_MAX), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return None


def _file_name(data_dir: str) -> str:
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16] + ".json"
