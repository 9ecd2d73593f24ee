"""A node in a process of its own, with a small program in its place: start, end, last words."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from hstore.cli.process import background
from hstore.cli.process.background import Ended, last_words, run_in_background, spawn
from hstore.node.discovery.run_record import RunRecord
from hstore.node.errors import Refused
from hstore.node.process.launch import LogStart

# What a node does as others see it: says where it logs, serves, and then does as it is told.
NODE = """
import os, sys, time
[ready] = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--ready-pipe=")]
log, record, end = sys.argv[1:4]
waits = os.environ.get("WAITS")
if log:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    size = os.fstat(fd).st_size
    os.dup2(fd, 2)
    os.write(ready, b'{"log_file": "%s", "bytes_before": %d}\\n' % (log.encode(), size))
sys.stderr.write("level=info event=x\\n")
if waits:
    os.write(ready, b'{"waits_because": "%s"}\\n' % waits.encode())
    time.sleep(0.5)
if record:
    os.write(ready, record.encode() + b"\\n")
os.close(ready)
exec(end)
"""


@pytest.fixture
def children(monkeypatch):
    """The nodes that are started, which are such programs; they are gone afterwards."""
    started = []

    def spawn_and_keep(*words, **options):
        started.append(spawn(*words, **options))
        return started[-1]

    monkeypatch.setattr(background, "PROGRAM", (sys.executable, "-c", NODE))
    monkeypatch.setattr(background, "spawn", spawn_and_keep)
    yield started
    for child in started:
        child.process.kill()
        child.process.wait(30)


@pytest.fixture
def node(children, tmp_path, make):
    """Start one: `node("its end", serves=..., logs=...)`."""

    def start(end, *, serves=False, logs=True, waits=""):
        log = str(tmp_path / "hstore.log") if logs else ""
        record = msgspec.json.encode(make.record(1)).decode() if serves else ""
        return background.spawn([log, record, end], {**os.environ, "WAITS": waits})

    return start


def test_a_node_that_serves_gives_its_record_and_runs_in_a_session_of_its_own(node, make):
    child = node("time.sleep(60)", serves=True)
    assert child.wait_serving() == make.record(1)
    assert os.getsid(child.process.pid) == child.process.pid
    child.check()


def test_the_error_of_a_node_that_ends_is_its_last_words_and_its_status(node, tmp_path):
    (tmp_path / "hstore.log").write_text("hstore: of the last run\n")
    child = node('sys.exit("level=info event=y\\nhstore: the disk\\nis full")')
    with pytest.raises(Ended) as end:
        child.wait_serving()
    assert (end.value.status, end.value.words) == (1, "hstore: the disk\nis full")


def test_a_node_that_waits_for_others_goes_on_without_its_user(node, monkeypatch):
    monkeypatch.setattr(background, "_WAITS_S", 0.0)
    child = node("time.sleep(60)", waits="the first is not there")
    with pytest.raises(Refused) as caught:
        child.wait_serving()
    first, second = str(caught.value).splitlines()
    assert first == "the node waits: the first is not there"
    assert second.startswith(
        f"it goes on waiting in the background (process {child.process.pid}); "
    )
    child.check()


def test_on_a_terminal_the_user_is_told_what_it_waits_for_and_waits_with_it(
    node, make, monkeypatch
):
    monkeypatch.setattr(background, "_WAITS_S", 0.0)
    child = node("time.sleep(60)", serves=True, waits="the first is not there")
    told: list[str] = []
    assert child.wait_serving(told.append) == make.record(1)
    assert told == ["the first is not there"]


def test_an_error_of_the_last_run_is_not_taken_for_the_reason(node, tmp_path):
    (tmp_path / "hstore.log").write_text("hstore: of the last run\n")
    child = node("sys.exit(1)")
    with pytest.raises(Ended) as end:
        child.wait_serving()
    assert end.value.words == "level=info event=x"


def test_a_node_that_has_no_log_yet_says_why_on_our_own_standard_error(node, capfd):
    child = node('sys.stderr.write("hstore: no such\\n"); sys.exit(2)', logs=False)
    with pytest.raises(Ended) as end:
        child.wait_serving()
    assert (end.value.status, end.value.words) == (2, "")
    assert capfd.readouterr().err.endswith("hstore: no such\n")


def test_a_node_that_was_killed_is_said_to_be(node):
    child = node("os.kill(os.getpid(), 9)", serves=True)
    child.wait_serving()
    child.process.wait(30)
    with pytest.raises(Ended) as end:
        child.check()
    assert end.value.status == 1
    assert end.value.words.endswith("hstore: the node was ended by SIGKILL")


def test_a_start_that_takes_too_long_is_reported_and_goes_on(node, monkeypatch):
    monkeypatch.setattr(background, "_START_S", 0.0)
    child = node("time.sleep(60)")
    with pytest.raises(Refused, match=f"still starting .process {child.process.pid}"):
        child.wait_serving()
    child.check()


def test_a_clean_stop_is_a_sigterm_and_a_node_that_does_not_heed_it_is_killed(node, monkeypatch):
    heeds = node("time.sleep(60)", serves=True)
    heeds.wait_serving()
    heeds.stop()
    assert heeds.process.returncode == -signal.SIGTERM
    monkeypatch.setattr(background, "_STOP_S", 0.2)
    deaf = node(
        "import signal; signal.signal(15, signal.SIG_IGN); open(log + '.deaf', 'w'); "
        "time.sleep(60)",
        serves=True,
    )
    record: RunRecord = deaf.wait_serving()
    assert record.name
    assert deaf.log is not None
    while not Path(deaf.log.log_file + ".deaf").exists():
        deaf.check()
    with pytest.raises(Refused, match="did not stop within"):
        deaf.stop()
    assert deaf.process.returncode == -signal.SIGKILL


def test_who_waits_is_told_when_the_node_is_healthy_and_it_goes_on(
    children, make, server, capfd, tmp_path
):
    server.set_cluster(make.info(make.node(1, address=server.address)))
    record = msgspec.json.encode(make.record(1, address=server.address)).decode()
    words = [str(tmp_path / "hstore.log"), record, "time.sleep(60)"]
    assert run_in_background(words, os.environ) == 0
    out = capfd.readouterr().out
    for part in ("n1 runs, leader of", server.address, "127.0.0.1:8600", "/nowhere/n1"):
        assert part in out
    children[0].check()


def test_an_end_before_it_is_healthy_is_the_end_of_the_wait(children, tmp_path, make, capfd):
    record = msgspec.json.encode(make.record(1, address="127.0.0.1:1")).decode()
    words = [str(tmp_path / "hstore.log"), record, 'sys.exit("hstore: gone")']
    assert run_in_background(words, os.environ) == 1
    assert capfd.readouterr().err == "hstore: gone\n"


def test_last_words_of_a_log_that_was_begun_anew_are_those_of_the_new_one(tmp_path):
    log = tmp_path / "hstore.log"
    log.write_text("hstore: why\n")
    assert last_words(LogStart(str(log), 10_000)) == "hstore: why"
    assert last_words(LogStart(str(tmp_path / "none"), 0)) == ""


def test_without_an_error_the_last_words_are_the_last_lines(tmp_path):
    log = tmp_path / "hstore.log"
    log.write_text("".join(f"{number}\n" for number in range(20_000)))
    assert last_words(LogStart(str(log), 0)).split() == [str(19_995 + k) for k in range(5)]


def test_who_does_not_want_to_wait_any_more_leaves_no_node_behind(
    children, make, tmp_path, monkeypatch
):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(background, "wait_healthy", interrupted)
    record = msgspec.json.encode(make.record(1)).decode()
    with pytest.raises(KeyboardInterrupt):
        run_in_background([str(tmp_path / "log"), record, "time.sleep(60)"], os.environ)
    assert children[0].process.returncode == -signal.SIGTERM
