"""What a command's finder is made of: everybody's sources, and the addresses asked before them."""

from __future__ import annotations

from hstore.cli.search.sources import finder_for_node, finder_of, finder_of_started, named
from hstore.dns.finder import API
from hstore.node.config.settings import Discovery, load_settings
from hstore.node.discovery import sources
from hstore.node.discovery.saved_members import SavedMember, SavedMembers, write
from hstore.node.model.values import Address


def save(directory):
    one = SavedMember("00000000000000a1", "n1", "10.0.0.1:8500", "10.0.0.1:8300", "10.0.0.1:8600")
    write(directory, SavedMembers("00000000000000c1", "hstore.local", (one,)))


def test_every_searcher_of_the_command_line_has_the_same_sources(tmp_path):
    # A member that looks for its cluster has them too: tests/node/discovery/test_sources.py.
    env = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HSTORE_HOST": "10.0.0.8",
        "HSTORE_DNS": "10.0.0.53",
        "HSTORE_DATA_DIR": str(tmp_path),
    }
    search = Discovery((Address("10.0.0.8", 8500),), (Address("10.0.0.53", 53),))
    wanted = sources.sources(search, tmp_path, env, service=API)
    searchers = [
        finder_of({}, env),
        finder_of_started("hstore.local", env),
        finder_for_node(load_settings({}, env), env),
    ]
    for finder in searchers:
        assert [shape(one) for one in finder._sources] == [shape(one) for one in wanted]


def shape(source):
    """What a source asks: all of it but its limiter of threads."""
    fields = source.__dataclass_fields__
    return type(source), [getattr(source, one) for one in fields if one != "limiter"]


def test_addresses_are_asked_at_once_and_host_names_only_by_the_search(tmp_path):
    save(tmp_path)
    there = Address("10.0.0.9", 8500)
    assert named(Discovery(hosts=(there,)), tmp_path) == ["10.0.0.9:8500", "10.0.0.1:8500"]
    assert named(Discovery(hosts=(there, Address("db1", 8500))), tmp_path) == []
    assert named(Discovery(), None) == []


def test_only_a_zone_that_was_given_excludes_others(tmp_path):
    env = {"HOME": str(tmp_path)}
    given = env | {"HSTORE_ZONE": "a.example"}
    assert not finder_of({}, env).is_zone_given
    assert finder_of({}, given).is_zone_given
    assert finder_of({"cluster.zone": "a.example"}, env).is_zone_given
    assert not finder_of_started("a.example", env).is_zone_given
    assert not finder_for_node(load_settings({}, env), env).is_zone_given
    assert finder_for_node(load_settings({}, given), given).is_zone_given
