"""A node beside the shell of its terminal: they begin and end together."""

from __future__ import annotations

import os
import signal
import sys
from types import ModuleType

import msgspec
import pytest

from hstore.cli.process import attached, background
from hstore.cli.vocabulary import Commands

# A node that ends as its parent does, and that says so.
NODE = """
import os, signal, sys, time
ready, parent = [int(word.partition("=")[2]) for word in sys.argv if "-pipe=" in word]
def end(*_):
    open(sys.argv[1], "a").write("clean")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(ready, b'{"log_file": "%s", "bytes_before": 0}\\n' % sys.argv[1].encode())
if sys.argv[2]:
    os.write(ready, sys.argv[2].encode() + b"\\n")
os.close(ready)
exec(sys.argv[3])
"""


def run_with_shell(words, env):
    return attached.run_with_shell(words, env, Commands())


@pytest.fixture
def shell(monkeypatch):
    """The shell: what it is called with, and what it does (`shell.does`)."""
    module = ModuleType("hstore.cli.shell.shell")

    def run_shell(finder, host, _group, commands=()):
        module.__dict__["called"] = (finder.zone, host, commands)
        return module.__dict__["does"]()

    vars(module).update(run_shell=run_shell, does=lambda: 0, called=None)
    monkeypatch.setitem(sys.modules, "hstore.cli.shell.shell", module)
    monkeypatch.setattr(background, "PROGRAM", (sys.executable, "-c", NODE))
    return module


@pytest.fixture
def words(tmp_path, make, server):
    """Those of a node that serves, and then does something."""
    server.set_cluster(make.info(make.node(1, address=server.address)))
    record = msgspec.json.encode(make.record(1, address=server.address)).decode()
    return lambda does="time.sleep(60)": [str(tmp_path / "hstore.log"), record, does]


@pytest.fixture
def child(monkeypatch):
    """The child that was started."""
    started = []

    def spawn(*arguments, **options):
        started.append(background.spawn(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(attached, "spawn", spawn)
    return lambda: started[0]


def test_leaving_the_shell_stops_the_node_cleanly_and_gives_the_shells_status(
    shell, words, child, tmp_path, server, capfd
):
    shell.does = lambda: 7 if child().process.poll() is None else 1
    assert run_with_shell(words(), os.environ) == 7
    assert shell.called == ("hstore.local", server.address, ())
    assert child().process.returncode == 0
    assert (tmp_path / "hstore.log").read_text() == "clean"
    assert "n1 runs" in capfd.readouterr().out


def test_a_shell_that_fails_stops_the_node_all_the_same(shell, words, child):
    def fails():
        raise ZeroDivisionError

    shell.does = fails
    with pytest.raises(ZeroDivisionError):
        run_with_shell(words(), os.environ)
    assert child().process.returncode == 0


def test_the_end_of_the_node_is_told_at_once_with_its_last_words_and_is_the_status(
    shell, words, child, capfd, tmp_path
):
    said: list[str] = []

    def open_for_a_while():
        (tmp_path / "go").touch()
        while not said:
            said.append(capfd.readouterr().err)
            said[:] = [text for text in said if text]
        return 0

    shell.does = open_for_a_while
    does = (
        f"\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "open(sys.argv[1], 'a').write('hstore: the disk is full\\n'); sys.exit(3)"
    )
    assert run_with_shell(words(does), os.environ) == 3
    assert said == ["\nhstore: the node of this shell has ended:\nhstore: the disk is full\n"]


def test_a_node_that_does_not_start_opens_no_shell(shell, capfd, tmp_path):
    log = tmp_path / "hstore.log"
    does = "open(sys.argv[1], 'a').write('hstore: no\\n'); sys.exit(2)"
    assert run_with_shell([str(log), "", does], os.environ) == 2
    assert capfd.readouterr().err == "hstore: no\n"
    assert shell.called is None


def test_a_node_that_is_not_healthy_in_time_gets_its_shell_with_a_word_about_it(
    shell, words, child, server, make, monkeypatch, capfd
):
    monkeypatch.setattr("hstore.cli.process.healthy._LEADER_S", 0.0)
    server.set_cluster(make.info(leader=None))
    assert run_with_shell(words(), os.environ) == 0
    assert "has no leader" in capfd.readouterr().err
    assert shell.called is not None


def test_an_interruption_before_the_shell_stops_the_node(shell, words, child, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(attached, "wait_healthy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_with_shell(words(), os.environ)
    assert child().process.returncode == 0
    assert shell.called is None


def test_what_was_told_of_children_before_is_told_again_afterwards(shell, words):
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    try:
        run_with_shell(words(), os.environ)
        assert signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, before)
