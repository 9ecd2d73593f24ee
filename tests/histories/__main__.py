"""`python -m tests.histories FOLDER`: one line a file, its name and `linearizable` or not.

The status is 0 when every file was judged, 2 when one could not be read, else 1 when one was too
hard to decide; what is the matter goes to standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .checker import MOST_STEPS, Verdict
from .files import histories_in, judge
from .pairing import FormatError


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("folder", type=Path, help="judge the files in it")
    parser.add_argument("--steps", type=int, default=MOST_STEPS, help="for one object, at most")
    parser.add_argument("--verbose", action="store_true", help="say how, and why not")
    arguments = parser.parse_args()
    try:
        paths = histories_in(arguments.folder)
    except FormatError as error:
        sys.stderr.write(f"{arguments.folder}: {error}\n")
        return 2
    status = 0
    for path in paths:
        begun = time.monotonic()
        try:
            result = judge(path, arguments.steps)
        except FormatError as error:
            sys.stderr.write(f"{path}: {error}\n")
            status = 2
            continue
        sys.stdout.write(f"{path.name} {result.verdict.value}\n")
        sys.stdout.flush()
        if arguments.verbose:
            sys.stderr.write(f"{path.name}: {time.monotonic() - begun:.3f} s, {result}\n")
        if result.verdict is Verdict.UNDECIDED:
            sys.stderr.write(
                f"{path}: undecided after {arguments.steps} steps; --steps takes more\n"
            )
            status = status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
