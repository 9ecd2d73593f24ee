"""What a newcomer makes of the answers to its request to be let in."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from hstore.node.config.settings import load_settings
from hstore.node.discovery import joining
from hstore.node.errors import ConfigError, NoLeader, Refused
from hstore.node.model.cluster_info import PROTOCOL, JoinReply, JoinRequest
from hstore.node.storage.interface import Identity

A, B = "127.0.0.1:8500", "127.0.0.1:8501"


def ask(monkeypatch, silence):
    """Ask a member that has no leader, then one that answers nothing."""

    def request(_method, url, _content=None):
        if A in url:
            return httpx.Response(503, json={"error": "there is no leader"})
        raise silence

    monkeypatch.setattr(joining, "request", request)
    monkeypatch.setattr(joining, "_ATTEMPTS", 1)
    settings = load_settings({"listen": "127.0.0.1:8510"}, {"HOME": "/home/ada"})
    joining.ask_to_join(settings, Identity("c1", 7), (A, B))


def test_a_member_that_has_the_request_and_does_not_answer_may_still_take_the_node_in(monkeypatch):
    with pytest.raises(NoLeader, match=f"no leader; {B} may do so yet: repeat the command"):
        ask(monkeypatch, httpx.ReadTimeout("timed out"))


def test_a_member_that_never_got_the_request_will_not_take_the_node_in(monkeypatch):
    with pytest.raises(NoLeader, match=r"there is no leader$"):
        ask(monkeypatch, httpx.ConnectError("[Errno 111] Connection refused"))


@pytest.mark.parametrize(
    ("said", "sent"), [(None, ""), ("n2", "n2"), ("localhost:8501", "127.0.0.1:8501")]
)
def test_a_newcomer_says_whose_place_it_is_to_take(monkeypatch, said, sent):
    asked = []

    def request(_method, _url, content=None):
        asked.append(msgspec.json.decode(content, type=JoinRequest))
        reply = JoinReply("c1", "n2", "hstore.local", {f"{1:016x}": "127.0.0.1:8300"})
        return httpx.Response(200, content=msgspec.json.encode(reply))

    monkeypatch.setattr(joining, "request", request)
    settings = load_settings({"replace": said}, {"HOME": "/home/ada"})
    assert joining.ask_to_join(settings, Identity("c1", 7), (A,)) == {1: "127.0.0.1:8300"}
    assert [(one.replace, one.cluster_id) for one in asked] == [(sent, "c1")]


def test_a_replace_that_is_no_member_name_is_wrong_usage_before_any_node_is_asked():
    with pytest.raises(ConfigError, match=r"^replace: 'a b' .* allowed: a node's name, HOST:PORT"):
        load_settings({"replace": "a b"}, {"HOME": "/home/ada"})


def found(monkeypatch, **headers):
    body = msgspec.json.encode(
        {
            "cluster_id": "00000000000000c1",
            "leader": None,
            "term": 1,
            "quorum": 1,
            "failure_tolerance": 0,
            "zone": "hstore.local",
            "nodes": [],
        }
    )
    answer = httpx.Response(200, content=body, headers=headers)
    monkeypatch.setattr(joining, "request", lambda *_arguments: answer)
    return joining.find_cluster((A,))


def test_a_cluster_of_another_protocol_is_refused_before_anything_is_made(monkeypatch):
    with pytest.raises(Refused, match=f"version 99 .* this hstore version {PROTOCOL}: install"):
        found(monkeypatch, **{"X-Hstore-Protocol": "99"})


def test_a_cluster_of_this_protocol_is_known_by_its_id(monkeypatch):
    assert found(monkeypatch, **{"X-Hstore-Protocol": str(PROTOCOL)}) == "00000000000000c1"
