"""hstore beside etcd and others, measured on this machine in turns.

    make bench                      all of it, in about an hour and a quarter; writes tests/bench/results.md
    make bench QUICK=1              about ten minutes, without the rows of 1,000,000 keys
    make bench ONLY=put,dns         some sections, printed only
    make bench ONLY=abuse ARGS="--other DIR"   this checkout and another under attack
    make bench ARGS="--dir /data"   any options, of those below

Exit status: 0 all rows count, 1 a row is void, 2 something is missing here.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from . import (
    abuse,
    blocking,
    dashboard,
    floor,
    loads,
    machine,
    names,
    outage,
    report,
    resolvers,
    services,
    sessions,
    store,
    systems,
    watch_load,
)
from .plan import Plan, Rows, Section, guarded, quick
from .rows import Row, line

SECTIONS: dict[str, Section] = {
    "put": loads.put,
    "get": loads.get,
    "mixed": loads.mixed,
    "values": loads.values,
    "recurse": loads.recurse,
    "watches": watch_load.watches,
    "blocking": blocking.blocking,
    "txn": sessions.txn,
    "sessions": sessions.sessions,
    "services": services.services,
    "outages": outage.outages,
    "dns": names.dns,
    "resolvers": resolvers.resolvers,
    "store": store.store,
    "floor": floor.floor,
    "abuse": abuse.abuse,
    "dashboard": dashboard.dashboard,
}

NEWER = ("put", "get")
"""Sections that are measured a second time, beside the newer etcd."""

NEWER_ONLY = ("blocking", "txn", "sessions", "services")
"""Sections that are measured beside the newer one alone."""

TOOLS = {
    "resolvers": (),
    "abuse": abuse.TOOLS,
    "blocking": (),
    "dashboard": (),
    "txn": ("wrk",),
    "sessions": ("wrk",),
    "services": ("wrk", "dnsperf", "dnsmasq", *machine.SERVICE_PACKAGES),
}
"""What these sections need, where that is not everything. Resolvers that are not installed are left out."""


def _needed(only: Sequence[str]) -> list[str]:
    """Return the programs that the chosen sections need; none chosen: all of them are."""
    needed = {tool for one in only or SECTIONS for tool in TOOLS.get(one, tuple(machine.PACKAGES))}
    return sorted(needed)


def main() -> int:
    """Measure what the command line asks for; return the exit status."""
    options = _options()
    wrong = machine.missing_tools(_needed(options.only)) or machine.unfit_folder(options.dir)
    if wrong:
        print(wrong, file=sys.stderr)
        return 2
    _raise_file_limit()
    # So that an end from outside runs what ends the clusters, as Ctrl-C does; which whoever starts
    # this in the background may have had ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hstore-bench-", dir=options.dir) as name:
        folder = Path(name)
        plan = quick(folder) if options.quick else Plan(folder)
        plan = dataclasses.replace(plan, other=options.other)
        facts = machine.facts(folder)
        print("\n".join(f"{what}: {fact}" for what, fact in facts.items()), flush=True)
        begun = time.monotonic()
        try:
            rows = [row for section in options.only for row in _run(section, plan)]
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    facts["took"] = f"{(time.monotonic() - begun) / 60:.0f} min"
    text = report.document(plan, facts, _command(), rows)
    print("\n" + text)
    if options.out is not None:
        options.out.write_text(text)
        print(f"written to {options.out}")
    return 1 if any(row.void for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument(
        "--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}"
    )
    parser.add_argument(
        "--dir", type=Path, default=machine.default_folder(), help="where the data goes"
    )
    parser.add_argument(
        "--out", type=Path, help="where the results go; a whole run writes results.md by itself"
    )
    parser.add_argument(
        "--other", type=Path, help="another checkout with a .venv, for abuse: both are attacked"
    )
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    is_whole = not options.quick and options.only == list(SECTIONS)
    if options.out is None and is_whole:
        options.out = report.RESULTS
    return options


def _command() -> str:
    return " ".join([".venv/bin/python -m tests.bench", *sys.argv[1:]])


def _run(name: str, plan: Plan) -> list[Row]:
    """Run one section, beside each etcd that it is for; a failure in it ends no other section."""
    print(f"\n{name}", flush=True)
    begun = time.monotonic()
    rows: list[Row] = []
    sections = []
    if name not in NEWER_ONLY:
        sections.append(guarded(name, SECTIONS[name](plan)))
    if name in (*NEWER, *NEWER_ONLY):
        sections.append(guarded(name, _beside_newer(name, plan)))
    for section in sections:
        with closing(section) as given:
            for row in given:
                rows.append(row)
                print(line(row), flush=True)
    print(f"  ({time.monotonic() - begun:.0f} s)", flush=True)
    return rows


def _beside_newer(name: str, plan: Plan) -> Rows:
    """Run a section beside the newer etcd, which is installed first when it is not there."""
    plan = dataclasses.replace(plan, etcd=systems.newer_etcd())
    with closing(SECTIONS[name](plan)) as given:
        for row in given:
            ours, theirs = row.labels
            peer = f"etcd {systems.NEWER_ETCD}" if theirs == "etcd" else theirs
            yield dataclasses.replace(row, labels=(ours, peer))


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise SystemExit(main())
