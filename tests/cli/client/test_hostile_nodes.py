"""What answers in place of a node: bounded in bytes and in time, and harmless to a terminal."""

from __future__ import annotations

import gzip
import time

import msgspec
import pytest

from hstore.cli.client import server_sent
from hstore.cli.client.api import NodeClient
from hstore.cli.client.errors import NotFound, Unreachable
from hstore.cli.client.server_sent import TooLargeError, blocks
from hstore.node.discovery import joining
from hstore.node.errors import HstoreError, NoLeader, Refused
from hstore.node.net import bounded
from tests.fakes import hostile_server
from tests.fakes.hostile_server import HEAD, saying, serving

STEERING = "\x1b[2J\x9b31m\x85\u202etxt\u2066\x07"


@pytest.mark.parametrize("answer", [hostile_server.drip_body, hostile_server.drip_head])
def test_one_deadline_holds_for_a_whole_answer_however_it_drips(answer) -> None:
    with serving(answer) as address, NodeClient(address, timeout_s=0.4) as client:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="did not answer in time"):
            client.cluster()
        assert time.monotonic() - began < 3


def test_an_answer_has_no_more_than_16_mib(monkeypatch) -> None:
    assert bounded.ANSWER_BYTES_MAX == 16 << 20
    with serving(hostile_server.flood) as address, NodeClient(address, timeout_s=30) as client:
        with pytest.raises(Unreachable, match="more than any answer has"):
            client.cluster()
        assert client._budget.bytes_left > -(1 << 20)


def test_a_compressed_answer_is_of_no_node() -> None:
    head = HEAD + b"Content-Encoding: gzip\r\n"
    answer = saying(gzip.compress(bytes(32 << 20)), head)
    with serving(answer) as address, NodeClient(address) as client:
        with pytest.raises(Unreachable, match="not an hstore node"):
            client.cluster()


@pytest.mark.parametrize("ask", ["events", "watch"])
def test_a_stream_without_end_is_bounded_in_each_event(ask: str, monkeypatch) -> None:
    with serving(hostile_server.flood) as address, NodeClient(address) as client:
        stream = client.events() if ask == "events" else client.watch("", None)
        with pytest.raises(Unreachable, match="more than any event has"):
            list(stream)


def test_an_event_of_fields_without_end_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(server_sent, "EVENT_BYTES_MAX", 100_000)
    lines = (b"field%d: x\n" % number for number in range(50_000))
    with pytest.raises(TooLargeError):
        list(blocks(lines))


def test_keys_of_which_one_has_no_end_are_of_no_node() -> None:
    with serving(saying(b'["' + b"k" * (1 << 20))) as address, NodeClient(address) as client:
        with pytest.raises(Unreachable):
            list(client.keys(""))


def test_a_long_listing_may_take_longer_than_one_answer() -> None:
    body = b'{"k":"' + b"v" * (17 << 20) + b'"}'
    with serving(saying(body)) as address, NodeClient(address) as client:
        assert sum(map(len, client.read_all())) == len(body)


def test_no_setting_and_no_error_steers_a_terminal() -> None:
    config = {f"zone{STEERING}": {"value": STEERING, "source": STEERING, "note": STEERING}}
    with serving(saying(msgspec.json.encode(config))) as address, NodeClient(address) as client:
        ((key, value),) = client.config().items()
        assert (key + value.value + value.source + value.note).isprintable()
    head = HEAD.replace(b"200 OK", b"404 No")
    error = saying(msgspec.json.encode({"error": f"no {STEERING}"}), head)
    with serving(error) as address, NodeClient(address) as client:
        with pytest.raises(NotFound) as caught:
            client.delete("k")
        assert str(caught.value).isprintable()
    renamed = saying(msgspec.json.encode({"was": STEERING}))
    with serving(renamed) as address, NodeClient(address) as client:
        assert client.rename("n2").isprintable()
    stopping = saying(msgspec.json.encode({"still_voter": STEERING}))
    with serving(stopping) as address, NodeClient(address) as client:
        assert client.stop().isprintable()


# -- a newcomer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [hostile_server.drip_body, hostile_server.drip_head, hostile_server.flood]
)
def test_a_newcomer_waits_for_no_endless_answer(answer, monkeypatch) -> None:
    monkeypatch.setattr(bounded, "ANSWER_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(joining.request, "__defaults__", (None, 0.4))
    with serving(answer) as address:
        began = time.monotonic()
        with pytest.raises(NoLeader):
            joining.find_cluster((address,))
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "reply",
    [
        b"{}",
        b"\xff",
        b'{"cluster_id":"c","name":"n","zone":"z","peers":{"x":"10.0.0.1:1"}}',
        b'{"cluster_id":"c","name":"n","zone":"z","peers":{"00000000000000c1":"nowhere"}}',
    ],
)
def test_a_newcomer_is_let_in_by_nodes_only(reply: bytes) -> None:
    with pytest.raises(Refused, match="not an hstore node"):
        joining._members_in("10.0.0.1:8500", reply)


def test_what_a_member_says_to_a_newcomer_steers_no_terminal() -> None:
    head = HEAD.replace(b"200 OK", b"409 No")
    with serving(saying(msgspec.json.encode({"error": STEERING * 1000}), head)) as address:
        answer = joining.request("GET", f"http://{address}/")
    text = joining._error_of(answer)
    assert text.isprintable()
    assert len(text) < 20_000


def test_a_newcomer_takes_no_compressed_answer() -> None:
    answer = saying(gzip.compress(b"{}"), HEAD + b"Content-Encoding: gzip\r\n")
    with serving(answer) as address, pytest.raises(HstoreError):
        joining.find_cluster((address,))
