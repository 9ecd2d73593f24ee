"""Script checks are processes: their exit, their output, and the end of all that they have started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hstore.node.checks.probe_script import SAID_BYTES_MAX, ScriptProbe
from hstore.node.checks.verdict import Verdict
from hstore.node.model.checks import CheckDefinition
from tests.node.checks.targets_in_memory import timed


def script(*args: str, **more) -> CheckDefinition:
    return CheckDefinition(kind="script", args=args, interval_ns=10**9, **more)


def shell(text: str, **more) -> CheckDefinition:
    return script("sh", "-c", text, **more)


async def run(definition: CheckDefinition, timeout_s: float = 10.0) -> Verdict:
    limited = msgspec.structs.replace(definition, timeout_ns=int(timeout_s * 1e9))
    with trio.fail_after(timeout_s + 5):
        return await timed(ScriptProbe(is_allowed=True), limited, timeout_s)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def pid_in(path: Path) -> int:
    """Return the number that a script has written, 0: it has not yet."""
    return int(path.read_text().strip() or 0) if path.exists() else 0


async def until(condition: Callable[[], object]) -> bool:
    """Wait until something is so, for some seconds at most; return whether it is."""
    with trio.move_on_after(5):
        while not condition():  # noqa: ASYNC110 - another process makes it so
            await trio.sleep(0.01)
        return True
    return False


async def gone(path: Path) -> bool:
    """Whether the process whose number is in a file has ended, or ends soon."""
    return await until(lambda: pid_in(path)) and await until(lambda: not is_alive(pid_in(path)))


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, "passing"), (1, "warning"), (2, "critical"), (126, "critical"), (255, "critical")],
)
async def test_the_exit_decides_and_both_outputs_are_kept(code, status):
    verdict = await run(shell(f"echo out; echo err >&2; exit {code}"))
    assert verdict == (status, "out\nerr\n")


async def test_a_script_that_a_signal_ended_is_critical():
    assert (await run(shell("kill -9 $$"))).status == "critical"


async def test_arguments_are_no_text_for_a_shell():
    verdict = await run(script(sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id); *"))
    assert verdict == ("passing", "$(id); *\n")


async def test_it_runs_in_the_root_directory_without_input():
    assert await run(shell("pwd; cat")) == ("passing", "/\n")


@pytest.mark.parametrize("args", [("/no/such/program",), ("",), (), ("a\x00b",), ("/etc/passwd",)])
async def test_a_program_that_cannot_be_started_is_critical(args):
    verdict = await run(script(*args))
    assert verdict.status == "critical"
    assert verdict.output.startswith("cannot run ")


async def test_where_scripts_are_not_allowed_none_runs(tmp_path):
    definition = shell(f"touch {tmp_path}/ran")
    verdict = await timed(ScriptProbe(is_allowed=False), definition, 5)
    assert verdict == (
        "critical",
        "Scripts are disabled on this agent; to enable, configure 'checks.script' to true",
    )
    assert not (tmp_path / "ran").exists()


async def test_at_its_timeout_the_whole_group_is_killed_and_what_it_said_is_told(tmp_path):
    child = tmp_path / "child"
    text = f"trap '' TERM INT HUP; echo begun; sh -c 'echo $$ > {child}; sleep 60; true'; sleep 60"
    verdict = await run(shell(text), timeout_s=0.5)
    assert verdict == ("critical", "Timed out (0.5s) running check\n\nbegun\n")
    assert await gone(child)


async def test_what_a_script_leaves_behind_ends_with_it_and_is_not_waited_for(tmp_path):
    child = tmp_path / "child"
    start = trio.current_time()
    verdict = await run(shell(f"sleep 60 & echo $! > {child}; echo said"))
    assert verdict == ("passing", "said\n")
    assert trio.current_time() - start < 3
    assert await gone(child)


async def test_one_that_leaves_its_session_with_the_output_open_is_not_waited_for(tmp_path):
    child = tmp_path / "child"
    text = f"setsid sh -c 'echo $$ > {child}; exec sleep 30' & while ! test -s {child}; do :; done"
    start = trio.current_time()
    verdict = await run(shell(text))
    assert verdict.status == "passing"
    assert trio.current_time() - start < 5
    os.kill(pid_in(child), 9)


async def test_when_its_check_goes_the_group_is_killed(tmp_path):
    child = tmp_path / "child"
    text = f"sh -c 'echo $$ > {child}; sleep 60; true'; true"
    with trio.move_on_after(10) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, shell(text))
            assert await until(lambda: pid_in(child))
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert await gone(child)


async def test_of_much_output_the_end_is_kept():
    verdict = await run(shell("head -c 10000 /dev/zero | tr '\\0' x; echo the end"))
    assert verdict.status == "passing"
    assert verdict.output.endswith("the end\n… (captured 4096 of 10008 bytes)")


async def test_an_endless_output_is_read_to_a_bound_and_does_not_hold_the_loop():
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = trio.current_time()
            await trio.sleep(0.01)
            longest = max(longest, trio.current_time() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        verdict = await run(script("yes"))
        ignores = await run(shell("trap '' PIPE; while :; do echo x; done 2>/dev/null"), 0.5)
        nursery.cancel_scope.cancel()
    assert verdict.status == ignores.status == "critical"
    assert f"of {SAID_BYTES_MAX}" in verdict.output or "captured 4096 of" in verdict.output
    assert longest < 0.5


async def test_what_a_script_left_is_ended_though_it_ends_as_its_check_goes(
    tmp_path, monkeypatch
) -> None:
    kept = tmp_path / "pid"
    with trio.CancelScope() as check:
        open_process = trio.lowlevel.open_process

        async def open_and_end(*args: Any, **named: Any) -> trio.Process:
            process: trio.Process = await open_process(*args, **named)
            # It ends, and its check goes, in one turn of the loop; nobody has waited for it yet.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
            check.cancel()
            return process

        monkeypatch.setattr(trio.lowlevel, "open_process", open_and_end)
        await run(shell(f"sleep 60 & echo $! > {kept}"))
    assert check.cancelled_caught
    assert await gone(kept)
