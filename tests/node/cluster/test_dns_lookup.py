"""The catalog as the DNS server asks for it: status, weight, TTL, and what an answer depends on."""

from __future__ import annotations

import random

import dnslib
import msgspec
import pytest
import trio.testing

from hstore.dns.answers import Answers
from hstore.dns.lookup import EVERYTHING, node_key, number_key, service_key
from hstore.node.cluster.dns_lookup import CatalogLookup
from hstore.node.model.commands import ClusterSettings
from hstore.node.state.watching.changes import NODES, SETTINGS
from tests.dns.kit import contents, opt, query, reply_of, view
from tests.fakes.catalog import FakeCatalog
from tests.fakes.catalog import number_key as record_key


class Catalog(FakeCatalog):
    """The fake, opened and closed as a reader; counts what is open."""

    opened = 0

    def view(self):
        self.opened += 1
        return self

    def close(self):
        self.opened -= 1


class World:
    """A catalog with three members and an external node, and the lookup of it."""

    def __init__(self):
        self.catalog = Catalog()
        self.settings = ClusterSettings()
        self.contact_at = float("inf")
        self.lookup = CatalogLookup(
            self.catalog.view,
            self.catalog.listen,
            lambda: self.settings,
            lambda: self.contact_at,
        )
        self.told: list[bytes] = []
        self.lookup.on_change = self.told.extend
        for number in (1, 2, 3):
            self.catalog.add_member(number, f"n{number}", f"10.0.0.{number}")
        self.catalog.register(1, "web", port=80, tags=("Primary", "ü"), weight_passing=10)
        self.catalog.check(1, "c1", "passing", service="web")
        self.told.clear()

    def change(self, **fields):
        self.settings = msgspec.structs.replace(self.settings, **fields)

    def only(self, name=b"web"):
        found = self.lookup.service(name).what
        assert found is not None
        (one,) = found.instances
        return one


@pytest.fixture
def world():
    found = World()
    yield found
    assert found.catalog.opened == 0


def test_an_instance_is_given_as_it_is_registered(world):
    one = world.only()
    assert one.node == b"n1"
    assert (one.address, one.node_address, one.port, one.weight) == ("", "10.0.0.1", 80, 10)
    assert one.tags == (b"primary", "ü".encode())
    assert (one.status, one.order) == (0, b"n1/web")
    world.catalog.register(1, "web", address="db.example.com", weight_passing=2)
    assert (world.only().address, world.only().weight) == ("db.example.com", 2)


@pytest.mark.parametrize(
    ("of_node", "of_service", "status", "weight"),
    [
        ("passing", "passing", 0, 10),
        ("passing", "warning", 1, 3),
        ("warning", "passing", 1, 3),
        ("critical", "passing", 2, 10),
        ("warning", "critical", 2, 10),
    ],
)
def test_status_is_the_worst_of_the_services_checks_and_its_nodes(
    world, of_node, of_service, status, weight
):
    world.catalog.register(1, "web", weight_passing=10, weight_warning=3)
    world.catalog.register(1, "other")
    world.catalog.check(1, "other", "critical", service="other")
    world.catalog.check(1, "serfHealth", of_node)
    world.catalog.check(1, "c1", of_service, service="web")
    assert (world.only().status, world.only().weight) == (status, weight)


def test_instances_come_in_the_order_of_the_catalog_each_with_its_node(world):
    far = world.catalog.add_external("Web-1", "192.0.2.1")
    odd = world.catalog.add_external("a.b c", "far.example.com")
    for number in (far, odd, 3):
        world.catalog.register(number, "WEB", "z")
    found = world.lookup.service(b"web")
    assert [one.node for one in found.what.instances] == [b"web-1", b"", b"n1", b"n3"]
    keys = {service_key(b"web"), *(number_key(number) for number in (1, 3, far, odd))}
    assert set(found.keys) == keys


def test_what_is_not_there_depends_on_its_name(world):
    assert world.lookup.service(b"none") == (None, (service_key(b"none"),))
    assert world.lookup.node(b"none") == (None, (node_key(b"none"),))
    assert world.lookup.node(b"n1").what is None  # members are the zone's
    assert world.lookup.service(b"\xff\x80").what is None
    assert world.lookup.node(b"\xff\x80").what is None


def test_an_external_node_has_its_meta_as_texts(world):
    meta = (("a=b`", "1"), ("os", "linux"), ("rfc1035-spf", "v=spf1 -all"))
    uuid = "11111111-2222-3333-4444-555555555555"
    number = world.catalog.add_external("Web-1", "192.0.2.1", meta=meta, uuid=uuid)
    found = world.lookup.node(b"web-1")
    assert found.what == ("192.0.2.1", (b"a`=b``=1", b"os=linux", b"v=spf1 -all"))
    assert set(found.keys) == {node_key(b"web-1"), number_key(number)}
    assert world.lookup.node(uuid.encode()).what is None


def test_each_member_is_an_instance_of_consul(world):
    world.catalog.check(2, "serfHealth", "critical")
    found = world.lookup.service(b"consul")
    assert [(one.node, one.port, one.status) for one in found.what.instances] == [
        (b"n1", 8500, 0),
        (b"n2", 8500, 2),
        (b"n3", 8500, 0),
    ]


# What is told


def test_a_change_is_told_by_the_keys_of_what_depends_on_it(world):
    version = world.lookup.version
    world.catalog.check(1, "c1", "critical", service="web")
    assert world.told == [service_key(b"web")]
    world.told.clear()
    world.catalog.check(2, "serfHealth", "critical")
    assert world.told == [number_key(2)]
    world.told.clear()
    number = world.catalog.add_external("Far", "192.0.2.1")
    assert set(world.told) == {number_key(number), node_key(b"far"), service_key(b"consul")}
    world.told.clear()
    world.catalog.remove_node(number)
    assert number_key(number) in world.told
    assert world.lookup.version >= version + 4


def test_a_node_that_is_gone_and_new_settings_are_told(world):
    world.told.clear()
    world.catalog._tell((NODES, record_key(77)))
    assert number_key(77) in world.told
    world.catalog._tell((SETTINGS, b""))
    assert world.told[-1] == EVERYTHING


def test_a_service_of_many_instances_is_read_once_until_it_changes(world):
    def shown(name=b"large"):
        return [one.status for one in world.lookup.service(name).what.instances]

    numbers = [world.catalog.add_external(f"x{number:03}", "192.0.2.1") for number in range(100)]
    for number in numbers:
        world.catalog.register(number, "large")
    assert shown() == [0] * 100
    world.catalog.instances = None  # reading it again fails
    assert shown() == [0] * 100
    del world.catalog.instances
    world.catalog.check(1, "c1", "critical", service="web")
    assert shown() == [0] * 100
    world.catalog.check(numbers[3], "c", "warning", service="large")
    assert shown() == [0] * 3 + [1] + [0] * 96
    world.catalog.check(numbers[5], "own", "critical")
    assert shown() == [0] * 3 + [1, 0, 2] + [0] * 94
    world.change(dns_service_ttl="large=7s")
    world.catalog._tell((SETTINGS, b""))
    assert world.lookup.service(b"large").what.ttl_s == 7
    for name in range(40):
        for number in numbers[:64]:
            world.catalog.register(number, f"n{name}")
        assert len(shown(f"n{name}".encode())) == 64
    assert len(world.lookup._kept) == 16


# Settings


@pytest.mark.parametrize(
    ("text", "name", "ttl_s"),
    [
        ("", b"web", 0),
        ("web=5s", b"web", 5),
        ("web=5s", b"web2", 0),
        ("Web=5s", b"web", 5),
        ("web*=5s,*=1s,web-a*=9s", b"web", 5),
        ("web*=5s,*=1s,web-a*=9s", b"web-ab", 9),
        ("web*=5s,*=1s,web-a*=9s", b"other", 1),
        ("web*=5s,web=0s", b"web", 0),
        ("*=3s", b"web", 3),
    ],
)
def test_a_services_ttl_is_its_own_or_that_of_its_longest_beginning(world, text, name, ttl_s):
    world.catalog.register(1, name.decode(), "x")
    world.change(dns_service_ttl=text)
    assert world.lookup.service(name).what.ttl_s == ttl_s
    world.change(dns_service_ttl="")
    assert world.lookup.service(name).what.ttl_s == 0


def test_settings_are_given_as_the_server_has_them(world):
    names = world.lookup.names
    assert names == (b"dc1", ((b"consul",),), False, False, 300.0)
    assert world.lookup.names is names
    world.change(
        datacenter="East",
        alt_domains="consul,lab.example.com",
        dns_only_passing=1,
        dns_empty="nxdomain",
        dns_max_stale_ms=1500,
    )
    assert world.lookup.names == (
        b"east",
        ((b"consul",), (b"lab", b"example", b"com")),
        True,
        True,
        1.5,
    )
    world.change(alt_domains="")
    assert world.lookup.names.alt_domains == ()


async def test_age_counts_from_the_last_contact(world, autojump_clock: trio.testing.MockClock):
    assert world.lookup.age_s == 0
    world.contact_at = trio.current_time()
    await trio.sleep(7)
    assert world.lookup.age_s == pytest.approx(7)
    world.contact_at = float("inf")
    assert world.lookup.age_s == 0


# Together with the server


def test_a_change_in_the_catalog_is_in_the_next_answer(world):
    async def run():
        answers = Answers(random.Random(1), world.lookup)
        answers.view = view()

        def addresses(name="web.service.consul", rtype="A"):
            packet = query(name, rtype, additional=opt())
            replies = [reply_of(answers, packet) for _ in range(3)]
            (found,) = {tuple(sorted(contents(dnslib.DNSRecord.parse(one).rr))) for one in replies}
            return found

        assert addresses() == ("10.0.0.1",)
        far = world.catalog.add_external("far", "192.0.2.1")
        world.catalog.register(far, "web")
        assert addresses() == ("10.0.0.1", "192.0.2.1")
        assert addresses("far.node.consul") == ("192.0.2.1",)
        world.catalog.check(1, "serfHealth", "critical")
        assert addresses() == ("192.0.2.1",)
        world.catalog.check(1, "serfHealth", "passing")
        world.catalog.check(1, "c1", "critical", service="web")
        assert addresses() == ("192.0.2.1",)
        world.catalog.remove_node(far)
        assert addresses() == ()
        assert addresses("far.node.consul") == ()
        assert addresses("consul.service.consul", "SRV") == tuple(
            f"1 1 8500 n{number}.node.consul." for number in (1, 2, 3)
        )

    trio.run(run)
