"""`hstore lock` on the command line: its words, and what is refused before anybody waits."""

from __future__ import annotations

import time

import pytest

from hstore.cli import main as cli
from hstore.cli.lock import child
from hstore.cli.lock import command as command_module
from hstore.cli.lock.lease import Lease
from hstore.cli.lock.members import clock
from hstore.node.config.settings import unknown_variables


@pytest.fixture
def asked(monkeypatch):
    """What would be run."""
    found = []

    def run_locked(_finder, host, asked):
        found.append((host, asked))
        return 42

    monkeypatch.setattr(command_module, "run_locked", run_locked)
    return found


def test_all_behind_the_key_is_the_command(asked):
    assert cli.run(["lock", "-h", "n1", "k", "ls", "-h", "--ttl", "9", "--", "x"]) == 42
    assert cli.run(["lock", "k", "--", "ls", "-l"]) == 42
    (host, first), (_, second) = asked
    assert (host, first.key, first.command) == ("n1", "k", ("ls", "-h", "--ttl", "9", "--", "x"))
    assert second.command == ("ls", "-l")
    assert (first.ttl_s, first.delay_s, first.wait_s) == (15.0, 15.0, None)
    assert first.name.startswith("ls on ")


def test_options_are_durations(asked):
    words = ["--ttl", "1m", "--delay", "0s", "--wait", "500ms", "--name", "me", "k", "ls"]
    assert cli.run(["lock", *words]) == 42
    assert cli.run(["lock", "--try", "k", "ls"]) == 42
    (_, first), (_, second) = asked
    assert (first.ttl_s, first.delay_s, first.wait_s, first.name) == (60.0, 0.0, 0.5, "me")
    assert second.wait_s == 0.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["k"], "COMMAND"),
        ([], "KEY"),
        (["k", "--"], "the command to run is missing"),
        (["--ttl", "x", "k", "ls"], "'x' is not allowed; allowed: a duration such as"),
        (["--delay", "61s", "k", "ls"], "'61s' is not allowed"),
        (["--try", "--wait", "1s", "k", "ls"], "--try and --wait exclude each other"),
        (["", "ls"], "the key is empty"),
    ],
)
def test_wrong_usage_is_said_in_a_line(asked, capfd, words, said):
    assert cli.run(["lock", *words]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert asked == []


def test_a_program_that_is_not_there_is_127_before_any_cluster_is_looked_for(capfd, monkeypatch):
    monkeypatch.setattr("hstore.cli.search.find.Finder.find_at", lambda *_: pytest.fail("a search"))
    assert cli.run(["lock", "k", "no-such-program", "x"]) == 127
    assert "there is no program 'no-such-program'" in capfd.readouterr().err


def test_what_cannot_be_run_is_126(tmp_path):
    program = tmp_path / "program"
    program.write_text("this is no program")
    program.chmod(0o755)
    with pytest.raises(child.NotRunnable, match="Exec format error") as caught:
        child.Child([str(program)], {})
    assert caught.value.exit_code == 126


def test_the_variables_of_a_lock_are_no_settings():
    """The command may be hstore itself."""
    env = dict.fromkeys(["HSTORE_LOCK_KEY", "HSTORE_LOCK_INDEX", "HSTORE_LOCK_SESSION"], "1")
    assert unknown_variables(env) == {}
    assert set(unknown_variables({"HSTORE_LOCK_KEI": "1"})) == {"HSTORE_LOCK_KEI"}


@pytest.mark.parametrize("ttl_s", [1.0, 10.0, 15.0, 86400.0])
def test_there_is_time_to_end_within_every_ttl(ttl_s):
    lease = Lease(ttl_s, 100.0)
    for sent_at in (100.0, 107.0):
        lease.renewed(sent_at)
        assert sent_at < lease.renew_at < lease.terminate_at < lease.kill_at < sent_at + ttl_s
        assert lease.terminate_at - lease.renew_at > ttl_s / 2  # for renewals that fail at first
    lease.renewed(103.0)  # an answer that has been overtaken
    assert lease.kill_at < 107.0 + ttl_s
    assert lease.renew_at > 107.0


def test_the_clock_counts_while_a_machine_is_suspended():
    """CLOCK_BOOTTIME is at least CLOCK_MONOTONIC, by the time of all suspensions."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)
