"""What a hostile member, and a network that loses packets, do to processes that run."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.peers import wire
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.messages import Append, Heartbeat

from . import lossy
from .cluster import Cluster, Node, eventually
from .lossy import Loss

_CONTACT_S = 1.5
"""After the loss, for the next dial and what it brings: an idle machine needs a tenth of it."""


def _say(cluster_id: str, liar: int, victim: Node, own: int, frame: wire.Frame) -> None:
    """Send a frame in the name of a member, and wait until the connection is closed."""
    host, port = victim.peer_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as peer:
        hello = wire.Hello(PROTOCOL, cluster_id, liar, own, "liar", wire.Purpose.MESSAGES)
        peer.sendall(wire.encode(hello))
        (welcome,) = wire.FrameReader().feed(peer.recv(4096))
        assert isinstance(welcome, wire.Welcome)
        assert not welcome.refusal
        peer.sendall(wire.encode(frame))
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(4096) == b""


def _wait_contact(node: Node) -> None:
    eventually(lambda: node.get("/v1/health").status == 200, "contact")


def test_a_hostile_member_ends_no_process_and_a_lossy_network_is_over_when_it_is_over(
    three: Cluster,
) -> None:
    info = three.leader().info()
    ids = {node.address: int(node.id, 16) for node in info.nodes}
    liar = ids[three.followers()[0].address]
    for victim in three.nodes:
        own = ids[victim.address]
        if own == liar:
            continue
        beyond = Heartbeat(liar, own, 2**64 - 1, 0, 1)
        no_command = Append(
            liar, own, info.term, 0, 0, [Entry(1, 1, EntryKind.COMMAND, b"\xc1")], 0
        )
        for frame, line in ((beyond, "term_jump"), (no_command, "refused a frame")):

            def is_refused(own=own, victim=victim, frame=frame, line=line) -> bool:
                # The member itself may take its place back before the frame is read.
                _say(info.cluster_id, liar, victim, own, frame)
                return line in victim.log()

            eventually(is_refused, f"the log of {victim.address} has {line}")
    three.wait_healthy()
    assert three.leader().info().term < 1000
    assert three.nodes[0].write("key", "value").status == 200

    if not lossy.is_permitted():
        pytest.skip("sockets of other processes cannot be reached here")
    ports = {node.peer_port for node in three.nodes}
    with Loss([node.pid for node in three.nodes], ports, 0.3):
        time.sleep(2)  # noqa: TID251 - the loss has to last
    over = time.monotonic()
    for node in three.nodes:
        _wait_contact(node)
    assert time.monotonic() - over < _CONTACT_S

    # A reply that was under way when its link was made anew is lost, and its write is `unknown`: with
    # an Idempotency-Key it is repeated without harm.
    def is_written() -> bool:
        once, body = {"Idempotency-Key": "once"}, b'{"key":"key","value":"again"}'
        return three.nodes[1].request("POST", "/write?timeout=1s", body, once).status == 200

    eventually(is_written, "the write is answered", 3)
