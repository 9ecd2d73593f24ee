"""The names of services, one row of the contract after the other, in the zone and in `consul.`"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import dnslib
import pytest

from hstore.dns.answers import Answers
from hstore.dns.lookup import HostNode, number_key
from tests.fakes.lookup import NAMES, FakeLookup, instance

from .kit import contents, member, opt, query, reply_of, view

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
DOMAINS = ["hstore.local", "consul"]
domains = pytest.mark.parametrize("domain", DOMAINS)


def served(names=NAMES, **changes):
    """A server with the services of most tests, and what it asks."""
    lookup = FakeLookup(names)
    answers = Answers(random.Random(1), lookup)
    answers.view = view(**changes)
    lookup.put(
        b"web",
        [
            instance(1, tags=(b"master", b"v1.2")),
            instance(2, tags=(b"replica",), weight=3),
            instance(3, address="10.9.9.3", tags=(b"replica",)),
            instance(4, status=2),
        ],
    )
    lookup.put(b"six", [instance(1, address="2001:db8::1", port=443)])
    lookup.put(b"down", [instance(1, status=2), instance(2, status=2, tags=(b"a",))])
    lookup.put(b"warn", [instance(1, status=1, weight=0), instance(2)])
    lookup.put(b"alias", [instance(1, address="db.example.com"), instance(2, address="x.example")])
    lookup.put(b"consul", [instance(1, node=b"n1", node_address="10.0.0.1", port=8500)])
    lookup.put_node(b"w1", HostNode("10.1.0.1", (b"os=linux", b"v=spf1")))
    lookup.put_node(b"far", HostNode("host.example.com", ()))
    return answers, lookup


def ask(answers, name, rtype="A", **how):
    packet = query(name, rtype, **({"additional": opt()} | how))
    return dnslib.DNSRecord.parse(reply_of(answers, packet, over_tcp=True))


def found(reply):
    return reply.header.rcode, set(contents(reply.rr))


def is_nodata(reply):
    return found(reply) == (NOERROR, set()) and [rr.rtype for rr in reply.auth] == [6]


WEB = {"10.1.0.1", "10.1.0.2", "10.9.9.3"}
ENDINGS = ["", ".dc1", ".dc1.dc"]


@domains
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("web.service", "A", WEB),
        ("WEB.Service", "A", WEB),
        ("master.web.service", "A", {"10.1.0.1"}),
        ("v1.2.web.service", "A", {"10.1.0.1"}),
        ("RePlica.web.service", "A", {"10.1.0.2", "10.9.9.3"}),
        ("six.service", "AAAA", {"2001:db8::1"}),
        ("_web._tcp", "A", WEB),
        ("_web._udp", "A", WEB),
        ("_web._tcp.service", "A", WEB),
        ("_web._udp.service", "A", WEB),
        ("_web._master", "A", {"10.1.0.1"}),
        ("_web._master.service", "A", {"10.1.0.1"}),
        ("n1.node", "A", {"10.0.0.1"}),
        ("w1.node", "A", {"10.1.0.1"}),
        ("w1.node", "TXT", {'"os=linux"', '"v=spf1"'}),
        ("far.node", "A", {"host.example.com."}),
        ("0a000001.addr", "A", {"10.0.0.1"}),
        ("20010db8000000000000000000000001.addr", "AAAA", {"2001:db8::1"}),
        ("consul.service", "A", {"10.0.0.1"}),
    ],
)
def test_a_name_has_the_addresses_of_the_contract(domain, ending, name, rtype, expected):
    answers, _ = served()
    for _ in range(2):  # also once it is compiled
        reply = ask(answers, f"{name}{ending}.{domain}", rtype)
        assert found(reply) == (NOERROR, expected)
        assert reply.header.aa == 1
        assert len(reply.rr) == len(expected)
        assert {rr.rname.idna().lower() for rr in reply.rr} == {f"{name}{ending}.{domain}.".lower()}


@domains
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "name",
    [
        *("web.service", "_web._tcp", "_web._udp", "_web._tcp.service"),
        *("replica.web.service", "_web._replica", "_web._replica.service"),
    ],
)
def test_srv_has_port_weight_and_a_host_whose_address_is_beside_it(domain, ending, name):
    answers, _ = served()
    reply = ask(answers, f"{name}{ending}.{domain}", "SRV")
    replicas = {f"1 3 8002 w2.node.{domain}.", f"1 1 8003 0a090903.addr.{domain}."}
    hosts = {f"w2.node.{domain}.": "10.1.0.2", f"0a090903.addr.{domain}.": "10.9.9.3"}
    if "replica" not in name:
        replicas |= {f"1 1 8001 w1.node.{domain}."}
        hosts |= {f"w1.node.{domain}.": "10.1.0.1"}
    assert found(reply) == (NOERROR, replicas)
    beside = {str(rr.rname): str(rr.rdata) for rr in reply.ar if rr.rtype == 1}
    assert beside == hosts
    # Every host is a name that can be asked for, with the same address.
    for host, address in hosts.items():
        if host.startswith("0a"):
            assert contents(ask(answers, host).rr) == [address]


@domains
@pytest.mark.parametrize(
    "name",
    [
        *("service", "node", "addr", "query", "lock", "dc1", "dc", "dc1.dc", "service.dc1"),
        *("service.dc1.dc", "node.dc1", "_tcp", "_udp", "_tcp.service", "_master", "2.web.service"),
        *("_udp.service.dc1", "down.service", "a.down.service", "_down._tcp"),
    ],
)
@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT"])
def test_a_name_without_records_of_its_own_exists(domain, name, rtype):
    """Those between a name and the domain, and services all of whose instances are critical."""
    answers, _ = served()
    for _ in range(2):
        assert is_nodata(ask(answers, f"{name}.{domain}", rtype))


@domains
@pytest.mark.parametrize(
    "name",
    [
        *(
            "absent.service",
            "none.web.service",
            "web.none",
            "x.y.web.service",
            "master.v1.2.web.service",
        ),
        *("web.service.dc2", "web.service.dc2.dc", "web.service.dc1.other", "n1.node.dc2", "dc2"),
        *(
            "n9.node",
            "x.n1.node",
            "x.w1.node",
            "zz.addr",
            "0a0000.addr",
            "0a0000010.addr",
            "ga000001.addr",
        ),
        *("x.0a000001.addr", "q.query", "k.lock", "leader.pg.service.lock", "k.web.ring", "ring"),
        *(
            "_absent._tcp",
            "_web._tcp.x",
            "_web.web.service",
            "_web._none",
            "_._tcp",
            "_web._",
            "_web._.service",
            "_",
            "x._web._tcp",
        ),
        *("web._tcp", "web", "dc1.web.service", "dc.dc1", "leader.dc1", "hstore.local.consul"),
    ],
)
@pytest.mark.parametrize("rtype", ["A", "SRV"])
def test_other_names_do_not_exist(domain, name, rtype):
    answers, _ = served()
    for _ in range(2):
        reply = ask(answers, f"{name}.{domain}", rtype)
        assert found(reply) == (NXDOMAIN, set())
        assert [str(rr.rname) for rr in reply.auth] == [f"{domain}."]


@domains
def test_an_address_by_digits_has_no_other_type(domain):
    answers, _ = served()
    assert is_nodata(ask(answers, f"0a000001.addr.{domain}", "AAAA"))
    assert is_nodata(ask(answers, f"{'0' * 32}.addr.{domain}", "A"))


@pytest.mark.parametrize(
    "name", ["leader", "nodes", "n2.node", "_hstore._tcp", "_hstore-peer._tcp"]
)
@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT", "PTR"])
def test_an_alternative_domain_has_the_clusters_own_names_too(name, rtype):
    answers, _ = served()
    ours, theirs = (ask(answers, f"{name}.{domain}", rtype) for domain in DOMAINS)
    assert theirs.header.rcode == NOERROR
    expected = {text.replace("hstore.local.", "consul.") for text in contents(ours.rr)}
    assert set(contents(theirs.rr)) == expected


def test_an_alternative_domain_has_its_own_soa_and_reverse_names_name_the_zone():
    answers, _ = served()
    (soa,) = ask(answers, "consul", "SOA").rr
    assert str(soa.rdata).split()[:2] == ["n1.node.consul.", "hostmaster.consul."]
    assert {str(rr.rdata) for rr in ask(answers, "consul", "NS").rr} == {
        f"n{i}.node.consul." for i in (1, 2, 3)
    }
    (name,) = ask(answers, "1.0.0.10.in-addr.arpa", "PTR").rr
    assert str(name.rdata) == "n1.node.hstore.local."


def test_without_alternative_domains_their_names_are_those_of_others():
    answers, lookup = served()
    assert ask(answers, "web.service.consul").header.rcode == NOERROR
    lookup.names = NAMES._replace(alt_domains=())
    reply = ask(answers, "web.service.consul")
    assert (reply.header.rcode, reply.header.aa) == (5, 0)
    assert found(ask(answers, "web.service.hstore.local")) == (NOERROR, WEB)


def test_of_two_domains_the_longer_one_has_the_name():
    answers, _ = served(
        NAMES._replace(alt_domains=((b"local",), (b"dc1", b"consul"), (b"consul",)))
    )
    for domain in ("hstore.local", "local", "dc1.consul", "consul"):
        reply = ask(answers, f"web.service.{domain}", "SRV")
        assert f"1 3 8002 w2.node.{domain}." in contents(reply.rr)


def test_the_leaders_names_are_held_in_every_domain():
    answers, _ = served(leader=None)
    for domain in DOMAINS:
        reply = answers.reply(query(f"leader.{domain}"))
        assert not isinstance(reply, bytes)
        assert not answers.is_available((b"leader", *domain.encode().split(b".")))


# Which instances


@domains
def test_with_only_passing_those_with_a_warning_are_left_out(domain):
    answers, lookup = served()
    assert len(ask(answers, f"warn.service.{domain}").rr) == 2
    srvs = contents(ask(answers, f"warn.service.{domain}", "SRV").rr)
    assert f"1 0 8001 w1.node.{domain}." in srvs
    lookup.names = NAMES._replace(only_passing=True)
    assert contents(ask(answers, f"warn.service.{domain}").rr) == ["10.1.0.2"]
    lookup.put(b"warn", [instance(1, status=1)])
    assert is_nodata(ask(answers, f"warn.service.{domain}"))


@domains
def test_while_all_are_critical_the_name_may_be_set_not_to_exist(domain):
    answers, lookup = served(NAMES._replace(empty_is_nxdomain=True))
    assert ask(answers, f"down.service.{domain}").header.rcode == NXDOMAIN
    assert ask(answers, f"_down._tcp.{domain}", "SRV").header.rcode == NXDOMAIN
    lookup.put(b"down", [instance(1)])
    assert contents(ask(answers, f"down.service.{domain}").rr) == ["10.1.0.1"]


def test_each_port_of_a_host_is_there_once_and_each_address_once():
    answers, lookup = served()
    lookup.put(
        b"web",
        [
            instance(1, order=b"a", weight=5),
            instance(1, order=b"b", weight=7),
            instance(1, order=b"c", port=9000),
            instance(2, address="10.1.0.1", port=8001),
        ],
    )
    srv = ask(answers, "web.service.consul", "SRV")
    assert set(contents(srv.rr)) == {
        "1 5 8001 w1.node.consul.",
        "1 5 9000 w1.node.consul.".replace("5", "1", 1),
        "1 1 8001 0a010001.addr.consul.",
    }
    assert len(srv.rr) == 3
    assert len([rr for rr in srv.ar if rr.rtype == 1]) == 2
    assert contents(ask(answers, "web.service.consul").rr) == ["10.1.0.1"]


def test_any_is_answered_with_one_hinfo():
    answers, _ = served()
    for name in ("web.service", "_web._tcp", "w1.node", "0a000001.addr", "service"):
        (only,) = ask(answers, f"{name}.consul", "ANY").rr
        assert only.rtype == dnslib.QTYPE.HINFO


@pytest.mark.parametrize("rtype", ["TXT", "NS", "MX", "PTR", "HTTPS", "TYPE65280"])
def test_other_types_of_a_service_are_not_there(rtype):
    answers, _ = served()
    for _ in range(2):
        assert is_nodata(ask(answers, "web.service.hstore.local", rtype))


def test_an_instance_that_dns_cannot_name_is_reached_by_its_address():
    answers, lookup = served()
    lookup.put(
        b"web",
        [
            instance(1, node=b""),
            instance(2, node=b"", node_address="odd.example.com", address=""),
            instance(3, address="no..host", node=b""),
        ],
    )
    srvs = set(contents(ask(answers, "web.service.consul", "SRV").rr))
    assert srvs == {"1 1 8001 0a010001.addr.consul.", "1 1 8002 odd.example.com."}
    assert contents(ask(answers, "web.service.consul").rr) == ["10.1.0.1"]


@pytest.mark.parametrize(
    "address",
    ["web:80", "http://web", "a b", "db.example.com..", "10.0.0.256", "-a.example", "/run/x.sock"],
)
def test_what_is_neither_an_address_nor_a_host_name_is_left_out(address):
    """As a CNAME, a resolver would fail at it, and with it at all other instances."""
    answers, lookup = served()
    lookup.put(b"web", [instance(1, address=address), instance(2, address="db.example.com")])
    assert contents(ask(answers, "web.service.consul").rr) == ["db.example.com."]
    srvs = contents(ask(answers, "web.service.consul", "SRV").rr)
    assert srvs == ["1 1 8002 db.example.com."]
    lookup.put(b"web", [instance(1, address=address)])
    lookup.put_node(b"odd", HostNode(address, ()))
    for name in ("web.service.consul", "odd.node.consul"):
        for rtype in ("A", "AAAA", "SRV"):
            assert is_nodata(ask(answers, name, rtype)), (name, rtype)


def test_a_host_name_may_have_underscores_and_a_final_dot():
    answers, lookup = served()
    lookup.put(b"web", [instance(1, address="My_db.example.com.")])
    assert contents(ask(answers, "web.service.consul").rr) == ["my_db.example.com."]


def test_ipv4_addresses_written_as_ipv6_are_a_records():
    answers, lookup = served()
    lookup.put(
        b"web", [instance(1, address="::ffff:10.2.3.4"), instance(2, address="fe80::1%eth0")]
    )
    assert contents(ask(answers, "web.service.consul").rr) == ["10.2.3.4"]
    assert contents(ask(answers, "web.service.consul", "AAAA").rr) == ["fe80::1"]


# Names in place of addresses


def test_a_name_is_given_as_one_cname_only_where_no_instance_has_an_address():
    answers, lookup = served()
    for _ in range(2):
        assert contents(ask(answers, "alias.service.consul").rr) == ["db.example.com."]
        assert contents(ask(answers, "alias.service.consul", "AAAA").rr) == ["db.example.com."]
    srvs = set(contents(ask(answers, "alias.service.consul", "SRV").rr))
    assert srvs == {"1 1 8001 db.example.com.", "1 1 8002 x.example."}
    lookup.put(b"alias", [instance(1, address="db.example.com"), instance(2, address="fd00::1")])
    assert is_nodata(ask(answers, "alias.service.consul"))
    assert contents(ask(answers, "alias.service.consul", "AAAA").rr) == ["fd00::1"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("web.service.hstore.local", WEB),
        ("n2.node.consul", {"10.0.0.2"}),
        ("n2.node.dc1.consul", {"10.0.0.2"}),
        ("w1.node.consul", {"10.1.0.1"}),
        ("0a000009.addr.hstore.local", {"10.0.0.9"}),
        ("nodes.hstore.local", {"10.0.0.1", "10.0.0.2", "10.0.0.3"}),
        ("absent.service.hstore.local", set()),
        ("service.hstore.local", set()),
        ("consul", set()),
        ("down.service.consul", set()),
    ],
)
def test_a_name_of_ours_is_followed_at_once(target, expected):
    answers, lookup = served()
    lookup.put(b"alias", [instance(1, address=target)], ttl_s=5)
    reply = ask(answers, "alias.service.consul")
    cname, *rest = reply.rr
    assert str(cname.rdata) == f"{target}."
    assert {str(rr.rdata) for rr in rest} == expected
    assert {str(rr.rname) for rr in rest} <= {f"{target}."}
    srv = ask(answers, "alias.service.consul", "SRV")
    assert {str(rr.rdata) for rr in srv.ar if rr.rtype == 1} == expected


def test_addresses_behind_a_name_come_in_random_order():
    answers, lookup = served()
    lookup.put(b"alias", [instance(1, address="web.service.consul")])
    orders = [contents(ask(answers, "alias.service.consul").rr) for _ in range(180)]
    assert {order[0] for order in orders} == {"web.service.consul."}
    firsts = Counter(order[1] for order in orders)
    assert set(firsts) == WEB
    assert min(firsts.values()) > 30


@pytest.mark.parametrize(
    ("target", "rtype", "rcode", "soa"),
    [
        ("absent.service.hstore.local", "A", NXDOMAIN, ["hstore.local."]),
        ("x.web.service.consul", "A", NXDOMAIN, ["consul."]),
        ("n9.node.consul", "A", NXDOMAIN, ["consul."]),
        ("abcdefgh.addr.consul", "A", NXDOMAIN, ["consul."]),
        ("nothing.hstore.local", "A", NXDOMAIN, ["hstore.local."]),
        ("service.hstore.local", "A", NOERROR, ["hstore.local."]),
        ("consul", "A", NOERROR, ["consul."]),
        ("down.service.consul", "A", NOERROR, ["consul."]),
        ("w1.node.consul", "AAAA", NOERROR, ["consul."]),
        ("n1.node.hstore.local", "AAAA", NOERROR, ["hstore.local."]),
        ("six.service.consul", "A", NOERROR, ["consul."]),
        ("web.service.consul", "A", NOERROR, []),
        ("far.node.consul", "A", NOERROR, []),
    ],
)
def test_what_the_last_of_several_names_lacks_is_said_of_it(target, rtype, rcode, soa):
    answers, lookup = served()
    lookup.put(b"alias", [instance(1, address=target)])
    for _ in range(2):
        reply = ask(answers, "alias.service.consul", rtype)
        assert (reply.header.rcode, [str(rr.rname) for rr in reply.auth]) == (rcode, soa)
        assert str(reply.rr[0].rdata) == f"{target}."


def test_a_last_name_that_may_be_set_not_to_exist_does_not():
    answers, lookup = served(NAMES._replace(empty_is_nxdomain=True))
    lookup.put(b"alias", [instance(1, address="down.service.consul")])
    assert ask(answers, "alias.service.consul").header.rcode == NXDOMAIN


def test_of_a_last_name_that_is_held_nothing_is_said():
    answers, lookup = served(leader=None)
    lookup.put(b"alias", [instance(1, address="leader.hstore.local")])
    reply = ask(answers, "alias.service.consul")
    assert found(reply) == (NOERROR, {"leader.hstore.local."})
    assert not reply.auth


def test_a_node_named_by_a_service_is_as_old_as_the_service():
    answers, lookup = served()
    lookup.put_node(b"far", HostNode("web.service.consul", ()))
    assert {"web.service.consul."} | WEB == set(contents(ask(answers, "far.node.consul").rr))
    lookup.age_s = 301
    answers.note_age()
    assert found(ask(answers, "far.node.consul")) == (SERVFAIL, set())


def test_a_name_that_is_followed_to_a_node_changes_with_the_node():
    answers, lookup = served()
    lookup.put(b"alias", [instance(9, address="w1.node.consul")])
    lookup.put(b"beside", [instance(9, address="w1.node.consul")])
    for address in ("10.1.0.1", "10.8.8.8"):
        lookup.put_node(b"w1", HostNode(address, ()))
        assert contents(ask(answers, "alias.service.consul").rr)[1:] == [address]
        srv = ask(answers, "beside.service.consul", "SRV")
        assert [str(rr.rdata) for rr in srv.ar if rr.rtype == 1] == [address]
    lookup.put_node(b"w1", None)
    assert contents(ask(answers, "alias.service.consul").rr)[1:] == []


def test_a_chain_of_names_ends_also_where_it_is_a_circle_or_long():
    answers, lookup = served()
    for number in range(20):
        lookup.put(b"c%d" % number, [instance(1, address=f"c{number + 1}.service.consul")])
    chain = contents(ask(answers, "c0.service.consul").rr)
    assert chain == [f"c{number}.service.consul." for number in range(1, 9)]
    lookup.put(b"c2", [instance(1, address="c0.service.consul")])
    assert len(ask(answers, "c0.service.consul").rr) == 3
    # What the chain depends on is known, too.
    lookup.put(b"c2", [instance(1)])
    assert contents(ask(answers, "c0.service.consul").rr)[-1] == "10.1.0.1"


def test_a_long_text_of_a_node_is_given_in_several_strings():
    answers, lookup = served()
    lookup.put_node(b"w1", HostNode("10.1.0.1", (b"k=" + b"x" * 600, b"", b"k=v", b"k=v")))
    records = ask(answers, "w1.node.consul", "TXT").rr
    joined = sorted(b"".join(rr.rdata.data) for rr in records)
    assert joined == [b"", b"k=v", b"k=" + b"x" * 600]


# TTL and age


@domains
def test_ttl_is_the_services_own_and_the_nodes_is_the_zones(domain):
    answers, lookup = served(ttl_s=7)
    lookup.put(b"web", [instance(1)], ttl_s=30)
    reply = ask(answers, f"web.service.{domain}", "SRV")
    assert [rr.ttl for rr in reply.rr] == [30]
    assert [rr.ttl for rr in reply.ar if rr.rtype == 1] == [7]
    assert ask(answers, f"w1.node.{domain}").rr[0].ttl == 7
    assert ask(answers, f"0a000001.addr.{domain}").rr[0].ttl == 7
    assert ask(answers, f"absent.service.{domain}").auth[0].ttl == 7
    answers.view = view(ttl_s=7, leader=None)
    reply = ask(answers, f"web.service.{domain}", "SRV")
    assert {rr.ttl for rr in (*reply.rr, *reply.ar) if rr.rtype != 41} == {0}


@domains
def test_services_that_are_too_old_are_servfail_and_other_names_are_not(domain):
    answers, lookup = served(leader=None)
    lookup.age_s = 299.0
    for age, rcode in ((299.0, NOERROR), (301.0, SERVFAIL), (0.0, NOERROR), (301.0, SERVFAIL)):
        lookup.age_s = age
        answers.note_age()
        for name in ("web.service", "_web._tcp", "down.service"):
            for _ in range(2):
                assert ask(answers, f"{name}.{domain}").header.rcode == rcode
        absent = ask(answers, f"absent.service.{domain}").header.rcode
        assert absent == (SERVFAIL if age > 300 else NXDOMAIN)
        for name in ("w1.node", "n1.node", "nodes", "service", "0a000001.addr"):
            assert ask(answers, f"{name}.{domain}").header.rcode == NOERROR


# What is kept


def test_a_change_is_in_the_next_answer_and_what_has_not_changed_is_not_asked_again():
    answers, lookup = served()
    packets = [
        query(f"{name}.{domain}", rtype, additional=opt())
        for name in ("web.service", "_web._tcp", "replica.web.service")
        for domain in DOMAINS
        for rtype in ("A", "SRV")
    ]
    for _ in range(3):
        for packet in packets:
            answers.reply(packet)
    asked = lookup.asked
    assert all(packet[2:] in answers.known for packet in packets)
    lookup.put(b"other", [instance(1)])
    for packet in packets:
        answers.reply(packet)
    assert lookup.asked == asked
    lookup.put(b"web", [instance(7, tags=(b"replica",))])
    assert not any(packet[2:] in answers.known for packet in packets)
    for name in ("web.service", "_web._tcp", "replica.web.service"):
        assert contents(ask(answers, f"{name}.consul").rr) == ["10.1.0.7"]
    lookup.put(b"web", [])
    assert ask(answers, "web.service.consul").header.rcode == NXDOMAIN
    lookup.put(b"web", [instance(8)])
    assert contents(ask(answers, "web.service.consul").rr) == ["10.1.0.8"]


def test_a_change_of_a_node_is_one_of_all_services_on_it():
    answers, lookup = served()
    for name in ("web", "warn", "six"):
        answers.reply(query(f"{name}.service.consul"))
    compiled = len(answers._compiled)
    lookup.tell(number_key(1))
    assert len(answers._compiled) == compiled - 3


def test_names_that_do_not_exist_are_not_kept():
    answers, _ = served()
    for number in range(3000):
        answers.reply(query(f"x{number}.service.consul"))
        answers.reply(query(f"x{number}.web.service.consul"))
        answers.reply(query(f"{number:08x}.addr.consul"))
        answers.reply(query(f"x{number}.node.consul", "AAAA"))
        answers.reply(query(f"_x{number}.service.consul", "SRV"))
    assert not answers._compiled
    assert not answers.known


# Sizes and orders


@pytest.mark.parametrize("count", [2, 3, 5, 12, 40])
def test_every_instance_comes_first_about_equally_often(count):
    answers, lookup = served()
    lookup.put(b"web", [instance(number) for number in range(1, count + 1)])
    orders = [contents(ask(answers, "web.service.consul").rr) for _ in range(60 * count)]
    assert {len(order) for order in orders} == {count}
    firsts = Counter(order[0] for order in orders)
    assert len(firsts) == min(count, 16)
    assert min(firsts.values()) > 15
    assert len({tuple(order) for order in orders}) == {2: 2}.get(count, len({*map(tuple, orders)}))


def test_the_addresses_beside_come_in_the_order_of_the_hosts():
    answers, lookup = served()
    lookup.put(b"web", [instance(number) for number in range(1, 20)])
    for _ in range(20):
        reply = ask(answers, "web.service.consul", "SRV")
        hosts = [str(rr.rname) for rr in reply.ar if rr.rtype == 1]
        assert hosts == [str(rr.rdata.target) for rr in reply.rr]


@pytest.mark.parametrize("warm", [False, True])
def test_addresses_beside_give_way_before_anything_is_cut(warm):
    answers, lookup = served()
    lookup.put(b"web", [instance(number) for number in range(1, 21)])
    if warm:
        ask(answers, "web.service.consul", "SRV")
    for size in range(512, 1233, 7):
        packet = query("web.service.consul", "SRV", additional=opt(size))
        reply = reply_of(answers, packet)
        assert len(reply) <= size
        parsed = dnslib.DNSRecord.parse(reply)
        is_cut = bool(parsed.header.tc)
        hosts = [str(rr.rname) for rr in parsed.ar if rr.rtype == 1]
        if is_cut:
            assert len(parsed.rr) < 20
            assert not hosts
        else:
            assert len(parsed.rr) == 20
            assert hosts == [str(rr.rdata.target) for rr in parsed.rr][: len(hosts)]
            assert size - len(reply) < 30 or len(hosts) == 20
    assert len(reply_of(answers, query("web.service.consul", "SRV"))) <= 512


class Client:
    """Who asks."""

    def __init__(self, address):
        self.host = address


def host(address):
    return partial(Client, address)


def cut(answers, address, count=None, rtype="SRV"):
    reply = answers.reply(
        query("web.service.consul", rtype, additional=opt(512)), asker=host(address)
    )
    parsed = dnslib.DNSRecord.parse(reply)
    assert parsed.header.tc
    assert len(reply) <= 512
    assert len(parsed.ar) == 1
    return contents(parsed.rr)


@pytest.mark.parametrize("rtype", ["SRV", "A"])
def test_a_cut_answer_is_always_the_same_to_one_client_and_differs_between_clients(rtype):
    answers, lookup = served()
    instances = [instance(number) for number in range(1, 61)]
    lookup.put(b"web", instances)
    first = cut(answers, "10.0.0.7", rtype=rtype)
    assert len(first) > 10
    for _ in range(20):
        assert cut(answers, "10.0.0.7", rtype=rtype) == first
    clients = {tuple(cut(answers, f"10.0.1.{number}", rtype=rtype)) for number in range(50)}
    assert len(clients) == 50
    shown = Counter(one for client in clients for one in client)
    assert len(shown) == 60
    # An instance that comes or goes moves itself and at most one other.
    for gone in range(0, 60, 7):
        lookup.put(b"web", instances[:gone] + instances[gone + 1 :])
        assert len(set(first) - set(cut(answers, "10.0.0.7", rtype=rtype))) <= 1
    lookup.put(b"web", instances)
    again = Answers(random.Random(2), lookup)
    again.view = view()
    assert cut(again, "10.0.0.7", rtype=rtype) == first  # another member cuts alike


def test_a_cut_answer_is_not_given_from_the_cache_to_another():
    answers, lookup = served()
    lookup.put(b"web", [instance(number) for number in range(1, 61)])
    packet = query("web.service.consul", "SRV", additional=opt(8192))
    assert len(dnslib.DNSRecord.parse(answers.reply(packet, is_near=True)).rr) == 60
    far = answers.reply(packet, asker=host("10.0.0.7"))
    assert len(far) <= 1232
    assert far[2] & 2
    assert len(dnslib.DNSRecord.parse(answers.reply(packet, over_tcp=True)).rr) == 60


def test_sixty_instances_fit_into_what_haproxy_takes():
    answers, lookup = served()
    lookup.put(b"web", [instance(number) for number in range(1, 61)])
    reply = answers.reply(
        query("_web._tcp.service.consul", "SRV", additional=opt(8192)), is_near=True
    )
    assert len(reply) < 4200
    parsed = dnslib.DNSRecord.parse(reply)
    assert (len(parsed.rr), len(parsed.ar)) == (60, 61)
    assert not parsed.header.tc


def test_what_no_message_can_hold_is_cut_even_by_tcp():
    answers, lookup = served()
    lookup.put(
        b"web",
        [
            instance(number, address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
            for number in range(1, 5001)
        ],
    )
    reply = answers.reply(query("web.service.consul", "SRV"), over_tcp=True, asker=host("10.0.0.7"))
    assert reply[2] & 2
    assert len(dnslib.DNSRecord.parse(reply).rr) > 1000


def test_the_question_comes_back_byte_for_byte_and_names_below_it_have_its_case():
    answers, _ = served()
    for _ in range(3):
        reply = reply_of(answers, query("wEb.SerVICE.cOnSuL", "SRV"))
        assert dnslib.DNSRecord.parse(reply).q.qname.idna() == "wEb.SerVICE.cOnSuL."


def test_a_view_without_services_answers_as_before():
    answers = Answers(random.Random(1))
    answers.view = view([member(1), replace(member(2), live=False)])
    assert ask(answers, "web.service.hstore.local").header.rcode == NXDOMAIN
    assert is_nodata(ask(answers, "service.hstore.local"))
    assert ask(answers, "web.service.consul").header.rcode == 5
