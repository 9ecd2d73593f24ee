"""Where the command line looks, and in which order."""

from __future__ import annotations

from typing import Any

from hstore.cli.search.sources import named, sources
from hstore.dns.finder import Rank
from hstore.node.config.settings import Discovery
from hstore.node.discovery.saved_members import SavedMember, SavedMembers, write
from hstore.node.model.values import Address


def test_all_five_sources_are_asked_best_first():
    found = sources(Discovery())
    assert [source.rank for source in found] == [
        Rank.NAMED,
        Rank.SERVERS,
        Rank.HERE,
        Rank.SYSTEM,
        Rank.SYSTEM,
        Rank.LINK,
    ]


def test_what_the_settings_name_is_asked_and_multicast_can_be_turned_off():
    named, dns = Address("db1", 8500), Address("10.0.0.53", 53)
    found: list[Any] = sources(Discovery(hosts=(named,), dns=(dns,), mdns=False))
    hosts, servers, *others = found
    assert list(hosts.addresses) == [named]
    assert list(servers.servers) == [dns]
    assert all(source.rank != Rank.LINK for source in others)


def test_the_members_saved_in_the_data_directory_are_asked(tmp_path):
    one = SavedMember("00000000000000a1", "n1", "10.0.0.1:8500", "10.0.0.1:8300", "10.0.0.1:8600")
    write(tmp_path, SavedMembers("00000000000000c1", "hstore.local", (one,)))
    found: list[Any] = sources(Discovery(), tmp_path)
    _hosts, saved, *_others = found
    assert (saved.rank, list(saved.addresses)) == (Rank.NAMED, [("10.0.0.1", 8500)])
    assert str(tmp_path) in saved.name
    assert len(sources(Discovery(), tmp_path / "none")) == 6


def test_recorded_servers_are_asked_as_nodes_of_this_machine():
    here: Any = sources(Discovery(), recorded=[("127.0.0.1", 9999)])[2]
    assert ("127.0.0.1", 9999) in here.servers


def test_addresses_are_asked_at_once_and_host_names_only_by_the_search(tmp_path):
    one = SavedMember("00000000000000a1", "n1", "10.0.0.1:8500", "10.0.0.1:8300", "10.0.0.1:8600")
    write(tmp_path, SavedMembers("00000000000000c1", "hstore.local", (one,)))
    there = Address("10.0.0.9", 8500)
    assert named(Discovery(hosts=(there,)), tmp_path) == ["10.0.0.9:8500", "10.0.0.1:8500"]
    assert named(Discovery(hosts=(there, Address("db1", 8500))), tmp_path) == []
    assert named(Discovery(), None) == []
