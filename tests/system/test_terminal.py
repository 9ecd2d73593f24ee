"""What a person sees at a terminal: the live list, and Tab in the shells of the system."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from .cluster import HSTORE, WAIT_S, Cluster, eventually
from .test_shell import at_terminal

HOSTILE = ("tab$(touch pwned)", "tab`touch pwned`", "tab;touch pwned", "tab*", "tab x")


def reads_lines(fd: int) -> bool:
    mode = termios.tcgetattr(fd)[3]
    return bool(mode & termios.ICANON and mode & termios.ECHO)


@pytest.mark.parametrize(
    ("how", "status"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGQUIT, 131)]
)
def test_however_the_live_list_ends_the_terminal_is_as_it_was(
    shared: Cluster, how: str | int, status: int
) -> None:
    first = shared.nodes[0]
    with at_terminal(shared, "list", "--watch", "-h", first.address) as (terminal, process):
        fd = terminal._fd
        assert reads_lines(fd)
        terminal.wait_for("q or Ctrl-C ends it")
        terminal.wait_for("WRITES/S")
        eventually(lambda: not reads_lines(fd), "keys are read one by one")
        if isinstance(how, str):
            terminal.type(how)
        else:
            process.send_signal(how)
        assert process.wait(WAIT_S) == status
        assert terminal.wait_for("NAME")  # the last picture stays
        assert reads_lines(fd)


def test_a_live_list_in_a_pipe_has_the_time_before_each_line(shared: Cluster) -> None:
    command = [*HSTORE, "list", "--watch", "-h", shared.nodes[0].address]
    with subprocess.Popen(command, env=shared.env, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline() for _ in range(4)]
        watch.terminate()
    for line in lines:
        time, _, what = line.partition(" ")
        assert "T" in time
        assert time[-6] in "+-"
        assert what.startswith(("n", "cluster: leader"))
        assert "\x1b" not in line


def test_top_is_live_sorts_by_a_key_and_leaves_the_terminal_as_it_was(shared: Cluster) -> None:
    first = shared.nodes[0]
    with at_terminal(shared, "top", "-h", first.address) as (terminal, process):
        terminal.wait_for(f"ALL {len(shared.nodes)} NODES")
        terminal.wait_for("q ends")
        terminal.type("m")
        terminal.type("q")
        assert process.wait(WAIT_S) == 0
        assert reads_lines(terminal._fd)
    command = [*HSTORE, "top", "--json", "-h", first.address]
    shown = json.loads(subprocess.check_output(command, env=shared.env))
    assert len(shown["nodes"]) == len(shared.nodes)
    assert shown["missing"] == []


START = {
    "bash": (["--norc", "-i"], 'eval "$(hstore completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(hstore completion zsh)"'),
    "fish": (["--no-config", "-i"], "hstore completion fish | source"),
}


@pytest.mark.parametrize("shell", START)
def test_tab_completes_a_key_and_executes_nothing(
    shared: Cluster, require_tool: Callable[[str], str], shell: str, tmp_path: Path
) -> None:
    at = shared.nodes[0].address
    for key in (*HOSTILE, "tab:one/two"):
        assert shared.nodes[0].write(key, f"value of {key}").status == 200
    options, begin = START[shell]
    program = [require_tool(shell), *options]
    path = f"{Path(sys.executable).parent}:{shared.env['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    with at_terminal(shared, program=program, env=env, cwd=tmp_path) as (terminal, _):
        terminal.type(f"{begin}; echo re''ady\r")
        terminal.wait_for("ready")
        terminal.type(f"hstore get -h {at} tab:o\t")
        terminal.wait_for("tab:one/two")
        terminal.type("\r")
        terminal.wait_for("value of tab:one/two")
        # All these keys begin so, and one of them can be offered.
        terminal.type(f"hstore get -h {at} tab\t\t")
        terminal.wait_for("tab:one/two")
    assert not (tmp_path / "pwned").exists()
