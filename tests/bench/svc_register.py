"""Registrations of instances with a TTL check, beside etcd's users, who ask for a lease and put a key with it.

10,000 instances of 2,000 names, none of which is there before; each is one request. The connections go
to all three members of either system, as many to each, and what is registered is removed after each
run. The key of etcd has the bytes of the body that hstore is sent.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.system.cluster import eventually

from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, end, leash
from .rows import Row, Target, paired
from .sessions import ask_all, end_sessions
from .systems import Hstore, System, both, http
from .wrk import SCRIPT

INSTANCES = 10_000
NAMES = 2_000
CONNECTIONS = 63
TTL = "600s"
NAME = f"registration with a TTL check, {CONNECTIONS} connections over three members, {INSTANCES:,} instances"
PROCESSOR = f"{NAME}: processor time of the members for each"
ELECTIONS = "elections, registrations"

TARGETS = (
    Target(
        f"registrations with a TTL check, {CONNECTIONS} connections over three members",
        "etcd, lease and key: at least 4.0",
        (NAME,),
        least=4.0,
    ),
)

_SCRIPT = SCRIPT.with_name("register.lua")
_RUN_S_MAX = 120.0
_REMOVED_S_MAX = 60.0
_LEASE = "LEASE" + 20 * " "
"""In the request for a key: its lease is written over it, so that the length stays."""


def register(plan: Plan) -> Rows:
    """Registrations a second of three members together."""
    with both(plan.folder, plan.etcd) as systems:
        files = {system.name: write_requests(system, plan.folder) for system in systems}
        terms = [system.term() for system in systems]
        pairs: list[tuple[float, float]] = []
        times: list[tuple[float, float]] = []
        for number in range(plan.pairs + 1):
            runs = []
            for system in systems:
                runs.append(run(system, files[system.name]))
                remove_all(system)
            if number:
                pairs.append((runs[0][0], runs[1][0]))
                times.append((runs[0][1], runs[1][1]))
        later = [system.term() for system in systems]
        more = [float(b - a) for a, b in zip(terms, later, strict=True)]
        yield paired(NAME, "/s", pairs, void="an election" if any(more) else "")
        yield paired(PROCESSOR, "us", times)
        yield Row(ELECTIONS, "", (more[0],), (more[1],))


def run(system: System, files: Path) -> tuple[float, float]:
    """Register all; return how many a second, and the microseconds of processor time of each.

    Raises:
        Failed: One was refused, or it took too long.
    """
    addresses = system.addresses
    pids = [system.pid(address) for address in addresses]
    command = [
        *(
            "wrk",
            f"-t{len(addresses)}",
            f"-c{CONNECTIONS}",
            f"-d{_RUN_S_MAX:.0f}s",
            "--timeout",
            "9s",
        ),
        *("-s", str(_SCRIPT), f"http://{addresses[0]}", "--", system.name, str(files), *addresses),
    ]
    used = sum(map(cpu_seconds, pids))
    said = _said(command, len(addresses))
    used = sum(map(cpu_seconds, pids)) - used
    if len(said) < len(addresses):
        raise Failed(f"{system.name}: not all was registered within {_RUN_S_MAX:.0f} s")
    refused = sum(int(one[1]) for one in said)
    if refused:
        raise Failed(f"{system.name}: {refused:,} registrations were refused")
    count = sum(int(one[0]) for one in said)
    seconds = max(float(one[3]) for one in said) - min(float(one[2]) for one in said)
    return count / seconds, used / count * 1e6


def _said(command: list[str], threads: int) -> list[list[str]]:
    """Run wrk until all threads are done; return what they said."""
    said: list[list[str]] = []
    process = subprocess.Popen(
        [*leash(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            word, *figures = line.split() or [""]
            if word == "done":
                said.append(figures)
            if len(said) == threads:
                break
    finally:
        process.send_signal(signal.SIGINT)
        end(process)
        process.stdout.close()
    return said


# --- requests --------------------------------------------------------------------------------------


def bodies(member: int, members: int) -> Iterator[tuple[str, bytes]]:
    """Give ID and body of each instance that is registered with one of the members."""
    for number in range(member, INSTANCES, members):
        name = f"svc-{number % NAMES:06d}"
        body = {
            "ID": f"{name}/{number // NAMES}",
            "Name": name,
            "Address": f"10.1.{number % 251}.{number % 241}",
            "Port": 8000 + number // NAMES,
            "Tags": ["v1", "primary"],
            "Check": {"TTL": TTL, "Status": "passing"},
        }
        yield body["ID"], json.dumps(body).encode()  # type: ignore[misc]


def write_requests(system: System, folder: Path) -> Path:
    """Write all requests, a file for each member; return the beginning of the files' names."""
    files = folder / f"register-{system.name}"
    addresses = system.addresses
    for at, address in enumerate(addresses):
        requests = (
            _request(system, address, name, body) for name, body in bodies(at, len(addresses))
        )
        Path(f"{files}-{at}").write_bytes(b"".join(one + b"\0" for one in requests))
    return files


def _request(system: System, address: str, name: str, body: bytes) -> bytes:
    if isinstance(system, Hstore):
        return http("PUT", address, "/v1/agent/service/register", body)
    key, value = (base64.b64encode(one).decode() for one in (name.encode(), body))
    text = f'{{"key":"{key}","value":"{value}","lease":{_LEASE}}}'
    return http("POST", address, "/v3/kv/put", text.encode())


def remove_all(system: System) -> None:
    """Remove what is registered, and of etcd the leases and their keys."""
    if not isinstance(system, Hstore):
        end_sessions(system)
        return
    for address in system.addresses:
        # Of what was sent at the end of a run, some may still be under way.
        eventually(
            partial(_is_removed, address), f"no services are left at {address}", _REMOVED_S_MAX
        )


def _is_removed(address: str) -> bool:
    ids = list(_asked(address, "/v1/agent/services"))
    node = _asked(address, "/v1/agent/self")["Config"]["NodeName"] if ids else ""
    # The path of the catalog is content with what is gone already.
    found = [json.dumps({"Node": node, "ServiceID": one}).encode() for one in ids]
    requests = [http("PUT", address, "/v1/catalog/deregister", body) for body in found]
    trio.run(partial(ask_all, address, requests))
    return not ids


def _asked(address: str, path: str) -> Any:
    return json.loads(trio.run(partial(ask_all, address, [http("GET", address, path)]))[0])
