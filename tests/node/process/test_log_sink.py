"""A log line is never worth a node: writing one does not wait, and one that is lost is counted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import Any

import click
import pytest
import structlog

from hstore.node.config import logs
from hstore.node.process import log_sink
from hstore.node.process.log_sink import BYTES_MAX, LINES_MAX, LogSink


class Disk:
    """Takes what is written; a test says when a write waits, fails, or takes only a part."""

    def __init__(self):
        self.written = b""
        self.failure: int | None = None
        self.most = 1 << 20
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()

    def write(self, _fd, data):
        self.asked.set()
        self.open.wait()
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        self.written += data[: self.most]
        return len(data[: self.most])


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.open.set()


@pytest.fixture
def sink(disk):
    return LogSink(99, lambda count: f"{count} dropped\n", disk.write)


def test_lines_are_written_in_order(sink, disk):
    for number in range(100):
        sink.put(f"{number}\n")
    sink.drain(60)
    assert disk.written.decode().split() == [str(number) for number in range(100)]
    assert sink.dropped == 0


def test_a_line_that_is_taken_in_parts_is_written_whole(sink, disk):
    disk.most = 2
    sink.put("whole\n")
    sink.drain(60)
    assert disk.written == b"whole\n"


@pytest.mark.parametrize("reason", [errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO])
def test_a_line_that_cannot_be_written_is_counted_and_the_log_says_so_once_it_works(
    sink, disk, reason
):
    disk.failure = reason
    for _ in range(3):
        sink.put("lost\n")
        sink.drain(60)
    assert sink.dropped == 3
    disk.failure = None
    sink.put("first\n")
    sink.put("second\n")
    sink.drain(60)
    assert disk.written == b"first\nsecond\n3 dropped\n"
    sink.put("third\n")
    sink.drain(60)
    assert disk.written.endswith(b"3 dropped\nthird\n"), "it is told once"


def test_a_log_that_blocks_keeps_a_bounded_number_of_lines_and_drops_the_rest(sink, disk):
    disk.open.clear()
    sink.put("blocks\n")
    assert disk.asked.wait(60)
    for number in range(LINES_MAX + 7):
        sink.put(f"{number}\n")  # returns although nothing can be written
    assert sink.dropped == 7
    disk.open.set()
    sink.drain(60)
    lines = disk.written.decode().split("\n")
    assert lines[:3] == ["blocks", "0", "1"]
    assert lines[-3:] == [f"{LINES_MAX - 1}", "7 dropped", ""]


def test_a_log_that_blocks_keeps_a_bounded_number_of_bytes(sink, disk):
    disk.open.clear()
    sink.put("blocks\n")
    assert disk.asked.wait(60)
    sink.put("x" * BYTES_MAX)
    assert sink.dropped == 0
    sink.put("y\n")
    assert sink.dropped == 1


def test_the_end_of_the_process_waits_for_a_log_that_blocks_but_not_for_ever(sink, disk):
    disk.open.clear()
    sink.put("blocks\n")
    sink.drain(0.01)
    assert disk.written == b""


def test_after_half_a_line_the_next_one_begins_at_the_start_of_a_line(sink, disk):
    disk.most = 3
    whole = disk.write

    def nearly_full(fd, data):
        if disk.written:
            disk.failure = errno.ENOSPC
        return whole(fd, data)

    sink._write_some = nearly_full
    sink.put("cut short\n")
    sink.drain(60)
    sink._write_some = whole
    disk.failure = None
    sink.put("next\n")
    sink.drain(60)
    assert disk.written == b"cut\nnext\n1 dropped\n"


def test_a_pipe_that_another_process_made_non_blocking_is_waited_for():
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        tried = threading.Event()

        def write(fd, data):
            try:
                return os.write(fd, data)
            except BlockingIOError:
                tried.set()
                raise

        sink = LogSink(writer, str, write)
        line = "x" * 9_999 + "\n"
        for _ in range(20):
            sink.put(line)
        assert tried.wait(60)
        got = 0
        while got < 20 * len(line):
            got += len(os.read(reader, 1 << 20))
        sink.drain(60)
        assert sink.dropped == 0
    finally:
        os.close(reader)
        os.close(writer)


# What else the process prints


PRINTING = """
import structlog, sys, traceback, warnings, click
from hstore.node.process import log_sink
from hstore.node.config import logs
sink = log_sink.install()
assert log_sink.installed() is sink
logs.configure("info")
structlog.get_logger().info("logged", number=7)
structlog.get_logger().debug("not logged")
warnings.warn("warned")
print("printed")
click.echo("echoed", err=True)
sys.stderr.write("no newline ")
sys.stderr.write("yet\\n")
try:
    raise RuntimeError("raised")
except RuntimeError:
    traceback.print_exc()
sys.stderr.close()
"""


def test_all_that_python_prints_in_a_process_of_a_node_goes_through_the_sink_and_is_there_at_the_end():
    done = subprocess.run(
        [sys.executable, "-c", PRINTING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == ""
    words = ("event=logged number=7", "warned", "printed", "echoed", "no newline yet\n")
    places = [done.stderr.find(word) for word in (*words, "RuntimeError: raised")]
    assert -1 not in places
    assert places == sorted(places)
    assert "not logged" not in done.stderr


def test_nothing_that_python_prints_in_a_process_of_a_node_waits_for_a_reader():
    """The pipe is full and its reader does not read: the process ends all the same."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        done = subprocess.run(
            [sys.executable, "-c", PRINTING],
            stdout=writer,
            stderr=writer,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_text_without_an_end_of_line_is_not_kept_for_ever(sink, disk):
    text = log_sink._Text(sink)
    for _ in range(300):
        text.write("x" * 1000)
    assert len(text._begun) <= log_sink._TEXT_MAX
    sink.drain(60)
    assert len(disk.written) > 200_000


def test_a_rendered_line_is_what_logging_would_write(capfd):
    before = structlog.get_config()
    try:
        logs.configure("info")
        structlog.get_logger().warning("something", count=2)
        logged = capfd.readouterr().err
        assert logs.line("warning", "something", count=2).partition(" ")[2] == (
            logged.partition(" ")[2].strip()
        )
    finally:
        structlog.configure(**before)


def test_click_writes_to_the_stream_in_place_of_standard_error(sink, disk):
    stream: Any = log_sink._Text(sink)
    click.echo("text", file=stream)
    sink.drain(60)
    assert disk.written == b"text\n"
