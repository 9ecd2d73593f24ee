"""What a newcomer makes of the answers to its request to be let in."""

from __future__ import annotations

import httpx
import pytest

from hstore.node import joining
from hstore.node.errors import NoLeader
from hstore.node.settings import load_settings
from hstore.node.storage.interface import Identity

A, B = "127.0.0.1:8500", "127.0.0.1:8501"


def ask(monkeypatch, silence):
    """Ask a member that has no leader, then one that answers nothing."""

    def request(_method, url, _content=None):
        if A in url:
            return httpx.Response(503, json={"error": "there is no leader"})
        raise silence

    monkeypatch.setattr(joining, "_request", request)
    monkeypatch.setattr(joining, "_ATTEMPTS", 1)
    settings = load_settings({"listen": "127.0.0.1:8510"}, {"HOME": "/home/ada"})
    joining.ask_to_join(settings, Identity("c1", 7), (A, B))


def test_a_member_that_has_the_request_and_does_not_answer_may_still_take_the_node_in(monkeypatch):
    with pytest.raises(NoLeader, match=f"no leader; {B} may do so yet: repeat the command"):
        ask(monkeypatch, httpx.ReadTimeout("timed out"))


def test_a_member_that_never_got_the_request_will_not_take_the_node_in(monkeypatch):
    with pytest.raises(NoLeader, match=r"there is no leader$"):
        ask(monkeypatch, httpx.ConnectError("[Errno 111] Connection refused"))
