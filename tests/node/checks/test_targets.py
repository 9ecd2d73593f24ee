"""Names become addresses, and `checks.deny` judges what is connected to."""

from __future__ import annotations

import ipaddress
import socket
import threading

import pytest
import trio

from hstore.node.checks.connections import Tls, connect
from hstore.node.checks.probe_tcp import TcpProbe
from hstore.node.checks.targets import ADDRESSES_MAX, BadTarget, Place, Targets
from hstore.node.config.settings import CHECKS_DENY
from hstore.node.model.checks import CheckDefinition
from tests.node.checks.targets_in_memory import answering, free_port, timed


def targets(*deny: str) -> Targets:
    return Targets([ipaddress.ip_network(one) for one in deny])


@pytest.mark.parametrize(
    ("host", "deny"),
    [
        ("169.254.169.254", "169.254.169.254"),
        ("169.254.1.2", "169.254.0.0/16"),
        ("::ffff:169.254.169.254", "169.254.169.254"),
        ("::ffff:a9fe:a9fe", "169.254.169.254"),
        ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("2002:a9fe:a9fe::1", "169.254.169.254"),
        ("fd00:ec2::254", "fd00:ec2::254"),
        ("FD00:0EC2:0:0::254", "fd00:ec2::/32"),
        ("0.0.0.0", "127.0.0.0/8"),
        ("::", "::1"),
        ("localhost", "127.0.0.0/8"),
        ("localhost", "::1"),
        ("169.254.43518", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("0xA9.0xFE.0xA9.0xFE", "169.254.169.254"),
    ],
)
async def test_an_address_is_denied_however_it_is_written(host, deny):
    with pytest.raises(BadTarget, match=r"is in checks\.deny"):
        await targets(deny).find(host, 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.1", "fd00:ec2::253"])
async def test_other_addresses_are_not_denied_by_default(host):
    found = await Targets(CHECKS_DENY).find(host, 80)
    assert [place.address[:2] for place in found] == [(host, 80)]


async def test_a_name_is_denied_where_any_of_its_addresses_is(monkeypatch):
    def look_up(_host, port, **_more):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00:ec2::254", port, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert len(await targets().find("two.example", 80)) == 2
    with pytest.raises(BadTarget, match="target fd00:ec2::254 is in"):
        await Targets(CHECKS_DENY).find("two.example", 80)


async def test_a_name_without_an_address_says_so(monkeypatch):
    def look_up(*_args, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(BadTarget, match=r"cannot find 'no\.example': Name or service not known"):
        await targets().find("no.example", 80)


@pytest.mark.parametrize("host", ["x" * 300, "a..b", "\udcff", "a\x00b"])
async def test_what_is_no_name_is_refused_without_more(host):
    with pytest.raises(BadTarget):
        await targets().find(host, 80)


async def test_a_name_with_very_many_addresses_is_tried_at_a_few(monkeypatch):
    def look_up(_host, port, **_more):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{one}", port))
            for one in range(200)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert len(await targets().find("many.example", 80)) == ADDRESSES_MAX


async def test_look_ups_that_hang_hold_eight_threads_and_no_check_longer_than_its_time(monkeypatch):
    release, running = threading.Event(), []

    def look_up(host, _port, **_more):
        running.append(host)
        release.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = targets()
    late = 0

    async def ask(number: int) -> None:
        nonlocal late
        with trio.move_on_after(0.2) as scope:
            await found.find(f"slow{number}.example", 80)
        late += scope.cancelled_caught

    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(ask, number)
        assert late == 50
        assert len(running) == 8
    finally:
        release.set()


# --- connections ------------------------------------------------------------------------------


async def test_all_addresses_of_a_name_are_tried_and_a_silent_one_has_only_its_share():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with answering(b"") as target:
            places = [
                Place(socket.AF_INET, ("127.0.0.1", free_port())),
                Place(socket.AF_INET, full.getsockname()),
                Place(socket.AF_INET, ("127.0.0.1", target.port)),
            ]
            with trio.fail_after(1.2):
                sock = await connect(places)
            assert sock.getpeername()[1] == target.port
            sock.close()
        for one in waiting:
            one.close()


async def test_a_connection_to_itself_is_none():
    # A port that nobody listens on and that is the next to be given to an outgoing connection.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    real = socket.socket

    class Bound(real):  # type: ignore[misc, valid-type]
        def connect_ex(self, address):
            if self.getsockname()[1] == 0:
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.bind(("127.0.0.1", port))
            return super().connect_ex(address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Bound)
        with pytest.raises(ConnectionRefusedError, match="connected to itself"):
            await connect([Place(socket.AF_INET, ("127.0.0.1", port))])


async def tcp(address: str, timeout_s: float = 3.0, *deny: str):
    probe = TcpProbe(targets(*deny), Tls())
    return await timed(probe, CheckDefinition(kind="tcp", tcp=address), timeout_s)


async def test_a_port_that_takes_connections_passes():
    async with answering(b"") as target:
        assert await tcp(f"127.0.0.1:{target.port}") == (
            "passing",
            f"TCP connect 127.0.0.1:{target.port}: Success",
        )
        assert (await tcp(f"localhost:{target.port}")).status == "passing"


async def test_a_port_that_refuses_is_critical():
    port = free_port()
    assert await tcp(f"127.0.0.1:{port}") == (
        "critical",
        f"TCP connect 127.0.0.1:{port}: connection refused",
    )


async def test_an_address_that_is_denied_is_not_connected_to():
    async with answering(b"") as target:
        verdict = await tcp(f"127.0.0.1:{target.port}", 3.0, "127.0.0.0/8")
        assert target.requests == target.ended == []
    assert verdict.output.endswith("target 127.0.0.1 is in checks.deny")


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":80", "host:0", "host:65536", "h:x", "h:²"]
)
async def test_what_is_no_address_is_critical(address):
    verdict = await tcp(address)
    assert verdict == ("critical", f"TCP connect {address}: not HOST:PORT")


async def test_tls_with_what_speaks_none_is_critical():
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", serve=None) as target:
        probe = TcpProbe(targets(), Tls())
        definition = CheckDefinition(kind="tcp", tcp=f"127.0.0.1:{target.port}", tcp_tls=True)
        verdict = await timed(probe, definition, 0.3)
    assert verdict.status == "critical"


@pytest.mark.parametrize("name", [".a", "ä" * 70, "a\0b", "\ud800"])
async def test_a_name_that_no_certificate_can_have_is_critical(name):
    async with answering(b"") as target:
        address = f"127.0.0.1:{target.port}"
        definition = CheckDefinition("tcp", tcp=address, tcp_tls=True, tls_server_name=name)
        verdict = await timed(TcpProbe(targets(), Tls()), definition, 3)
    assert verdict.status == "critical"
    assert verdict.output.startswith(f"TCP connect {address}: not a host name for TLS: '")
