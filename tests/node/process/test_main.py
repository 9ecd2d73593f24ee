"""What the process of a node sees to before and beside the node itself."""

from __future__ import annotations

import os
from typing import Any

from structlog.testing import capture_logs

from hstore.node.config import logs
from hstore.node.config.settings import load_settings
from hstore.node.errors import Refused
from hstore.node.process import descriptors, main
from tests.node.memory_cluster import running


def settings_of(tmp_path, **flags):
    return load_settings({"data_dir": str(tmp_path), **flags}, {"HOME": str(tmp_path)})


def test_what_a_node_writes_is_its_owners_alone(tmp_path, monkeypatch):
    """RocksDB makes its files readable by everybody unless it is kept from it."""
    before = os.umask(0o022)
    masks = []
    sockets: Any = None  # not reached

    def prepare(*_args):
        masks.append(os.umask(0o077))
        raise Refused("enough seen")

    monkeypatch.setattr(main, "_prepare", prepare)
    monkeypatch.setattr(logs, "configure", lambda _level, _form: None)
    monkeypatch.setattr(descriptors, "raise_limit", lambda: None)
    try:
        assert (
            main.serve(settings_of(tmp_path, new_cluster=True), sockets, "start")
            == Refused.exit_code
        )
    finally:
        os.umask(before)
    assert masks == [0o077]


# --- the line that says that a node serves -------------------------------------------------------


async def said_by(node, settings):
    with capture_logs() as lines:
        await main._say_serving(node, settings)
    (line,) = [line for line in lines if line["event"] == "serving"]
    return line


async def test_a_node_says_that_it_serves_when_it_has_its_name(autojump_clock, tmp_path):
    settings = settings_of(tmp_path)
    async with running(1) as cluster:
        new = cluster.add()
        await cluster.let_in(new, 1)
        assert new.node.process.name == ""
        line = await said_by(new.node, settings)
        assert new.node.process.name == "n2"
        names = [new.node.process.name_of(one) for one in (1, 2, 9)]
    assert names == ["n1", "n2", ""]
    assert line["member"] == 2
    assert line["api"] == settings.api_address


async def test_a_node_that_gets_no_name_says_so_without_one(autojump_clock, tmp_path):
    async with running(1) as cluster:
        new = cluster.add()
        await new.start()
        line = await said_by(new.node, settings_of(tmp_path))
    assert "member" not in line
    assert line["id"] == f"{2:016x}"
