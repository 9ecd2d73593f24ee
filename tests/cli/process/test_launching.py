"""What would start a node again is what started it, settled; and that it does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hstore.cli import main as cli
from hstore.cli.options import Process
from hstore.cli.process import start
from hstore.cli.process.launching import settle
from hstore.node.config.settings import load_settings
from hstore.node.errors import ConfigError, Refused
from hstore.node.process import log_file


def settled(command, env, process=None, **flags):
    settings = load_settings(flags, env)
    return settle(command, flags, settings, env, process or Process())


def test_the_arguments_are_absolute_and_name_the_place_that_was_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("cache_mb = 8")
    env = {"HOME": "/h", "HSTORE_LISTEN": "127.0.0.1:9000"}
    launch = settled("start", env, config="c.toml", name="x", log_level=None)
    assert launch.arguments == (
        "start",
        f"--config={tmp_path}/c.toml",
        "--name=x",
        "--listen=127.0.0.1:9000",
        "--data-dir=/h/.local/share/hstore/9000",
    )


@pytest.mark.parametrize("command", ["start", "join"])
def test_they_mean_the_same_when_they_are_read_again(tmp_path, monkeypatch, command):
    seen = []

    def serve(settings, sockets, _mode, _join_to, settle):
        sockets.close()
        seen.append((settings, settle().arguments))
        return 0

    monkeypatch.setattr(start, "_serve", serve)
    monkeypatch.setattr("hstore.cli.process.start.has_data", lambda _path: True)
    monkeypatch.setenv("HOME", str(tmp_path))
    host = f"127.{os.getpid() % 200 + 10}.{os.getpid() // 200 % 250}.3"
    first = ["--listen", f"{host}:8500", "-n", "x", "--cache-mb", "8", "--http-hosts", "a,b"]
    assert cli.run([command, *first, "--zone", "a.b", "--no-shell", "--resume"]) == 0
    assert cli.run([*seen[0][1], "--no-shell", "--resume"]) == 0
    (one, said), (other, said_again) = seen
    assert said == said_again
    assert (one.listen, one.data_dir, one.name, one.cache_mb, one.http_hosts, one.cluster) == (
        other.listen,
        other.data_dir,
        other.name,
        other.cache_mb,
        other.http_hosts,
        other.cluster,
    )


def test_what_belongs_to_the_process_only_stays_with_it():
    env = {"HOME": "/h"}
    launch = settled("start", env, Process(no_shell=True, daemon=True, parent_pipe=7))
    assert launch.kept == ("--parent-pipe=7",)
    assert not [word for word in launch.arguments if "pipe" in word or "daemon" in word]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_data_directory_that_is_not_mounted_yet_or_full_is_no_wrong_setting(number, monkeypatch):
    def refuse(_directory):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(log_file, "take_over", refuse)
    with pytest.raises(Refused, match="cannot be used") as error:
        settled("start", {"HOME": "/h"}, Process(background=True))
    assert error.value.exit_code == 1


def test_a_log_that_cannot_be_written_is_a_setting_that_is_wrong(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"data_dir: .* cannot be used: Not a directory"):
        settled(
            "start", {"HOME": "/h"}, Process(background=True), data_dir=str(tmp_path / "file/d")
        )


AGAIN = """
import os, sys
from hstore.cli.process import launching
from hstore.node.process.launch import Launch
kept, lost = os.pipe(), os.pipe()
os.set_inheritable(kept[0], True)
launching.PROGRAM = (sys.executable, "-c", sys.argv[1])
launching.begin_anew(Launch(("start", str(kept[0]), str(lost[0]), str(os.getpid())), os.environ))
"""

NEXT = """
import os, sys
kept, lost, pid = map(int, sys.argv[2:5])
os.fstat(kept)
try:
    os.fstat(lost)
except OSError:
    assert os.getpid() == pid
    print(*sys.argv[5:])
"""


def test_beginning_anew_keeps_the_process_and_the_pipe_to_a_parent_and_closes_the_rest():
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, NEXT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["--resume", "--no-shell"]


def test_a_node_that_starts_again_replaces_nobody(tmp_path):
    launch = settled("join", {"HOME": str(tmp_path)}, replace="n2", name="x")
    assert not [word for word in launch.arguments if word.startswith("--replace")]
    assert "--name=x" in launch.arguments
