"""Orders for a cluster go to a member on this machine; a refusal says where else to type them."""

from __future__ import annotations

import os
import socket

import httpx
import pytest

from hstore.cli.client.errors import Forbidden
from hstore.cli.search import here
from hstore.cli.search.here import Way, address_here, explained, is_this_machine, way_to
from hstore.node.discovery import run_record
from hstore.node.errors import Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))
FAR = "192.0.2.9:8500"


@pytest.fixture
def env(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def only(monkeypatch):
    """Make these the only addresses of this machine."""

    def make(*addresses):
        monkeypatch.setattr(here, "is_this_machine", lambda address: address in addresses)

    return make


def test_an_address_is_of_this_machine_when_both_ends_are_the_same_or_loopback():
    for address in (A, "127.8.7.6:8500", "localhost:8500", "[::1]:8500"):
        assert is_this_machine(address)
    assert not is_this_machine(FAR)
    assert not is_this_machine("no-such-host.invalid:8500")


def test_an_own_address_beyond_loopback_is_of_this_machine():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        own = one.getsockname()[0]
    assert is_this_machine(f"{own}:8500")


def test_a_member_here_is_known_by_its_run_record_or_its_address(env, only, make):
    info = make.info()
    only()
    assert address_here(info, env) == ""
    only(B)
    assert address_here(info, env) == B
    run_record.write(make.record(3, pid=os.getpid()), env)
    only()
    assert address_here(info, env) == C


def test_a_member_that_listens_everywhere_is_asked_at_loopback(env, only, make):
    only()
    run_record.write(
        make.record(3, pid=os.getpid(), listen="0.0.0.0:8502", address="192.0.2.3:8502"), env
    )
    assert address_here(make.info(), env) == C


def test_a_live_member_here_comes_before_one_that_is_not(env, only, make):
    only(A, B)
    dead = make.node(1, health="failed")
    assert address_here(make.info(dead, make.node(2)), env) == B
    assert address_here(make.info(dead), env) == ""


def test_without_a_host_an_order_goes_to_the_member_here_not_to_the_one_that_was_found(
    env, only, make, make_finder, cluster
):
    cluster.set(A, "/v1/cluster", make.info())
    only(C)
    assert way_to(None, env, make_finder([A])) == Way(C)
    only()
    assert way_to(None, env, make_finder([A])) == Way(A)


@pytest.mark.parametrize("host", [A, "n1"])
def test_an_order_that_names_a_node_elsewhere_goes_through_the_member_here(
    env, only, make, make_finder, cluster, host
):
    info = make.info()
    cluster.set(A, "/v1/cluster", info)
    only(C)
    assert way_to(host, env, make_finder([A])) == Way(C, info.nodes[0])
    only()
    assert way_to(host, env, make_finder([A])) == Way(A)
    only(A)
    assert way_to(host, env, make_finder([A])) == Way(A)


def test_an_order_about_a_dead_node_goes_through_the_member_here(
    env, only, make, make_finder, cluster
):
    info = make.info()
    cluster.set(C, "/v1/cluster", info)
    only(C)
    assert way_to(A, env, make_finder([C])) == Way(C, info.nodes[0])
    assert way_to("n1", env, make_finder([C])) == Way(C, info.nodes[0])


def test_a_refusal_says_where_the_command_has_to_be_typed(only):
    only(A)
    with pytest.raises(
        Refused, match=rf"(?s)not here\non the machine of {FAR}: `hstore stop -h x`"
    ):
        with explained(FAR, "hstore stop -h x"):
            raise Forbidden("not here")
    with pytest.raises(Forbidden, match=r"^another reason$"):
        with explained(A, "hstore stop -h x"):
            raise Forbidden("another reason")


def test_status_403_is_told_from_other_refusals(make_finder, cluster):
    cluster.set(A, "/v1/node/stop", httpx.Response(403, json={"error": "not from there"}))
    with pytest.raises(Forbidden, match="not from there"), make_finder().connect(A, 1.0) as client:
        client.stop()
