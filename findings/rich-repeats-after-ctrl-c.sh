#!/bin/sh
# rich prints a line again with the next one if Ctrl-C came while it was flushed.
#
# Software: rich 15.0.0.
#
# A shell or a live view prints, is interrupted, catches `KeyboardInterrupt` and prints its next line. The
# console empties its buffer only after `flush` of the file has returned. Where the exception of a signal
# leaves `flush`, the text is out and still in the buffer, so the next `print` shows it once more. `print`
# of Python, on the same file, does not.
# Seen: rich shows "one" twice, Python shows it once.
# The cure: a console of its own for what goes on after an interrupt.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet rich==15.0.0
"$dir/venv/bin/python" - <<'EOF'
import io
import signal
import sys
from importlib.metadata import version

from rich.console import Console


class Interrupted(io.StringIO):
    """A file whose first flush has done its work when Ctrl-C comes."""

    is_first = True

    def flush(self):
        super().flush()
        if self.is_first:
            self.is_first = False
            signal.raise_signal(signal.SIGINT)


def shown(show_on):
    file = Interrupted()
    show = show_on(file)
    try:
        show("one")
    except KeyboardInterrupt:
        show("two")
    return file.getvalue()


signal.signal(signal.SIGINT, signal.default_int_handler)
by_rich = shown(lambda file: Console(file=file).print)
by_python = shown(lambda file: lambda text: print(text, file=file, flush=True))
print(f"rich {version('rich')}: {by_rich!r}")
print(f"print of Python:  {by_python!r}")
is_so = by_rich == "one\none\ntwo\n" and by_python == "one\ntwo\n"
sys.exit(0 if is_so else "this has changed")
EOF
