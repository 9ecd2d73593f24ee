"""`hstore demo` as `make run` shows it to somebody who has a pipe and no terminal."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from .cluster import HSTORE, clean_env, eventually, request

END_S = 15.0


class Demo:
    """A demo that runs, and the lines that it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ended = threading.Event()

    def follow(self) -> None:
        """Read its lines to their end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
        self.ended.set()

    def folder(self) -> str:
        """Return its temporary directory."""
        return self.lines[0].partition(" nodes in ")[2].partition(",")[0]

    def addresses(self) -> list[str]:
        """Return the API addresses that it says."""
        found = [
            line.split()[1] for line in self.lines if ": http://" in line and "/ui/" not in line
        ]
        return [one.removeprefix("http://") for one in found]

    def node_processes(self) -> list[int]:
        """Return who runs in its folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue  # ended while we looked
            if f"{self.folder()}/".encode() in words:
                found.append(int(path.parent.name))
        return found


@contextmanager
def run_demo(home: Path) -> Iterator[Demo]:
    process = subprocess.Popen(
        [*HSTORE, "demo", "3"],
        env=clean_env(home) | {"TMPDIR": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    demo = Demo(process)
    with process, ThreadPoolExecutor(1) as pool:
        pool.submit(demo.follow)
        try:
            eventually(lambda: "Ctrl-C ends all nodes" in demo.lines, "all nodes vote", 60)
            yield demo
        finally:
            process.kill()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with run_demo(tmp_path) as demo:
        yield demo
    assert not [line for line in demo.lines if "Traceback" in line]


def test_a_demo_says_its_addresses_and_changes_and_ends_all_on_sigterm(demo: Demo) -> None:
    first, second, third = demo.addresses()
    written = request(first, "POST", "/write", b'{"key":"foo","value":"bar"}')
    assert written.status == 200
    assert request(third, "GET", "/read/foo").json()["value"] == "bar"
    assert len(demo.node_processes()) == 3
    assert f"  the dashboard, in a browser: http://{first}/ui/" in demo.lines

    (command,) = [line for line in demo.lines if " write -h " in line]
    shown = subprocess.run(
        ["sh", "-c", command], check=False, capture_output=True, text=True, timeout=60
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert request(second, "GET", "/read/foo").status == 200

    assert request(second, "POST", "/v1/node/kill", b"{}").status == 200
    eventually(
        lambda: any("failed" in line and line.startswith("n2: ") for line in demo.lines),
        "the end of a node is a line",
    )
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(END_S) == 0
    assert demo.node_processes() == []
    assert not Path(demo.folder()).exists()


def test_a_demo_that_is_killed_leaves_no_node_behind(demo: Demo) -> None:
    assert len(demo.node_processes()) == 3
    demo.process.kill()
    demo.process.wait(END_S)
    eventually(lambda: demo.node_processes() == [], "the nodes end as well", END_S)
