#!/bin/sh
# Ctrl-D typed ahead of a prompt that reads in raw mode arrives there as NUL.
#
# Software: the terminal line discipline of Linux (N_TTY). Seen with 6.18.
#
# A shell or a database client runs a command with the terminal in canonical mode, and then prompts
# in raw mode. What was typed meanwhile is handed over letter by letter, as everybody expects. But a
# Ctrl-D among it was kept as a mark, whose place in the buffer holds a zero byte: when ICANON is
# switched off, the reader gets NUL, the byte of Ctrl-Space. So the prompt sees no end of input, and
# the user's "leave" is lost. Seen: typed "ab", Ctrl-D, Ctrl-D; read b'ab\x00\x00'.
# The cure: switch canonical mode off (and leave ISIG on) for as long as the program runs.
set -eu
uname -sr
exec python3 - <<'EOF'
import os
import pty
import select
import sys
import termios


def read_in_raw_mode(canonical_while_typing):
    keyboard, terminal = pty.openpty()
    canonical = termios.tcgetattr(terminal)
    raw = termios.tcgetattr(terminal)
    raw[3] &= ~termios.ICANON
    mode = canonical if canonical_while_typing else raw
    termios.tcsetattr(terminal, termios.TCSANOW, mode)
    os.write(keyboard, b"ab\x04\x04")
    select.select([keyboard], [], [], 5)  # Its echo: it has arrived.
    termios.tcsetattr(terminal, termios.TCSANOW, raw)
    select.select([terminal], [], [], 5)
    return os.read(terminal, 100)


lost, kept = read_in_raw_mode(True), read_in_raw_mode(False)
print(f"typed b'ab\\x04\\x04' in canonical mode, read in raw mode: {lost}")
print(f"typed b'ab\\x04\\x04' in raw mode, read in raw mode:       {kept}")
sys.exit(0 if (lost, kept) == (b"ab\x00\x00", b"ab\x04\x04") else "this has changed")
EOF
