"""Standard input, output and error that are closed, full, or whose other end is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .cluster import HSTORE, Cluster, eventually

MGMT = str(Path(__file__).resolve().parents[2] / "cli" / "mgmt.py")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("streams"), 1) as cluster:
        cluster.nodes[0].start("--new-cluster")
        eventually(lambda: cluster.nodes[0].write("a", "b").status == 200, "it takes writes")
        yield cluster
    cluster.assert_no_traceback()


def said(cluster: Cluster, redirection: str, words: list[str]) -> tuple[list[str], int, str]:
    """Run a command in a shell with a redirection; return it, its status and what it complained."""
    script = f'exec "$@" {redirection}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=cluster.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return words, done.returncode, done.stderr


@pytest.mark.parametrize(
    ("redirection", "status", "complaint"),
    [
        (">/dev/full", 1, "hstore: the output cannot be written: No space left on device\n"),
        (">&-", 1, "hstore: the output cannot be written: Bad file descriptor\n"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&-", 0, ""),
        ("> >(true)", 0, ""),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_a_result_that_is_lost_is_status_1_with_a_plain_reason_and_nothing_else_changes_anything(
    one: Cluster, redirection: str, status: int, complaint: str
) -> None:
    at = ["-h", one.nodes[0].address]
    commands = [
        [*HSTORE, "--help"],
        [*HSTORE, "read", *at, "-k", "a"],
        [*HSTORE, "list", *at],
        [*HSTORE, "cli", *at, "get", "a"],
        [sys.executable, MGMT, "-r", "client", "-c", "read", *at, "-k", "a"],
    ]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda words: said(one, redirection, words), commands))
    assert results == [(words, status, complaint) for words in commands]


@pytest.mark.parametrize(
    ("words", "last"),
    [("list --watch", "leader"), ("cli watch", ""), ("demo 1", "Ctrl-C ends all nodes")],
)
def test_a_command_that_runs_until_it_is_stopped_ends_with_the_reader_of_its_output(
    one: Cluster, words: str, last: str, tmp_path: Path
) -> None:
    """Also while nothing changes, so that nothing is printed; and it leaves nothing behind."""
    command, *rest = words.split()
    at = () if command == "demo" else ("-h", one.nodes[0].address)
    with subprocess.Popen(
        [*HSTORE, command, *at, *rest],
        env={**one.env, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while last and last not in (line := process.stdout.readline()):
            assert line
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_standard_input_that_cannot_be_read_is_an_error_in_plain_words(one: Cluster) -> None:
    words = [*HSTORE, "cli", "-h", one.nodes[0].address]
    assert said(one, "0>/dev/null", words)[1:] == (
        1,
        "hstore: standard input cannot be read: Bad file descriptor\n",
    )


def test_a_node_that_has_outlived_its_terminal_runs_on_without_descriptors_0_to_2(
    tmp_path: Path,
) -> None:
    """Closed, they become /dev/null and nothing else; SIGHUP stays ignored, as by nohup."""
    detached = ["bash", "-c", 'trap "" HUP; exec "$@" <&- >&- 2>&-', "bash"]
    with Cluster(tmp_path, 1, prefix=detached) as cluster:
        node = cluster.nodes[0]
        node.start("--new-cluster")
        eventually(lambda: node.info().leader, "it leads")
        for fd in range(3):
            assert Path(f"/proc/{node.pid}/fd/{fd}").readlink() == Path(os.devnull)
        node.signal(signal.SIGHUP)
        assert node.write("a", "b").status == 200
        said = subprocess.run(
            [*HSTORE, "restart", "-h", node.address],
            env=cluster.env,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 0, said
        for fd in range(3):
            assert Path(f"/proc/{node.pid}/fd/{fd}").readlink() == Path(os.devnull), (
                "after a restart too"
            )
        node.signal(signal.SIGHUP)
        assert node.read("a") == "b"
