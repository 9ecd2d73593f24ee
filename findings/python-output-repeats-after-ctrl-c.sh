#!/bin/sh
# A line that Python has printed is printed again, if Ctrl-C comes while the file below it returns.
#
# Software: CPython, io.BufferedWriter over a raw file that is a class of Python. Seen with 3.11, 3.12 and 3.13.
#
# A program has a raw file of its own below `sys.stdout`, so that it can say more of an error or count bytes:
# a subclass of `io.FileIO` whose `write` calls the original. The handler of a signal runs between two
# steps of such a method, and what it raises leaves it when the bytes are already out. The buffer above is
# told of no bytes, keeps all of them, and writes them again with the next flush. With `io.FileIO` itself
# no handler runs between the call of the kernel and the count, so the same program prints once.
# Seen: "one\none\ntwo\n" through the subclass; "one\ntwo\n" with the same lines in a subclass of the buffer.
# The cure: put what is one's own into a subclass of the buffer and leave the raw file alone.
set -eu
exec python3 - <<'EOF'
import io
import os
import platform
import signal
import sys


class Raw(io.FileIO):
    """What it writes is out when Ctrl-C comes."""

    is_first = True

    def write(self, data):
        count = super().write(data)
        if self.is_first:
            self.is_first = False
            signal.raise_signal(signal.SIGINT)
        return count


class Buffer(io.BufferedWriter):
    """The same, one layer above."""

    is_first = True

    def flush(self):
        super().flush()
        if self.is_first:
            self.is_first = False
            signal.raise_signal(signal.SIGINT)


def shown(buffer_on):
    reader, writer = os.pipe()
    text = io.TextIOWrapper(buffer_on(writer))
    try:
        print("one", file=text, flush=True)
    except KeyboardInterrupt:
        print("two", file=text, flush=True)
    text.close()
    with os.fdopen(reader) as pipe:
        return pipe.read()


signal.signal(signal.SIGINT, signal.default_int_handler)
raw = shown(lambda fd: io.BufferedWriter(Raw(fd, "w")))
buffer = shown(lambda fd: Buffer(io.FileIO(fd, "w")))
print(f"{platform.python_implementation()} {platform.python_version()}")
print(f"its own raw file: {raw!r}")
print(f"its own buffer:   {buffer!r}")
sys.exit(0 if (raw, buffer) == ("one\none\ntwo\n", "one\ntwo\n") else "this has changed")
EOF
