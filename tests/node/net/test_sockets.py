"""Which ports a node gets, with real sockets on loopback addresses that nobody else uses."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from hstore.node.config.settings import load_settings
from hstore.node.errors import Refused
from hstore.node.model.values import Address
from hstore.node.net import sockets as sockets_module
from hstore.node.net.sockets import AddressTaken, bind_first_free, bind_node_sockets

# Any of 127.0.0.0/8 is this machine; one per test process, so that runs do not meet.
HOST = f"127.{os.getpid() % 200 + 10}.{os.getpid() // 200 % 250}.1"
ENV = {"HOME": "/home/ada"}


def settings_at(port=8500, **flags):
    return load_settings({"listen": f"{HOST}:{port}", **flags}, ENV)


def port_of(one):
    return one.getsockname()[1]


def test_the_four_sockets_have_the_ports_of_the_settings_and_listen():
    sockets = bind_node_sockets(settings_at())
    try:
        found = [port_of(s) for s in (sockets.api, sockets.peer, sockets.dns_udp, sockets.dns_tcp)]
        assert found == [8500, 8300, 8600, 8600]
        socket.create_connection((HOST, 8300), timeout=2).close()
    finally:
        sockets.close()


def test_of_nodes_that_bind_before_any_serves_each_gets_its_own_ports():
    held = []
    try:
        for expected in (8500, 8501, 8502):
            chosen, sockets = bind_first_free(settings_at(), ENV)
            held.append(sockets)
            assert chosen.listen.port == port_of(sockets.api) == expected
            assert chosen.data_dir.name == str(expected)
    finally:
        for sockets in held:
            sockets.close()


@pytest.mark.parametrize(
    ("kind", "port", "role"),
    [
        (socket.SOCK_STREAM, 8500, "API"),
        (socket.SOCK_STREAM, 8300, "peer"),
        (socket.SOCK_DGRAM, 8600, "DNS"),
        (socket.SOCK_STREAM, 8600, "DNS"),
    ],
)
def test_one_port_that_is_taken_is_named_and_frees_the_others(kind, port, role):
    with socket.socket(socket.AF_INET, kind) as other:
        # The other asks to share, as careless programs do: a live node must not.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(AddressTaken, match=f"the {role} port {HOST}:{port} is taken"):
            bind_node_sockets(settings_at())
        chosen, sockets = bind_first_free(settings_at(), ENV)
        sockets.close()
        assert chosen.listen.port == 8501
    bind_node_sockets(settings_at()).close()


def test_a_node_gets_its_port_back_while_connections_of_its_last_life_linger():
    first = bind_node_sockets(settings_at())
    first.api.setblocking(True)
    client = socket.create_connection((HOST, 8500), timeout=2)
    server, _ = first.api.accept()
    # The side that closes first keeps the port in TIME_WAIT.
    server.close()
    client.close()
    first.close()
    bind_node_sockets(settings_at()).close()


def test_when_no_port_is_free_the_error_says_what_to_do():
    with socket.socket() as other:
        other.bind((HOST, 8300))
        other.listen()
        with pytest.raises(Refused, match=r"none of the 100 API ports.*--listen"):
            bind_first_free(settings_at(peer_port=8300), ENV)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_ipv6_wildcard_takes_connections_to_every_address_of_the_machine(host):
    port = 20000 + os.getpid() % 10000  # nobody else is at all addresses of these
    sockets = bind_node_sockets(
        load_settings({"listen": f"[::]:{port}", "advertise": "192.0.2.7"}, ENV)
    )
    try:
        for one in (sockets.api, sockets.peer, sockets.dns_tcp):
            socket.create_connection((host, port_of(one)), timeout=2).close()
    finally:
        sockets.close()


def test_an_address_that_this_machine_does_not_have_yet_is_no_wrong_setting():
    """A service that starts at boot before its address is up is started again; with 2 it is not."""
    with pytest.raises(Refused, match=r"192\.0\.2\.1:8500.*no such address now") as error:
        bind_node_sockets(load_settings({"listen": "192.0.2.1"}, ENV))
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.EADDRINUSE, 1),
        (errno.EADDRNOTAVAIL, 1),
        (errno.EMFILE, 1),
        (errno.ENOBUFS, 1),
        (errno.ENETDOWN, 1),
        (errno.EACCES, 2),  # a port below 1024
        (errno.EAFNOSUPPORT, 2),
        (errno.EINVAL, 2),
    ],
)
def test_status_2_only_where_another_start_cannot_help(number, status):
    error = sockets_module._translated("API", Address("127.0.0.1", 8500), OSError(number, "x"))
    assert error.exit_code == status


def test_an_address_that_the_resolver_does_not_take_has_its_reason():
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    translated = sockets_module._translated("API", Address("fe80::1%none", 8500), error)
    assert str(translated).endswith("Name or service not known")
