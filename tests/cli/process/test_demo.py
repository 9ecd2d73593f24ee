"""What the demo says, and that its children end with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hstore.cli.process import demo
from hstore.cli.search.clock import Clock
from hstore.cli.show.watch import Lost


def test_what_to_try_is_said_once_when_all_nodes_vote(make):
    learner = make.info(make.node(1), make.node(2, voter=False, type="learner"))
    whole = make.info(make.node(1), make.node(2))
    sightings = iter([learner, whole, Lost("127.0.0.1:8500", "gone"), whole])
    said = list(demo.demo_lines(sightings, 2))
    assert said.index("n2: alive follower, was alive learner") < said.index(
        "to try in another terminal:"
    )
    assert said.count("to try in another terminal:") == 1
    assert "  dig @127.0.0.1 -p 8600 leader.hstore.local +short" in said
    assert "  curl http://127.0.0.1:8501/read/foo" in said
    assert "n2: http://127.0.0.1:8501  DNS 127.0.0.1:8601" in said


def test_what_to_try_is_at_nodes_that_run(make):
    gone = [make.node(number, health="failed") for number in (1, 4)]
    said = demo.to_try(make.info(gone[0], make.node(2), make.node(3), gone[1], leader="n3"), 4)
    tried = said[said.index("to try in another terminal:") :]
    assert not any("8500" in line or "8503" in line or "8600" in line for line in tried)
    assert "  curl http://127.0.0.1:8502/read/foo" in tried
    assert "n1: http://127.0.0.1:8500  DNS 127.0.0.1:8600" in said


def test_before_that_it_says_what_it_waits_for(make):
    assert demo.to_try(make.info(), 4) == ["waiting until all 4 nodes vote"]
    assert demo.to_try(make.info(leader=None), 3) == ["waiting until all 3 nodes vote"]


def executable(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_commands_to_try_can_be_typed_as_they_are_printed(monkeypatch, tmp_path, make):
    own = executable(tmp_path / "a b" / "hstore")
    other = executable(tmp_path / "other" / "hstore")
    monkeypatch.setenv("PATH", str(own.parent))
    assert demo.program(str(own)) == "hstore"
    for path in (str(other.parent), "/nowhere"):  # another program's name, or nobody's
        monkeypatch.setenv("PATH", path)
        assert demo.program(str(own)) == f"'{own}'"
    monkeypatch.chdir(tmp_path)
    assert demo.program("a b/hstore") == f"'{own}'"
    monkeypatch.setenv("PATH", str(own.parent))
    for no_program in ("/lib/hstore/cli/__main__.py", "-c"):
        assert demo.program(no_program) == f"{sys.executable} -m hstore.cli"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", ["a b/hstore", "demo"])
    said = demo.to_try(make.info(make.node(1), make.node(2)), 2)
    assert f"  '{own}' list -h 127.0.0.1:8500 --watch" in said


def test_children_do_not_see_the_users_settings_and_are_gone_at_the_end(tmp_path):
    env = dict(os.environ) | {"HSTORE_LISTEN": "192.0.2.1:1"}
    with demo.Children(tmp_path, env, Clock()) as children:
        assert "HSTORE_LISTEN" not in children._env
        # A wrong option: it ends by itself, and its log says why.
        children.spawn("n1", "start", "-h", "nonsense:x")
        children._running["n1"].wait(20)
        assert children.all_have_ended()
        assert "listen: 'nonsense:x'" in children.last_words("n1")
    for end in (children._read_end, children._write_end):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
