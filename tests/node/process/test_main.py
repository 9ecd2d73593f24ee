"""What the process of a node sees to before and beside the node itself."""

from __future__ import annotations

import os
from typing import Any

from hstore.node.config import logs
from hstore.node.config.settings import load_settings
from hstore.node.errors import Refused
from hstore.node.process import descriptors, main


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
