"""`hstore lock` as processes: two take turns while the leader dies, and what a command's process gets."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from .cluster import HSTORE, WAIT_S, Cluster, eventually, run
from .test_shell import at_terminal

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "locks.md"


@contextmanager
def locked(cluster, *words, **options):
    """Run `hstore lock`, in a process group of its own."""
    command = [*HSTORE, "lock", "-h", cluster.nodes[1].address, *words]
    with subprocess.Popen(
        command, env=cluster.env, start_new_session=True,
        **{"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_two_take_turns_and_the_death_of_the_leader_costs_nobody_the_lock(three: Cluster):
    leader = three.leader()
    log = three.folder / "turns"
    # Each says that it begins, waits for a word, and says that it ends.
    work = f'echo "begin $HSTORE_LOCK_INDEX" >> {log}; read word; echo "end $word" >> {log}; exit 5'
    with (
        locked(three, "job", "sh", "-c", work, stdin=subprocess.PIPE) as one,
        locked(three, "job", "sh", "-c", work, stdin=subprocess.PIPE) as two,
    ):
        eventually(lambda: log.exists() and log.read_text(), "one of them has the lock")
        leader.kill()
        survivor = next(node for node in three.nodes if node.is_running)
        eventually(lambda: survivor.write("a", "1").status == 200, "another node leads")
        assert log.read_text() == "begin 1\n"
        # Whoever has it ends first; the other one does not see its word before.
        for process in (one, two):
            process.stdin.write(b"word\n")
            process.stdin.flush()
        assert [one.wait(WAIT_S), two.wait(WAIT_S)] == [5, 5]
    assert log.read_text() == "begin 1\nend word\nbegin 2\nend word\n"


def test_what_the_process_of_a_command_gets(shared: Cluster):
    """Signals, an end with that of `hstore lock`, exit statuses, and the variables."""
    hstore = [*HSTORE, "lock", "-h", shared.nodes[0].address]
    done = run(*hstore, "/job/1", "--", "sh", "-c", "env; kill -9 $$", env=shared.env)
    assert done.status == 137
    assert "HSTORE_LOCK_KEY=/job/1\n" in done.out
    trap = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.02; done"
    with locked(shared, "job2", "sh", "-c", trap, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"got it\n"
        assert process.wait(WAIT_S) == 9
    says_who = "echo $$; exec sleep 99"
    with locked(shared, "job3", "sh", "-c", says_who, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.kill()
        eventually(lambda: not _runs(child), "the command has died with hstore lock")


def _runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def test_each_line_of_the_page_of_locks_does_what_stands_below_it(shared: Cluster, tmp_path):
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    env = {**shared.env, "HSTORE_HOST": shared.nodes[0].address}
    program = tmp_path / "hstore"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(HSTORE)} "$@"\n')
    program.chmod(0o755)
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    script = "\n".join(f"echo {shlex.quote(f'$ {one}')}\n{one}" for one in commands)
    done = subprocess.run(
        ["sh", "-c", script], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert len(commands) == 8
    printed = done.stdout.splitlines()
    wanted = [".*".join(map(re.escape, line.split("..."))) for line in lines]
    # Greater than any before, and others have locked keys of this cluster and deleted them.
    wanted = [re.sub(r"(token|index)\\ 1$", r"\1\\ \\d+", line) for line in wanted]
    wrong = [pair for pair in zip(wanted, printed, strict=False) if not re.fullmatch(*pair)]
    assert wrong == []
    assert len(printed) == len(lines)


def test_a_command_has_the_terminal_and_ctrl_z_stops_all_of_it(shared: Cluster):
    words = ["lock", "-h", shared.nodes[0].address, "job4", "sh", "-c", "echo ready; exec cat"]
    with at_terminal(shared, *words) as (terminal, process):
        terminal.wait_for("ready\n")
        terminal.type("one\n")
        terminal.wait_for("one\none\n")  # typed, and from cat
        terminal.type("\x1a")
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGCONT)
        terminal.type("two\n")
        terminal.wait_for("two\ntwo\n")
        terminal.type("\x03")
        assert process.wait(WAIT_S) == 130
