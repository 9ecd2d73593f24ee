"""Real clients of Consul against hstore, one line each.

    make clients                        all of them
    make clients ARGS="--only patroni"  one, or several: --only py-consul,consulate
    make clients ARGS=--long            Patroni looks on for ten minutes in place of one
    make clients ARGS=--install         only install and fetch what they need

Exit status: 0 all that ran is good, 1 something failed.
"""

from __future__ import annotations

import argparse
import sys

from . import families
from .outcome import Unavailable


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ",".join(families.NAMES)
    parser.add_argument("--only", default=names, help=f"clients, of {names}")
    parser.add_argument(
        "--long", action="store_true", help="ten minutes of Patroni in place of one"
    )
    parser.add_argument("--install", action="store_true", help="install, and run nothing")
    options = parser.parse_args()
    chosen = tuple(name for name in options.only.split(",") if name)
    unknown = [name for name in chosen if name not in families.NAMES]
    if unknown:
        parser.error(f"no client {', '.join(unknown)}: there are {names}")
    if options.install:
        return _install(chosen)
    is_good = True
    passed = total = 0
    for outcome in families.outcomes(chosen, is_long=options.long):
        print(outcome.line(), flush=True)
        passed += len(outcome.passed)
        total += len(outcome.passed) + len(outcome.failed)
        if outcome.failed:
            is_good = False
            print(outcome.faults(), flush=True)
        if outcome.left_out:
            print(outcome.table(), flush=True)
    print(f"all clients: {passed} of {total}", flush=True)
    return 0 if is_good else 1


def _install(chosen: tuple[str, ...]) -> int:
    """Install what the clients need; what cannot be had is said, and is no failure of this command."""
    for name in chosen:
        try:
            families.INSTALLS[name]()
        except Unavailable as lacking:
            print(f"{name}: {lacking}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
