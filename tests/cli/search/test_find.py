"""Finding the cluster, and what an address or a name stands for."""

from __future__ import annotations

import os

import httpx
import pytest

from hstore.cli.client.errors import Unreachable
from hstore.cli.search.sources import finder_of
from hstore.dns.resolver import Hosts
from hstore.node.discovery import run_record
from hstore.node.errors import ConfigError, Refused

A, B = "127.0.0.1:8500", "127.0.0.1:8501"


def test_what_dns_names_is_a_cluster_only_when_a_node_of_it_answers(make_finder, cluster, make):
    cluster.set(B, "/v1/cluster", make.info())
    found = make_finder([A, B]).find()
    assert (found.address, found.info) == (B, make.info())


def test_the_search_is_repeated_until_a_node_has_started(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    assert make_finder([], [], [A]).find().address == A


def test_nothing_found_is_status_3_and_says_what_was_tried_and_what_to_do(make_finder):
    with pytest.raises(Unreachable) as caught:
        make_finder([A]).find()
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert f"\n  fake, a node at {A}: nothing listens there\n" in message
    assert "`hstore start`" in message


def test_two_clusters_are_an_error_that_lists_both(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(B, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    with pytest.raises(Refused, match="2 clusters") as caught:
        make_finder([A, B]).find()
    assert caught.value.exit_code == 1
    for part in ("c1 of zone hstore.local (n1 at 127.0.0.1:8500)", "c2 of", "n2 at", "-h ADDR"):
        assert part in str(caught.value)


def test_a_node_that_knows_a_leader_is_preferred(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info(leader=None))
    cluster.set(B, "/v1/cluster", make.info())
    assert make_finder([A, B]).find().address == B


def test_one_look_is_enough_to_ask_whether_there_is_any(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    assert make_finder([], [A]).find_if_any() is None
    assert make_finder([A]).find_if_any().address == A


def test_a_named_node_is_waited_for_three_seconds(make_finder, cluster, clock, make):
    cluster.set(A, "/v1/cluster", [None, None, make.info()])
    assert make_finder().wait_for(A).address == A
    cluster.set(A, "/v1/cluster", None)
    started = clock.now()
    with pytest.raises(Unreachable):
        make_finder().wait_for(A)
    assert 2.5 < clock.now() - started <= 3


@pytest.mark.parametrize(
    ("where", "address"),
    [
        ("10.0.0.1:9000", "10.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("::1", "[::1]:8500"),
        ("10.0.0.1", "10.0.0.1:8500"),
        ("n2", "127.0.0.1:8501"),
        ("localhost", "localhost:8500"),
        ("Host.example", "Host.example:8500"),
    ],
)
def test_with_a_colon_it_is_an_address_else_a_nodes_name_else_a_host(
    make_finder, cluster, make, where, address
):
    cluster.set(A, "/v1/cluster", make.info())
    assert make_finder([A]).address_of(where) == address


def test_a_name_that_nobody_has_is_refused_with_the_names_there_are(
    make_finder, cluster, make, monkeypatch
):
    def unknown(*_arguments):
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(
        Refused, match=r"n9 is neither a node of .*which has n1, n2, n3, nor a host"
    ):
        make_finder([A]).address_of("n9")


def test_a_name_is_a_host_where_no_cluster_is_found(make_finder):
    assert make_finder().address_of("n2") == "n2:8500"


def test_what_is_neither_is_a_wrong_usage(make_finder):
    with pytest.raises(ConfigError, match="'a b' is neither a node's name nor"):
        make_finder().address_of("a b")


def test_a_cluster_without_a_leader_is_taken_when_none_with_one_has_come_up(
    make_finder, cluster, clock, make
):
    cluster.set(A, "/v1/cluster", make.info(leader=None))
    assert make_finder([A]).find().info.leader is None
    assert len(cluster.asked) > 3


def test_a_leader_that_is_elected_meanwhile_is_waited_for(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", [make.info(leader=None), make.info(leader=None), make.info()])
    assert make_finder([A]).find().info.leader == "n1"


def test_a_cluster_of_another_id_than_the_one_wanted_is_passed_over(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    cluster.set(B, "/v1/cluster", make.info())
    assert make_finder([A, B]).find("00000000000000c1").address == B
    with pytest.raises(Unreachable, match=f"{A}: is of another cluster, 00000000000000c2"):
        make_finder([A]).find("00000000000000c1")


def test_what_each_address_said_is_in_the_error_and_its_lines_are_short(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", httpx.Response(200, text="<html>"))
    cluster.strangers.add(A)
    with pytest.raises(Unreachable) as caught:
        make_finder([A, B]).find()
    lines = str(caught.value).splitlines()
    assert f"  fake, a node at {A}: did not answer as an hstore node" in lines
    assert f"  fake, a node at {B}: nothing listens there" in lines
    assert max(map(len, lines)) <= 100


def test_a_better_rank_wins_over_another_cluster_at_a_worse_one(cluster, make, make_finder):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(B, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    finder = make_finder([A])
    named = Hosts("discovery.hosts", [("127.0.0.1", 8501)])
    finder._sources = [*finder._sources, named]
    assert finder.find().info.cluster_id == "00000000000000c2"


def test_only_this_machine_is_asked_for_what_is_live_on_it(cluster, make, make_finder):
    cluster.set(B, "/v1/cluster", make.info())
    finder = make_finder([])
    finder._sources = [*finder._sources, Hosts("discovery.hosts", [("127.0.0.1", 8501)])]
    assert finder.find_here() is None
    assert finder.find_if_any().address == B


def at_once(make_finder, *named, elsewhere=()):
    """A finder that is told addresses, and has others from a search."""
    finder = make_finder(list(elsewhere))
    finder._named = lambda: list(named)
    return finder


def test_where_a_named_address_proves_the_cluster_nothing_is_searched(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    finder = at_once(make_finder, A)
    finder._given = lambda: pytest.fail("searched")
    assert finder.find().address == A
    found = finder.find_if_any()
    assert found is not None
    assert found.address == A


def test_two_clusters_at_named_addresses_are_an_error(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(B, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    with pytest.raises(Refused, match="2 clusters"):
        at_once(make_finder, A, B).find()


@pytest.mark.parametrize(
    "of_named",
    [{"leader": None}, {"zone": "other.example"}, {"cluster_id": "00000000000000c2"}, None],
)
def test_where_named_addresses_prove_nothing_the_search_goes_on(
    make_finder, cluster, make, of_named
):
    if of_named is not None:
        cluster.set(A, "/v1/cluster", make.info(**of_named))
    cluster.set(B, "/v1/cluster", make.info())
    finder = at_once(make_finder, A, elsewhere=[B])
    assert finder.find(make.info().cluster_id).address == B


OTHER = {"zone": "other.example", "cluster_id": "00000000000000c2"}


def test_a_cluster_of_another_zone_is_no_answer_when_the_zone_was_named(make_finder, cluster, make):
    # A write that was meant for another zone went into this cluster, with status 0.
    cluster.set(A, "/v1/cluster", make.info())
    finder = make_finder([A], zone="other.example", is_zone_given=True)
    with pytest.raises(Unreachable) as caught:
        finder.find()
    assert caught.value.exit_code == 3
    assert f"a node at {A}: is of cluster {make.info().cluster_id} of zone hstore.local" in str(
        caught.value
    )
    assert finder.find_if_any() is None
    assert finder.find_here() is None
    cluster.set(B, "/v1/cluster", make.info(**OTHER))
    assert make_finder([A, B], zone="other.example", is_zone_given=True).find().address == B
    # The default zone excludes nothing.
    assert make_finder([B]).find().address == B


def test_a_named_node_of_another_zone_is_refused_when_the_zone_was_named_too(
    make_finder, cluster, make
):
    cluster.set(A, "/v1/cluster", make.info())
    finder = make_finder([], zone="other.example", is_zone_given=True)
    for look in (finder.find_at, finder.address_at):
        with pytest.raises(Refused) as caught:
            look(A)
        assert caught.value.exit_code == 1
        for part in ("cluster 00000000000000c1 of zone hstore.local", "not of zone other.example"):
            assert part in str(caught.value)
    cluster.set(A, "/v1/cluster", make.info(**OTHER))
    assert finder.address_at(A) == A
    cluster.set(A, "/v1/cluster", None)
    assert make_finder([]).address_at(A) == A  # which is not even asked where no zone was named


def test_a_seed_that_does_not_know_its_zone_yet_is_waited_for(make_finder, cluster, make):
    fresh = make.info(nodes=[], leader=None)
    cluster.set(A, "/v1/cluster", [fresh, fresh, make.info(**OTHER)])
    finder = make_finder([], zone="other.example", is_zone_given=True)
    assert finder.wait_for(A).info.zone == "other.example"
    cluster.set(A, "/v1/cluster", fresh)
    with pytest.raises(Refused):
        finder.wait_for(A)


def test_a_search_goes_on_past_named_addresses_of_another_zone(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    finder = at_once(make_finder, A)
    finder.is_zone_given, finder.zone = True, "other.example"
    with pytest.raises(Unreachable):
        finder.find()


def test_a_search_without_success_names_what_can_be_started_again_here(
    make_finder, make, cluster, clock
):
    with pytest.raises(Unreachable, match="`hstore start` starts a cluster here"):
        make_finder().find()
    finder = make_finder()
    finder._recorded = lambda: [make.record(7), make.record(8, zone="other.example")]
    with pytest.raises(Unreachable) as caught:
        finder.find()
    assert "`hstore restart -h 127.0.0.1:8506` starts n7 again" in str(caught.value)
    assert "hstore start`" not in str(caught.value)
    assert "n8" not in str(caught.value)


def test_a_search_without_success_names_a_node_here_that_hangs(make_finder, make):
    finder = make_finder()
    finder._recorded = lambda: [make.record(7, pid=os.getpid())]
    with pytest.raises(
        Unreachable, match=f"n7 runs on this machine .process {os.getpid()}."
    ) as one:
        finder.find()
    assert "`hstore kill -h 127.0.0.1:8506` ends it" in str(one.value)
    assert "`hstore start`" not in str(one.value)


def test_advice_is_about_nodes_that_run_and_those_that_have_their_data(make, tmp_path):
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    for folder in ("ended", "runs"):
        (tmp_path / folder / "db").mkdir(parents=True)
    run_record.write(make.record(1, data_dir=str(tmp_path / "ended")), env)
    run_record.write(make.record(2, data_dir=str(tmp_path / "gone")), env)
    run_record.write(make.record(3, pid=os.getpid(), data_dir=str(tmp_path / "runs")), env)
    assert [one.name for one in finder_of({}, env)._recorded()] == ["n3", "n1"]
