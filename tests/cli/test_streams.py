"""Descriptors 0 to 2 are open before anything else is opened, and lost output is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hstore.cli import running, streams
from hstore.cli.streams import OutputLost

CLOSED = """
import os, sys
for fd in {fds}:
    os.close(fd)
if {gone}:
    sys.stdin = sys.stdout = sys.stderr = None
from hstore.cli import streams
streams.secure()
with open(os.environ["REPORT"], "w") as report:
    for fd in range(3):
        print(os.readlink(f"/proc/self/fd/{{fd}}"), os.get_inheritable(fd), file=report)
    for stream, number in ((sys.stdin, 0), (sys.stdout, 1), (sys.stderr, 2)):
        print(stream.fileno() == number, file=report)
    print(repr(sys.stdin.read()), file=report)
    print("lost to standard error", file=sys.stderr, flush=True)
    try:
        print("lost", flush=True)
    except streams.OutputLost as lost:
        print(lost, lost.is_reader_gone, file=report)
"""


@pytest.mark.parametrize("gone", [True, False])
def test_closed_descriptors_become_dev_null_and_what_is_printed_there_is_lost(tmp_path, gone):
    done = subprocess.run(
        [sys.executable, "-c", CLOSED.format(fds=(0, 1, 2), gone=gone)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "REPORT": str(tmp_path / "report")},
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / "report").read_text().splitlines() == [
        *["/dev/null True"] * 3,
        *["True"] * 3,
        "''",
        "the output cannot be written: Bad file descriptor False",
    ]


def output(fd):
    return streams._text(fd, None, is_silent=False)


def test_lost_output_is_an_error_once_and_then_discarded():
    """Else Python would complain again when it flushes the same buffer at exit."""
    with Path("/dev/full").open("wb", 0) as full:
        text = output(full.fileno())
        text.write("x")
        with pytest.raises(OutputLost, match="No space left on device"):
            text.flush()
        text.write("y")
        text.close()


def interrupted(text, at):
    """Print a line, with Ctrl-C at the end of the `at`th call within; return whether it came to that."""
    calls = 0

    def interrupt(_frame, event, _called):
        nonlocal calls
        if event in {"return", "c_return"}:
            calls += 1
            if calls == at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        click.echo(b"17 set x 1", file=text)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_line_is_printed_once_wherever_ctrl_c_comes():
    """A watch in the shell showed its last change twice when it was ended right behind it."""
    shown: list[str] = []
    while True:
        reader, writer = os.pipe()
        text = output(writer)
        is_interrupted = interrupted(text, len(shown) + 1)
        text.write("the prompt")
        text.close()
        os.close(writer)
        with os.fdopen(reader) as pipe:
            shown.append(pipe.read())
        if not is_interrupted:
            break
    assert set(shown) <= {"17 set x 1\nthe prompt", "the prompt"}
    assert len(shown) > 5


def test_a_reader_that_has_ended_is_told_from_a_disk_that_is_full():
    reader, writer = os.pipe()
    os.close(reader)
    text = output(writer)
    text.write("x")
    with pytest.raises(OutputLost) as lost:
        text.flush()
    assert lost.value.is_reader_gone
    text.close()
    os.close(writer)


@pytest.mark.parametrize("show", [click.echo, print])  # `print` flushes nothing
def test_the_status_tells_lost_output_also_when_it_is_lost_at_the_last_flush(
    show, monkeypatch, capsys
):
    command = click.Command("x", callback=lambda: show("a result"))
    with Path("/dev/full").open("wb", 0) as full:
        monkeypatch.setattr(sys, "stdout", output(full.fileno()))
        assert running.run_command(command, [], "x") == 1
    assert capsys.readouterr().err == (
        "hstore: the output cannot be written: No space left on device\n"
    )
