"""The entry points: `hstore`, `hstore-server`, `hstore-cli`, and `python -m hstore.cli`.

Loading the commands takes a tenth of a second. Until they are loaded, Ctrl-C ends the process
without a message: a traceback of an interrupted import helps nobody.
"""

from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module

from . import streams

_GC_YOUNG = 20_000
"""New objects from one look for cycles to the next. Python's 700 make the start of a node a tenth longer:
its modules are 57,000 objects, and all of them stay."""


def hstore() -> None:
    """Run `hstore COMMAND` and exit with its status."""
    _start(".main", "run")


def server() -> None:
    """Run `hstore-server COMMAND` and exit with its status."""
    _start(".spellings", "run_server")


def shell() -> None:
    """Run `hstore-cli` and exit with its status."""
    _start(".spellings", "run_shell")


def _start(module: str, function: str) -> None:
    gc.set_threshold(_GC_YOUNG)
    streams.secure()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else SIGINT is ignored, and stays so
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    run = getattr(import_module(module, __package__), function)
    signal.signal(signal.SIGINT, handler)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    hstore()
