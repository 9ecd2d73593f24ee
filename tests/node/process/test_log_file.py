"""The log of a node in the background: everything goes there, and it does not grow for ever."""

from __future__ import annotations

import os
import stat

import pytest
import trio

from hstore.node.process import log_file


@pytest.fixture
def outputs():
    """Standard output and standard error, given back at the end."""
    kept = [os.dup(1), os.dup(2)]
    yield
    for fd, number in zip(kept, (1, 2), strict=True):
        os.dup2(fd, number)
        os.close(fd)


def test_what_is_written_to_either_output_goes_to_the_log_after_what_was_there(tmp_path, outputs):
    (tmp_path / "hstore.log").write_text("before\n")
    file = log_file.take_over(tmp_path)
    os.write(1, b"out\n")
    os.write(2, b"err\n")
    assert file.read_text() == "before\nout\nerr\n"


def test_the_log_and_its_directory_are_made_for_their_owner_alone(tmp_path, outputs):
    file = log_file.take_over(tmp_path / "new" / "data")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_a_full_log_becomes_the_one_before_and_the_node_writes_on(
    tmp_path, outputs, autojump_clock, monkeypatch, nursery
):
    monkeypatch.setattr(log_file, "BYTES_MAX", 10)
    file = log_file.take_over(tmp_path)
    nursery.start_soon(log_file.keep_bounded, file)
    for text in (b"0123456789", b"abcdefghij", b"last"):
        os.write(2, text)
        await trio.sleep(60)
    assert file.read_text() == "last"
    assert (tmp_path / "hstore.log.1").read_text() == "abcdefghij"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hstore.log", "hstore.log.1"]
    nursery.cancel_scope.cancel()


def test_a_log_that_is_full_at_the_start_is_put_aside(tmp_path, outputs, monkeypatch):
    monkeypatch.setattr(log_file, "BYTES_MAX", 3)
    (tmp_path / "hstore.log").write_text("old")
    log_file.take_over(tmp_path)
    os.write(2, b"new")
    assert (tmp_path / "hstore.log").read_text() == "new"
    assert (tmp_path / "hstore.log.1").read_text() == "old"


@pytest.fixture
def short(tmp_path, outputs, monkeypatch):
    """A log of 10 bytes, in a directory of its own."""
    monkeypatch.setattr(log_file, "BYTES_MAX", 10)
    return log_file.take_over(tmp_path / "data")


async def look(file):
    """Have the log be looked at, several times."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_file.keep_bounded, file)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("action", ["unlink", "rename"])
async def test_a_log_that_was_taken_away_is_begun_anew(short, autojump_clock, action):
    """The node would write for ever into a file that nobody sees and no look finds too large."""
    if action == "unlink":
        short.unlink()
    else:
        short.rename(short.with_name("kept"))
    await look(short)
    os.write(2, b"here")
    assert short.read_text() == "here"


async def test_a_log_in_a_directory_that_is_gone_stays_bounded_and_makes_no_directory(
    short, autojump_clock
):
    short.unlink()
    short.parent.rmdir()
    os.write(2, b"0123456789")
    await look(short)
    assert os.fstat(2).st_size == 0
    assert not short.parent.exists()


async def test_a_full_log_that_cannot_be_begun_anew_stays_bounded(
    short, autojump_clock, monkeypatch
):
    """As on a disk that is full: the old file is renamed, and no new one can be made."""
    opened = os.open

    def refuse(path, flags, *mode, **more):
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return opened(path, flags, *mode, **more)

    os.write(2, b"0123456789")
    monkeypatch.setattr(os, "open", refuse)
    await look(short)
    assert os.fstat(2).st_size == 0
    monkeypatch.setattr(os, "open", opened)
    await look(short)
    os.write(2, b"here")
    assert short.read_text() == "here"
