"""One configuration file on several machines: which node is which, who begins, who waits and joins."""

from __future__ import annotations

import os
import signal

import httpx
import pytest
import structlog

from hstore.cli.process import start, together
from hstore.node.config.settings import load_settings
from hstore.node.discovery.saved_members import SavedMember, SavedMembers, write
from hstore.node.errors import ConfigError, Refused
from hstore.node.model import values
from hstore.node.storage.directory import replace_identity
from hstore.node.storage.interface import Identity

A, B, C = (f"192.0.2.{number}:8500" for number in (1, 2, 3))
FILE = f'expect = 3\n[discovery]\nhosts = ["{A}", "192.0.2.2", "{C}"]\n'


@pytest.fixture(autouse=True)
def _own_log():
    """A node that waits sets up the log of its process, which is this one."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def env(tmp_path):
    return {"HOME": str(tmp_path)}


@pytest.fixture
def load(tmp_path, env):
    """Load the settings of a node with such a file."""

    def settings(text=FILE, **flags):
        path = tmp_path / "hstore.toml"
        path.write_text(text)
        return load_settings({"config": str(path), **flags}, env)

    return settings


@pytest.fixture
def machine(monkeypatch):
    """Make these the only addresses of this machine."""

    def make(*own):
        monkeypatch.setattr(together, "is_this_machine", lambda address: address in own)
        # There is a network.
        monkeypatch.setattr(together, "own_address_towards", lambda _address: "192.0.2.9")

    return make


# -- which node this is -----------------------------------------------------------------------


@pytest.mark.parametrize("own", [A, B, C])
def test_without_an_address_a_node_is_the_one_of_the_list_that_is_of_this_machine(
    load, env, machine, own, tmp_path
):
    machine(own)
    placed = together.place(load(), env)
    assert str(placed.listen) == placed.api_address == own
    assert placed.peer_address == own.replace("8500", "8300")
    assert placed.data_dir == tmp_path / ".local/share/hstore/8500"
    assert "listen" in placed.given


def test_ports_and_the_directory_follow_the_port_of_the_list(load, env, machine, tmp_path):
    machine("192.0.2.2:8700")
    placed = together.place(
        load('expect = 2\ndiscovery.hosts = ["192.0.2.1", "192.0.2.2:8700"]'), env
    )
    assert (placed.peer_port, placed.dns_port) == (8500, 8800)
    assert placed.data_dir == tmp_path / ".local/share/hstore/8700"
    named = load('expect = 2\ndiscovery.hosts = ["192.0.2.2:8700"]', dns_port="53", data_dir="/d")
    assert (together.place(named, env).dns_port, str(named.data_dir)) == (53, "/d")


def test_who_listens_everywhere_advertises_its_address_of_the_list(load, env, machine):
    machine(B)
    placed = together.place(load(listen="0.0.0.0:8500"), env)
    assert (str(placed.listen), placed.api_address) == ("0.0.0.0:8500", B)
    with pytest.raises(ConfigError, match="none of them is an address of this machine"):
        together.place(load(listen="0.0.0.0:8501"), env)


def test_an_address_that_is_given_is_not_changed(load, env, machine):
    machine(B)
    given = load(listen="192.0.2.7:8500")
    assert together.place(given, env) == given
    advertised = load(listen="0.0.0.0:8500", advertise="192.0.2.3")
    assert together.place(advertised, env) == advertised


@pytest.mark.parametrize(
    "text", ["expect = 3", f'discovery.hosts = ["{A}"]', f'expect = 1\ndiscovery.hosts = ["{A}"]']
)
def test_where_no_list_is_expected_nothing_changes(load, env, machine, text):
    machine(A)
    assert str(together.place(load(text), env).listen) == "127.0.0.1:8500"
    with pytest.raises(ConfigError, match="--advertise ADDR"):
        load(text, listen="0.0.0.0:8500")


def test_the_host_of_a_variable_is_no_part_of_the_list(load, env, machine):
    machine(A)
    env["HSTORE_HOST"] = "192.0.2.77"
    settings = load()
    assert [str(one) for one in settings.discovery.listed] == [A, B, C]
    assert str(settings.discovery.hosts[0]) == "192.0.2.77:8500"


def test_an_address_that_is_there_twice_is_one(load, env, machine, monkeypatch):
    machine(A)
    monkeypatch.setattr(
        together, "_listed", lambda _: together._Listed([values.address(A)] * 2, [])
    )
    assert str(together.place(load(), env).listen) == A


def test_two_addresses_of_this_machine_have_to_be_told_apart(load, env, machine):
    machine(A, C)
    with pytest.raises(ConfigError, match=f"{A} and {C} are all of this machine; say with -h"):
        together.place(load(), env)


def test_a_node_that_is_not_in_the_list_is_wrong_configuration_and_the_list_is_named(
    load, env, machine
):
    machine()
    for refuse in (
        lambda: together.place(load(), env),
        lambda: together.refuse_unlisted(load(listen="192.0.2.1:8501")),
    ):
        with pytest.raises(
            ConfigError, match=f"has {A}, {B}, {C}, and .*lists all nodes"
        ) as caught:
            refuse()
        assert caught.value.exit_code == 2


def test_before_the_network_is_up_a_service_is_started_again(load, env, machine, monkeypatch):
    machine()
    monkeypatch.setattr(together, "own_address_towards", lambda _address: None)
    with pytest.raises(Refused, match="has no network yet") as caught:
        together.place(load(), env)
    assert caught.value.exit_code == 1


def test_a_name_of_the_list_that_does_not_resolve_yet_is_status_1(load, env, machine):
    machine()
    text = f'expect = 2\ndiscovery.hosts = ["{A}", "no-such.invalid"]'
    with pytest.raises(Refused, match=r"no-such\.invalid cannot be resolved now") as caught:
        together.place(load(text), env)
    assert caught.value.exit_code == 1


def test_a_name_of_the_list_is_the_address_that_it_resolves_to(load, env, machine):
    machine("127.0.0.1:8500")
    text = f'expect = 2\ndiscovery.hosts = ["{A}", "localhost"]'
    placed = together.place(load(text), env)
    assert str(placed.listen) == "127.0.0.1:8500"
    together.refuse_unlisted(placed)


# -- who begins, who waits --------------------------------------------------------------------


def test_the_first_of_the_list_begins_when_no_other_answers(load, make_finder, clock):
    told: list[str] = []
    assert together.ways_in(load(listen=A), make_finder(), told.append) == ()
    assert (told, clock.now()) == ([], 0)


@pytest.mark.parametrize(("expect", "is_told"), [(3, False), (5, True)])
def test_a_list_that_is_shorter_than_what_is_expected_is_told_in_the_log(
    load, make_finder, expect, is_told, monkeypatch
):
    """The cluster waits for nodes that the file does not name."""
    said: list[tuple[str, object, object]] = []
    monkeypatch.setattr(
        together._log,
        "warning",
        lambda event, **more: said.append((event, more["hosts"], more["expect"])),
    )
    text = FILE.replace("expect = 3", f"expect = {expect}")
    assert together.ways_in(load(text, listen=A), make_finder(), lambda _: None) == ()
    assert said == [("fewer nodes are listed than expected", 3, 5)][: int(is_told)]


def test_who_is_second_does_not_begin_while_the_name_of_the_first_is_unknown(
    load, make_finder, cluster, clock, make
):
    told: list[str] = []
    cluster.set(C, "/v1/cluster", [None] * 9 + [make.info(make.node(3, address=C))])
    text = f'expect = 3\ndiscovery.hosts = ["no-such.invalid", "{B}", "{C}"]'
    assert together.ways_in(load(text, listen=B), make_finder(), told.append) == (C,)
    first = "no-such.invalid:8500, the first of discovery.hosts, begins the cluster"
    assert told == [f"{first}, and its name does not resolve yet"]


def test_the_others_wait_for_as_long_as_it_takes_say_why_and_join(
    load, make_finder, cluster, clock, make
):
    told: list[str] = []
    real = clock.sleep

    def sleep(seconds):
        real(seconds)
        if clock.now() > 600:
            cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A)))

    clock.sleep = sleep
    assert together.ways_in(load(listen=C), make_finder(), told.append) == (A,)
    assert clock.now() > 600
    assert set(told) == {
        f"{A}, the first of discovery.hosts, begins the cluster, and nothing listens there: start it"
    }
    assert 10 <= len(told) <= 11, "it says so once in a minute"


def test_what_a_node_waits_for_is_said_again_when_it_changes(load, make_finder, cluster, make):
    told: list[str] = []
    info = make.info(make.node(1, address=A))
    cluster.set(A, "/v1/cluster", [httpx.ReadTimeout(""), make.info(leader=None), info])
    assert together.ways_in(load(listen=C), make_finder(), told.append) == (A,)
    assert ["does not answer yet" in told[0], "has no leader" in told[1]] == [True, True]


def test_a_cluster_that_waits_for_nodes_is_joined_though_it_names_no_leader(
    load, make_finder, cluster, make
):
    info = make.info(make.node(1, address=A), leader=None, waiting_for=3)
    cluster.set(A, "/v1/cluster", info)
    assert together.ways_in(load(listen=B), make_finder(), print) == (A,)


def test_any_listed_member_will_do(load, make_finder, cluster, make):
    members = [make.node(1, address=A, health="failed"), make.node(2, address=B)]
    cluster.set(B, "/v1/cluster", make.info(*members))
    assert together.ways_in(load(listen=C), make_finder(), print) == (B,)


def test_the_first_joins_a_cluster_that_lives_at_the_others(load, make_finder, cluster, make):
    cluster.set(C, "/v1/cluster", make.info(make.node(3, address=C)))
    assert together.ways_in(load(listen=A), make_finder(), print) == (C,)


def test_the_first_begins_no_second_cluster_beside_one_without_a_leader(
    load, make_finder, cluster, make
):
    told: list[str] = []
    info = make.info(make.node(3, address=C))
    cluster.set(C, "/v1/cluster", [make.info(make.node(3, address=C), leader=None)] * 9 + [info])
    assert together.ways_in(load(listen=A), make_finder(), told.append) == (C,)
    assert len(told) == 1


def test_a_first_node_that_lost_its_disk_is_left_to_the_refusal_of_a_seed(
    load, make_finder, cluster, make
):
    members = [make.node(1, address=A), make.node(2, address=B)]
    cluster.set(B, "/v1/cluster", make.info(*members))
    assert together.ways_in(load(listen=A), make_finder(), print) == ()


def test_nodes_of_two_clusters_in_one_list_are_an_error(load, make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A)))
    cluster.set(B, "/v1/cluster", make.info(make.node(2, address=B), cluster_id="c2"))
    with pytest.raises(Refused, match=r"of several clusters: .*correct the list"):
        together.ways_in(load(listen=C), make_finder(), print)


def test_a_cluster_of_another_zone_than_the_named_one_is_an_error(load, make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A), zone="other.example"))
    finder = make_finder(zone="hstore.example", is_zone_given=True)
    with pytest.raises(Refused, match=r"not of zone hstore\.example"):
        together.ways_in(load(listen=C), finder, print)


def test_sigterm_ends_a_node_that_waits(load, make_finder, clock):
    before = signal.getsignal(signal.SIGTERM)
    clock.sleep = lambda _seconds: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(together.Ended):
        together.ways_in(load(listen=C), make_finder(), print)
    assert signal.getsignal(signal.SIGTERM) is before


# -- what `start` does with it ----------------------------------------------------------------


@pytest.fixture
def started(monkeypatch, env, load, make_finder, machine, tmp_path):
    """Run `start` with the file; return (mode, join_to) of the node that would run."""
    calls = []

    def serve(_settings, _sockets, mode, join_to, _settle):
        calls.append((mode, join_to))
        return 0

    class Sockets:
        def close(self):
            pass

    monkeypatch.setattr(start, "_serve", serve)
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: Sockets())

    def run(own, **flags):
        machine(own)
        load()
        given = {"config": str(tmp_path / "hstore.toml"), **flags}
        assert start.start_node(given, env, make_finder()) == 0
        return calls[-1]

    return run


def use(tmp_path, *, is_member):
    directory = tmp_path / ".local/share/hstore/8500"
    (directory / "db").mkdir(parents=True)
    replace_identity(directory, Identity("c1", 1), "")
    if is_member:
        members = (SavedMember(f"{1:016x}", "n1", A, A, A),)
        write(directory, SavedMembers("c1", "hstore.local", members))


def test_start_of_the_first_begins_and_of_another_joins(started, cluster, make):
    assert started(A) == ("start", ())
    cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A)))
    assert started(B) == ("join", (A,))


@pytest.mark.parametrize("own", [A, B])
def test_start_of_a_member_asks_nobody(started, cluster, tmp_path, own):
    use(tmp_path, is_member=True)
    assert started(own) == ("start", ())
    assert cluster.asked == []


@pytest.mark.parametrize("leader", ["n1", None])
def test_start_finishes_a_join_that_was_cut_short(started, cluster, make, tmp_path, leader):
    """It may have been cut short so late that the others miss its vote."""
    use(tmp_path, is_member=False)
    cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A), leader=leader))
    assert started(B) == ("join", (A,))


def test_a_node_that_was_made_a_cluster_of_its_own_waits_for_no_other(started, tmp_path, cluster):
    """`hstore recover` forgets the members: the first of the list may be lost."""
    use(tmp_path, is_member=False)
    directory = tmp_path / ".local/share/hstore/8500"
    replace_identity(directory, Identity("c2", 2), "c1")
    assert started(B) == ("start", ())
    assert cluster.asked == []


def test_new_cluster_begins_wherever_it_is_said(started, cluster, make):
    cluster.set(A, "/v1/cluster", make.info(make.node(1, address=A)))
    assert started(B, new_cluster=True) == ("start", ())
