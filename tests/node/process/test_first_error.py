"""Of two errors the first says why a node ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hstore.node.errors import StorageError
from hstore.node.process import main


class FullDisk:
    """A storage that cannot be closed without an error."""

    async def close(self) -> None:
        raise StorageError("closing failed")


async def test_that_closing_fails_too_does_not_hide_why_the_node_stops(monkeypatch):
    async def stop(*_args: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(main, "Node", lambda *_args, **_kwargs: None)
    monkeypatch.setattr(main, "_run_node", stop)
    settings: Any = SimpleNamespace(
        api_address="", new_cluster=False, data_dir="", checks_script=False, checks_deny=(),
        name="", peer_address="", log_level="info",
    )  # fmt: skip
    sockets: Any = None
    storage: Any = FullDisk()
    with pytest.raises(StorageError, match="no space left"):
        await main._run(settings, sockets, storage, {}, None, is_founder=False)
