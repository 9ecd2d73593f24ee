"""Words of TTL checks, beside keepalives of etcd's leases; and what one word costs the runner alone.

    .venv/bin/python -m tests.bench.svc_words      the runner alone: microseconds of one word

10,000 checks, each asked at the member that it was registered with, all of them passing before: so no
word changes anything. The connections go to all three members of either system, as many to each.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import trio

from hstore.node.model.checks import Word
from tests.node.checks.one_node import OWN, OneNode, running_checks, ttl

from . import wrk
from .plan import Plan, Rows
from .processes import Failed
from .rows import Row, Target, paired
from .sessions import ask_all, create_request
from .systems import Hstore, System, both, http
from .wrk import Load, Run

CONNECTIONS = 63
CHECKS = 10_000
_TTL_S = 600
NAME = "word of a TTL check (lease keepalive), 63 connections over three members"
ELECTIONS = "elections, words of TTL checks"

TARGETS = (
    Target(
        f"words of TTL checks, {CONNECTIONS} connections over three members",
        "etcd, lease keepalives: at least 3.5",
        (NAME,),
        least=3.5,
    ),
)


def words(plan: Plan) -> Rows:
    """Words a second of three members together."""
    with both(plan.folder, plan.etcd) as systems:
        lists = {system.name: _make(system, plan.folder) for system in systems}
        terms = [system.term() for system in systems]
        pairs: list[tuple[float, float]] = []
        void = ""
        for number in range(plan.pairs + 1):
            rates = []
            for system in systems:
                runs = _run(system, lists[system.name], plan.seconds)
                void = void or next((run.void for run in runs if run.void), "")
                rates.append(sum(run.per_second for run in runs))
            if number:
                pairs.append((rates[0], rates[1]))
        now = [system.term() for system in systems]
        more = [float(b - a) for a, b in zip(terms, now, strict=True)]
        yield paired(NAME, "/s", pairs, void=void or ("an election" if any(more) else ""))
        yield Row(ELECTIONS, "", (more[0],), (more[1],))


def _make(system: System, folder: Path) -> dict[str, str]:
    """Make checks that pass, or leases; return, by address, a file with those to ask there."""
    lists = {}
    for number, address in enumerate(system.addresses):
        names = [f"c{one}" for one in range(number, CHECKS, len(system.addresses))]
        if isinstance(system, Hstore):
            trio.run(partial(ask_all, address, [_register(address, name) for name in names]))
        else:
            requests = [create_request(system, address)] * len(names)
            answers = trio.run(partial(ask_all, address, requests))
            names = [json.loads(answer)["ID"] for answer in answers]
        path = folder / f"words-{system.name}-{number}.txt"
        path.write_text("".join(f"{name}\n" for name in names))
        lists[address] = str(path)
    return lists


def _register(address: str, name: str) -> bytes:
    body = {"Name": name, "TTL": f"{_TTL_S}s", "Status": "passing"}
    return http("PUT", address, "/v1/agent/check/register", json.dumps(body).encode())


def _run(system: System, lists: dict[str, str], seconds: float) -> list[Run]:
    """Send words to all members at the same time."""
    share = CONNECTIONS // len(lists)
    with ThreadPoolExecutor(len(lists)) as pool:
        running = [
            pool.submit(
                wrk.run,
                address,
                system.name,
                Load("pass", names={system.name: path}),
                share,
                seconds,
            )
            for address, path in lists.items()
        ]
        return [one.result() for one in running]


# --- the runner alone ---------------------------------------------------------------------------


async def _alone(words_said: int) -> None:
    node = OneNode()
    for number in range(CHECKS):
        node.register(f"c{number}", ttl(_TTL_S), status="passing")
    async with running_checks(node):
        word, names = node.runner.word, [f"c{number}" for number in range(CHECKS)]
        begun = time.perf_counter()
        for number in range(words_said):
            if word(OWN, names[number % CHECKS], "passing", "") is not Word.TAKEN:
                raise Failed("a word was not taken")
        each = (time.perf_counter() - begun) / words_said
        if node.proposals:
            raise Failed("a word that changed nothing was proposed")
    print(f"a word costs the runner {each * 1e6:.2f} us")


if __name__ == "__main__":
    trio.run(_alone, 500_000)
    sys.exit(0)
