"""What a stopped node's DNS server says when it goes on, and how the others hold questions meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import ExitStack

import dnslib

from .cluster import Cluster, Node, eventually

NAME = "_hstore-leader._tcp.hstore.local"
LEASE_S = 1.0
QUESTIONS = 40
CONNECTIONS = 5
PATIENCE_S = 10.0


class Questions:
    """Questions for the leader that wait in the sockets of a node, by UDP and by TCP."""

    def __init__(self, node: Node, closing: ExitStack) -> None:
        at = ("127.0.0.1", node.dns_port)
        self._udp = [closing.enter_context(_udp(at)) for _ in range(QUESTIONS)]
        self._tcp = [
            closing.enter_context(socket.create_connection(at, PATIENCE_S))
            for _ in range(CONNECTIONS)
        ]

    def ask(self) -> None:
        packet = bytes(dnslib.DNSRecord.question(NAME, "SRV").pack())
        for one in self._udp:
            one.send(packet)
        for one in self._tcp:
            one.sendall(len(packet).to_bytes(2, "big") + packet)

    def named(self) -> set[int | None]:
        """Return the ports of the leaders that the replies name; None: SERVFAIL."""
        replies = [one.recv(4096) for one in self._udp]
        for one in self._tcp:
            with one.makefile("rb") as stream:
                replies.append(stream.read(int.from_bytes(stream.read(2), "big")))
        return {_port(reply) for reply in replies}


def _udp(at: tuple[str, int]) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(PATIENCE_S)
    one.connect(at)
    return one


def _port(reply: bytes) -> int | None:
    parsed = dnslib.DNSRecord.parse(reply)
    if parsed.header.rcode == dnslib.RCODE.SERVFAIL:
        return None
    (record,) = parsed.rr
    return int(record.rdata.port)


def test_a_stopped_leader_that_goes_on_does_not_answer_with_its_old_lead(shared: Cluster) -> None:
    with ExitStack() as closing:
        old = shared.leader()
        others = [node for node in shared.nodes if node is not old]
        questions = Questions(old, closing)
        old.signal(signal.SIGSTOP)
        try:
            new = eventually(lambda: _led_by(others), "another leader")
            # Who asks the others meanwhile waits for that, and gets it.
            questions.ask()
        finally:
            old.signal(signal.SIGCONT)
        assert questions.named() <= {new.port, None}
    shared.wait_healthy()


def test_a_stopped_follower_that_goes_on_does_not_name_a_leader_that_was_replaced(
    shared: Cluster,
) -> None:
    with ExitStack() as closing:
        old = shared.leader()
        stopped, next_one = shared.followers()
        questions = Questions(stopped, closing)
        stopped.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            name = next_one.sees(next_one).name
            body = json.dumps({"to": name}).encode()
            assert old.request("POST", "/v1/leader/transfer", body).status == 200
            eventually(lambda: _led_by([old, next_one]) is next_one, "the transfer")
            eventually(lambda: time.monotonic() > stopped_at + LEASE_S, "the end of the lease")
            questions.ask()
        finally:
            stopped.signal(signal.SIGCONT)
        # It finds the new leader long before the questions have been held for too long.
        assert questions.named() == {next_one.port}
    shared.wait_healthy()


def test_a_survivor_holds_questions_and_answers_them_with_the_new_leader(shared: Cluster) -> None:
    with ExitStack() as closing:
        old = shared.leader()
        others = [node for node in shared.nodes if node is not old]
        questions = [Questions(node, closing) for node in others]
        name = others[0].info().leader
        old.signal(signal.SIGSTOP)
        try:
            # Its last proof lapses before the others have a new leader, if only just.
            eventually(lambda: others[0].info().leader != name, "the lease lapses")
            asked_at = time.monotonic()
            for one in questions:
                one.ask()
            named = [one.named() for one in questions]
            assert time.monotonic() - asked_at < 2.5
            new = eventually(lambda: _led_by(others), "another leader")
            assert all(one <= {new.port, None} for one in named)
            assert {new.port} in named
        finally:
            old.signal(signal.SIGCONT)
    shared.wait_healthy()


def _led_by(nodes: list[Node]) -> Node | None:
    seen = {node.info().leader for node in nodes}
    if len(seen) != 1 or None in seen:
        return None
    return next((node for node in nodes if node.sees(node).name in seen), None)
