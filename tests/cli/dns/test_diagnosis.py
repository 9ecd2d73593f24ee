"""What is said of what was seen: one fault at a time, put into a machine where all is well."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from hstore.cli.dns.diagnosis import explain, status
from hstore.cli.dns.name_service import NameService
from hstore.cli.dns.observations import Lookup, NodeSeen, Observations, ResolverSeen, Result
from hstore.dns.probe import Told
from hstore.dns.records import Rcode

ZONE = "hstore.local"
LEADER = "10.0.0.1"
HOSTS = frozenset({"10.0.0.1", "10.0.0.2"})

SILENT = Told(problem="no answer within 2 s", took_s=2.0)
CLOSED = Told(problem="nothing listens there")
REFUSED, SERVFAIL, NXDOMAIN = (
    Told(code) for code in (Rcode.REFUSED, Rcode.SERVFAIL, Rcode.NXDOMAIN)
)
OLD = Told(Rcode.NOERROR, frozenset({"10.9.9.9"}))


def answer(*hosts, **more):
    return Told(Rcode.NOERROR, frozenset(hosts), **more)


def node_seen(node, **changes):
    well = NodeSeen(node, answer(LEADER), answer(*HOSTS), answer(LEADER), REFUSED)
    return replace(well, **changes)


def resolver(address="127.0.0.53", leader=None, **more):
    return ResolverSeen(
        address, leader or answer(LEADER), more.pop("nodes", answer(*HOSTS)), **more
    )


@pytest.fixture
def well(make):
    nodes = [
        make.node(k, address=f"10.0.0.{k}:8500", dns_address=f"10.0.0.{k}:8600") for k in (1, 2)
    ]
    return Observations(
        ZONE,
        make.info(*nodes),
        nodes=tuple(map(node_seen, nodes)),
        resolvers=(resolver(),),
        lookups={"leader": Lookup(frozenset({LEADER})), "nodes": Lookup(HOSTS)},
        service=NameService(nameservers=("127.0.0.53",)),
        systemd_version=252,
        routes=f"Global: ~{ZONE}",
    )


def wrong(seen):
    """Give what is wrong: (place, what is said of it) by check."""
    return {
        check.where: f"{check.detail} | {check.advice}"
        for check in explain(seen)
        if check.result is Result.WRONG
    }


def first_node(seen, **changes):
    return replace(seen, nodes=(node_seen(seen.nodes[0].node, **changes), *seen.nodes[1:]))


NODE = "node n1, 10.0.0.1:8600"


def test_where_all_is_well_nothing_is_wrong_and_nothing_is_advised(well):
    checks = explain(well)
    assert {check.result for check in checks} == {Result.OK}
    assert [check.advice for check in checks if check.advice] == []
    assert status(well, checks) == 0
    assert len(checks) == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leader": SILENT, "by_tcp": SILENT}, "let UDP and TCP to port 8600 through"),
        ({"leader": SILENT}, "UDP does not, and resolvers ask by UDP"),
        ({"by_tcp": CLOSED}, "UDP to port 8600 goes through, TCP does not"),
        ({"leader": SERVFAIL}, "not in contact with the leader"),
        ({"leader": REFUSED}, f"does not serve {ZONE}"),
        ({"leader": answer()}, f"does not serve {ZONE}"),
        ({"leader": OLD}, "The cluster's leader is at 10.0.0.1. The node's view is old"),
        ({"foreign": SILENT}, "asks another server as soon as it gets REFUSED"),
        ({"foreign": replace(REFUSED, took_s=0.9)}, "REFUSED for example.com took 0.9 s"),
        ({"foreign": SERVFAIL}, "It forwards queries for other zones to its recursors"),
    ],
)
def test_a_fault_of_a_node_is_found_there_and_nowhere_else(well, changes, words):
    seen = first_node(well, **changes)
    found = wrong(seen)
    assert set(found) == {NODE}
    assert words in found[NODE]
    assert status(seen, explain(seen)) == 1


def test_that_a_silent_node_runs_is_said_only_while_a_leader_says_so(well):
    seen = first_node(well, leader=CLOSED, nodes=CLOSED, by_tcp=CLOSED)
    assert "The leader hears the node, but its DNS server" in wrong(seen)[NODE]
    seen = replace(seen, info=msgspec.structs.replace(seen.info, leader=None))
    assert "it is not known whether the node runs" in wrong(seen)[NODE]


@pytest.mark.parametrize("foreign", [NXDOMAIN, answer("93.184.215.14")], ids=["no", "yes"])
def test_a_node_that_has_recursors_need_not_refuse_other_zones(well, foreign):
    seen = first_node(well, foreign=foreign)
    assert wrong(seen) == {}
    assert "forwarded to recursors" in explain(seen)[1].detail


def test_a_node_that_is_known_to_be_down_is_no_fault_of_resolution(well, make):
    down = make.node(1, health="failed", dns_address="10.0.0.1:8600")
    seen = replace(well, nodes=(node_seen(down, leader=SILENT), well.nodes[1]))
    assert explain(seen)[1].result is Result.SKIPPED
    assert status(seen, explain(seen)) == 0


def test_without_a_leader_the_other_name_is_judged_and_the_cause_is_named_once(well, make):
    info = make.info(*(one.node for one in well.nodes), leader=None)
    nodes = tuple(replace(one, leader=SERVFAIL, by_tcp=SERVFAIL) for one in well.nodes)
    seen = replace(well, info=info, nodes=nodes, resolvers=(resolver(leader=SERVFAIL),))
    found = wrong(seen)
    assert list(found) == [f"cluster {info.cluster_id}"]
    assert "takes 2 live voters" in found[f"cluster {info.cluster_id}"]


# --- resolvers --------------------------------------------------------------------------------


def through(seen, *resolvers, lookup=None, **service):
    lookups = {"leader": lookup or Lookup(problem="Name or service not known"), "nodes": Lookup()}
    addresses = tuple(one.address for one in resolvers)
    files = NameService(**{"nameservers": addresses, **service})
    return replace(seen, resolvers=resolvers, lookups=lookups, service=files)


GAI = f"getaddrinfo leader.{ZONE}"


@pytest.mark.parametrize(
    ("address", "told", "words"),
    [
        ("127.0.0.1", CLOSED, "cannot carry a port"),
        ("127.0.1.1", CLOSED, "cannot carry a port"),
        ("10.0.0.53", SILENT, "No name at all resolves until it does"),
        ("127.0.0.53", CLOSED, "systemctl status systemd-resolved"),
        ("10.0.0.53", NXDOMAIN, f"has to forward {ZONE} to the nodes: `hstore dns setup SYSTEM`"),
        ("10.0.0.53", answer(), "rebind-domain-ok"),
        ("10.0.0.53", SERVFAIL, "validate-except"),
        ("10.0.0.53", REFUSED, "does not resolve names for this machine"),
        ("10.0.0.53", Told(Rcode.NOTIMP), "no answer of a resolver"),
    ],
)
def test_a_resolver_without_the_answer_is_explained_and_getaddrinfo_follows(
    well, address, told, words
):
    found = wrong(through(well, resolver(address, told)))
    assert set(found) == {f"resolver {address}", GAI}
    assert words in found[f"resolver {address}"]
    assert "That follows from the above" in found[GAI]


@pytest.mark.parametrize(
    ("version", "routes", "words"),
    [
        (245, "", "takes a port only from 246 on: put a dnsmasq between"),
        (246, "", f"it needs Domains=~{ZONE} beside DNS="),
        (None, f"Global: {ZONE} other", f"it needs Domains=~{ZONE} beside DNS="),
        (
            252,
            f"Global: ~{ZONE}\nLink 2 (eth0):",
            "its DNS= must have other addresses than the nodes'",
        ),
    ],
)
def test_of_systemd_resolved_its_version_and_its_routes_are_known(well, version, routes, words):
    seen = replace(through(well, resolver(leader=NXDOMAIN)), systemd_version=version, routes=routes)
    assert words in wrong(seen)["resolver 127.0.0.53"]


def test_systemd_resolved_resolves_nothing_on_a_machine_without_a_network(well):
    seen = through(well, resolver(leader=SERVFAIL))
    assert "loopback is the only network" in wrong(seen)["resolver 127.0.0.53"]


def test_a_dead_server_before_a_good_one_is_said_to_cost_time(well):
    seen = through(
        well,
        resolver("10.0.0.53", SILENT),
        resolver(),
        lookup=Lookup(problem="no answer within 3 s"),
    )
    found = wrong(seen)
    assert "It stands before a server that answers" in found["resolver 10.0.0.53"]
    assert "10.0.0.53 is asked first and is silent, and the wait for it is longer" in found[GAI]
    assert "resolver 127.0.0.53" not in found


def test_a_negative_answer_of_the_first_server_is_final(well):
    found = wrong(through(well, resolver("10.0.0.53", NXDOMAIN), resolver()))
    assert "10.0.0.53 is asked first, and its negative answer is final" in found[GAI]


def test_a_stale_answer_is_told_from_a_right_one_and_may_pass(well):
    seen = through(well, resolver(leader=OLD), lookup=Lookup(OLD.hosts))
    found = wrong(seen)
    assert "keeps answers longer than their TTL" in found["resolver 127.0.0.53"]
    assert "a cache has an old answer" in found[GAI]
    assert all(check.may_pass for check in explain(seen) if check.result is Result.WRONG)


def test_a_cut_answer_whose_rest_does_not_come_by_tcp_is_a_fault(well):
    cut = answer(LEADER, truncated=True)
    seen = replace(well, resolvers=(resolver(leader=cut, by_tcp=CLOSED),))
    assert "does not get through to port 53" in wrong(seen)["resolver 127.0.0.53"]
    assert wrong(replace(well, resolvers=(resolver(leader=cut, by_tcp=answer(LEADER)),))) == {}


# --- programs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (("files", "resolve", "[!UNAVAIL=return]", "dns"), f"it needs Domains=~{ZONE}"),
        (("files", "dns"), "does a cache (nscd)"),
    ],
)
def test_getaddrinfo_alone_fails_where_it_asks_somebody_else(well, sources, words):
    found = wrong(through(well, resolver(), sources=sources))
    assert set(found) == {GAI}
    assert words in found[GAI]


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"sources": ("files",)}, "put `dns` at the end of that line"),
        (
            {"sources": ("files", "mdns4", "[NOTFOUND=return]", "dns"), "mdns_allow": (".local",)},
            "mdns4 resolves leader.hstore.local by multicast DNS only",
        ),
    ],
)
def test_nsswitch_is_named_where_it_keeps_a_name_from_dns(well, service, words):
    found = wrong(through(well, resolver(), **service))
    assert set(found) == {"/etc/nsswitch.conf", GAI}
    assert words in found["/etc/nsswitch.conf"]
    assert "That follows from /etc/nsswitch.conf" in found[GAI]


def test_that_the_zone_itself_is_kept_to_multicast_is_told_and_no_fault(well):
    sources = ("files", "mdns4_minimal", "[NOTFOUND=return]", "dns")
    seen = replace(well, service=NameService(("127.0.0.53",), sources=sources))
    assert wrong(seen) == {}
    assert any(
        "resolves hstore.local itself by multicast DNS only" in check.detail
        for check in explain(seen)
    )


def test_what_only_getaddrinfo_knows_other_programs_do_not(well):
    found = wrong(through(well, resolver(leader=NXDOMAIN), lookup=Lookup(frozenset({LEADER}))))
    assert "Programs with a resolver of their own" in found[GAI]


def test_a_line_of_etc_hosts_that_is_wrong_is_named(well):
    fixed = ((f"leader.{ZONE}", "10.9.9.9"),)
    seen = through(well, resolver(), lookup=Lookup(OLD.hosts), fixed=fixed)
    assert "/etc/hosts has a line for it with 10.9.9.9" in wrong(seen)[GAI]


@pytest.mark.parametrize("works", [True, False])
def test_a_server_with_a_port_in_resolv_conf_is_a_fault_only_where_nothing_else_works(well, works):
    told = answer(LEADER) if works else CLOSED
    lookup = Lookup(frozenset({LEADER})) if works else None
    ignored = ("nameserver 127.0.0.1:8600",)
    seen = through(well, resolver("127.0.0.1", told), lookup=lookup, ignored=ignored)
    said = {check.where: check for check in explain(seen)}["/etc/resolv.conf"]
    assert said.result is (Result.SKIPPED if works else Result.WRONG)
    assert "the file cannot carry a port" in said.advice


def test_without_any_node_the_rest_is_looked_at_and_the_status_is_3(well):
    seen = replace(
        through(well, resolver(leader=NXDOMAIN)), info=None, nodes=(), problem="tried this and that"
    )
    found = wrong(seen)
    assert found["cluster"] == "no node was reached | tried this and that"
    assert "resolver 127.0.0.53" in found
    assert status(seen, explain(seen)) == 3
