"""Which node of this machine a user means."""

from __future__ import annotations

import os

import pytest

from hstore.cli.search.local import named_node
from hstore.node.discovery import run_record
from hstore.node.errors import Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


@pytest.fixture
def env(tmp_path):
    return {"HOME": str(tmp_path)}


@pytest.fixture
def remember(env, make):
    """Write a record, each later than the one before."""
    written = []

    def write(number, **changes):
        record = make.record(number, **changes)
        run_record.write(record, env)
        written.append(record)
        folder = run_record.folder(env)
        assert folder is not None
        file = folder / run_record._file_name(record.data_dir)
        os.utime(file, ns=(len(written), len(written)))
        return record

    return write


def test_an_address_that_nobody_had_here_is_just_an_address(env, make_finder):
    node = named_node("192.0.2.7:8500", env, make_finder())
    assert (node.address, node.record) == ("192.0.2.7:8500", None)
    assert str(node) == "the node at 192.0.2.7:8500"


@pytest.mark.parametrize("said", ["127.0.0.1:8500", "127.0.0.1", "localhost:8500"])
def test_an_address_finds_the_record_of_who_was_there_last(env, make_finder, remember, said):
    remember(1, data_dir="/first")
    last = remember(1, data_dir="/second", node_id=f"{9:016x}")
    remember(2)
    assert named_node(said, env, make_finder()).record == last


@pytest.mark.parametrize("said", ["n1", "192.0.2.7:8500", "192.0.2.7"])
@pytest.mark.parametrize("listen", ["0.0.0.0:8500", "[::]:8500"])
def test_who_runs_here_at_every_address_is_asked_on_loopback(
    env, make_finder, remember, said, listen
):
    """Only there it does what is for programs on its own machine, such as to stop."""
    record = remember(1, listen=listen, address="192.0.2.7:8500", pid=os.getpid())
    node = named_node(said, env, make_finder())
    assert (node.address, node.record) == (A, record)


def test_who_listens_at_one_address_is_asked_there(env, make_finder, remember):
    remember(1, listen="192.0.2.7:8500", address="192.0.2.7:8500", pid=os.getpid())
    assert named_node("n1", env, make_finder()).address == "192.0.2.7:8500"


def test_at_an_address_who_runs_comes_before_who_was_there_later(env, make_finder, remember):
    lives = remember(1, data_dir="/first", pid=os.getpid())
    remember(1, data_dir="/second")
    node = named_node(A, env, make_finder())
    assert node.record == lives
    assert node.is_running_here


def test_loopback_finds_a_node_that_listens_everywhere(env, make_finder, remember):
    record = remember(1, listen="0.0.0.0:8500", address="192.0.2.7:8500")
    assert named_node(A, env, make_finder()).record == record
    assert named_node(B, env, make_finder()).record is None


def test_a_name_is_that_of_a_running_node_then_of_a_member_then_of_one_that_ran(
    env, make_finder, cluster, make, remember
):
    ended = remember(2, address=C, listen=C)
    assert named_node("n2", env, make_finder()).record == ended
    cluster.set(A, "/v1/cluster", make.info())
    assert named_node("n2", env, make_finder([A])).address == B
    runs = remember(2, address="127.0.0.1:9000", listen="127.0.0.1:9000", pid=os.getpid())
    assert named_node("n2", env, make_finder([A])).record == runs


def test_a_member_found_by_name_comes_with_its_own_record_only(
    env, make_finder, cluster, make, remember
):
    remember(2, node_id=f"{9:016x}")
    cluster.set(A, "/v1/cluster", make.info())
    assert named_node("n2", env, make_finder([A])).record is None
    own = remember(2)
    assert named_node("n2", env, make_finder([A])).record == own


def test_a_name_in_two_clusters_is_refused_with_both_addresses(env, make_finder, remember):
    remember(2, pid=os.getpid(), data_dir="/a")
    remember(2, pid=os.getpid(), data_dir="/b", cluster_id="another", address=C)
    with pytest.raises(Refused, match=f"(?s)several clusters.*{C}.*{B}"):
        named_node("n2", env, make_finder())


def test_a_name_in_another_zone_is_another_name(env, make_finder, remember):
    record = remember(2, zone="other.example")
    assert named_node("n2", env, make_finder(zone="other.example")).record == record
    assert named_node("n2", env, make_finder()).record is None


def test_a_node_in_another_network_is_not_at_our_addresses(env, make_finder, remember, monkeypatch):
    remember(1, pid=os.getpid())
    monkeypatch.setattr(run_record, "shares_network", lambda _record: False)
    assert named_node(A, env, make_finder()).record is None


def test_the_others_that_run_here_are_the_neighbours(env, make_finder, remember):
    remember(1)
    remember(2, pid=os.getpid())
    remember(3)
    assert named_node(A, env, make_finder()).neighbours == (B,)


def test_a_node_of_another_zone_than_the_named_one_is_not_meant(
    env, make_finder, cluster, make, remember
):
    finder = make_finder(zone="other.example", is_zone_given=True)
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match=r"c1 of zone hstore\.local .*not of zone other\.example"):
        named_node(A, env, finder)
    cluster.set(A, "/v1/cluster", None)
    assert named_node(A, env, finder).address == A  # it is silent, and nothing is known of it
    remember(1)
    with pytest.raises(Refused, match=r"zone hstore\.local \(n1 at 127\.0\.0\.1:8500\) is not of"):
        named_node(A, env, finder)
    assert named_node(A, env, make_finder(zone="hstore.local", is_zone_given=True)).record
