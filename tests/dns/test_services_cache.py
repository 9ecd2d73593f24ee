"""What is kept never differs from what would be answered anew, and any name gets a sound reply."""

from __future__ import annotations

import random
from typing import Any

import dnslib
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.dns import cache
from hstore.dns.answers import Answers
from hstore.dns.cache import Cache
from hstore.dns.compiled import Compiled
from hstore.dns.counts import Count
from hstore.dns.lookup import HostNode, number_key
from hstore.dns.message import record_bounds
from hstore.dns.records import Rcode
from tests.fakes.lookup import NAMES, FakeLookup, instance

from .kit import TYPES, opt, query, reply_of, view, wire_name

SERVICES = [b"web", b"db", b"_tcp", b"consul"]
ADDRESSES = [
    "",
    "",
    "10.5.5.5",
    "fd00::5",
    "db.service.consul",
    "w1.node.hstore.local",
    "far.example",
]
LABELS = [
    "web",
    "db",
    "_web",
    "_db",
    "_tcp",
    "_udp",
    "_v1",
    "v1",
    "v1.2",
    "2",
    "service",
    "node",
    "addr",
]
LABELS += [
    "w1",
    "w2",
    "n1",
    "dc1",
    "dc",
    "dc2",
    "0a000001",
    "query",
    "lock",
    "leader",
    "consul",
    "x" * 63,
]
USUAL = ["web.service", "db.service", "v1.web.service", "_web._tcp", "_db._v1.service", "w1.node"]
USUAL += [
    "web.service.dc1",
    "_tcp.service",
    "2.web.service",
    "consul.service",
    "w2.node",
    "service",
]
DOMAINS = ["hstore.local", "consul", "CONSUL"]

names = st.builds(
    lambda labels, domain: ".".join([*labels, domain]),
    st.lists(st.sampled_from(LABELS), max_size=5),
    st.sampled_from(DOMAINS),
)
usual_names = st.builds(
    "{}.{}".format,
    st.sampled_from(USUAL),
    st.sampled_from(DOMAINS),
)
packets = st.builds(
    query,
    st.one_of(usual_names, names),
    st.sampled_from(["A", "SRV", "AAAA", "TXT", "ANY", "A", "SRV"]),
    additional=st.sampled_from([b"", opt(), opt(8192), opt(options=b"\0\x0a\0\0")]),
)
instances = st.lists(
    st.builds(
        instance,
        st.integers(1, 4),
        address=st.sampled_from(ADDRESSES),
        status=st.integers(0, 2),
        tags=st.sampled_from([(), (b"v1",), (b"v1.2",), (b"v1", b"2")]),
        port=st.integers(8000, 8001),
    ),
    max_size=4,
    unique_by=lambda one: one.order,
)
nodes = st.none() | st.builds(
    HostNode,
    st.sampled_from(["10.7.7.7", "w2.node.consul", "web.service.consul", "far.example"]),
    st.just((b"k=v",)),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), packets, st.booleans()),
        st.tuples(st.just("ask"), packets, st.booleans()),
        st.tuples(st.just("ask"), packets, st.booleans()),
        st.tuples(st.just("put"), st.sampled_from(SERVICES), instances, st.sampled_from([0, 5])),
        st.tuples(st.just("node"), st.sampled_from([b"w1", b"w2"]), nodes),
        st.tuples(st.just("names"), st.booleans(), st.booleans()),
        st.tuples(st.just("age"), st.sampled_from([0.0, 299.0, 301.0])),
        st.tuples(st.just("view"), st.sampled_from([None, "n1", "n2"])),
    ),
    min_size=4,
    max_size=40,
)


def what(reply: bytes) -> tuple[object, ...]:
    """All that a reply says, but for the order of records."""
    parsed = dnslib.DNSRecord.parse(reply)
    sections = [sorted(str(rr) for rr in part) for part in (parsed.rr, parsed.auth, parsed.ar)]
    return parsed.header.rcode, parsed.header.tc, parsed.header.aa, sections


def walked(reply: bytes, at: int) -> list[tuple[bytes, int]]:
    """Type and size of its records, sorted; together they are all that follows the question."""
    records = []
    while at < len(reply):
        fixed, end = record_bounds(reply, at)
        records.append((reply[fixed : fixed + 2], end - at))
        at = end
    return sorted(records)


def is_cut(reply: bytes) -> bool:
    """Whether which records it has depends on its order."""
    parsed = dnslib.DNSRecord.parse(reply)
    return bool(parsed.header.tc) or len(reply) > 400


@given(steps)
@settings(max_examples=60, deadline=None)
def test_kept_answers_are_those_that_would_be_made_anew(given_steps):
    lookup = FakeLookup()
    kept = Answers(random.Random(1), lookup)
    kept.view = view()
    for step in given_steps:
        match step:
            case ("ask", packet, over_tcp):
                compare(kept, lookup, packet, over_tcp=over_tcp)
            case ("age", age_s):
                lookup.age_s = age_s
                kept.note_age()
            case ("view", leader):
                kept.view = view(leader=leader)
            case _:
                change(lookup, step)
    check_sizes(kept._cache)


def change(lookup: FakeLookup, step: tuple[Any, ...]) -> None:
    match step:
        case ("put", name, found, ttl_s):
            lookup.put(name, found, ttl_s)
        case ("node", name, node):
            lookup.put_node(name, node)
            lookup.tell(number_key(int(name[1:])))
        case ("names", only_passing, empty):
            lookup.names = NAMES._replace(only_passing=only_passing, empty_is_nxdomain=empty)


def compare(kept: Answers, lookup: FakeLookup, packet: bytes, *, over_tcp: bool) -> None:
    """Ask a server that keeps answers, and one that has none."""
    on_change = lookup.on_change
    fresh = Answers(random.Random(2), lookup)
    fresh.view = kept.view
    lookup.on_change = on_change
    for _ in range(2):
        ours, theirs = (reply_of(one, packet, over_tcp=over_tcp) for one in (kept, fresh))
        if is_cut(ours):
            continue
        assert what(ours) == what(theirs)
        for whole in kept.known.get(packet[2:], ((), None))[0]:
            assert what(packet[:2] + whole) == what(reply_of(fresh, packet))


def check_sizes(kept: Cache) -> None:
    """The cache's own books are right, and nothing in it is left over."""
    assert {query for one in kept.compiled.values() for query in one.queries or ()} == set(
        kept.known
    )
    assert kept._known_size == sum(
        cache._size_of_replies(replies) for replies, _ in kept.known.values()
    )
    with_keys = {question: one for question, one in kept.compiled.items() if one.keys}
    assert kept._services_size == sum(map(cache._size_of, with_keys.values()))
    assert kept._of_cluster == len(kept.compiled) - len(with_keys)
    uses: dict[bytes, dict[bytes, None]] = {}
    for question, one in with_keys.items():
        for key in one.keys:
            uses.setdefault(key, {})[question] = None
    assert kept._uses == uses


labels = st.binary(min_size=1, max_size=63) | st.sampled_from([one.encode() for one in LABELS])


@given(
    st.lists(labels, max_size=6),
    st.sampled_from(DOMAINS),
    st.sampled_from(sorted(TYPES.values())),
    st.sampled_from([b"", opt(), opt(700)]),
)
@settings(max_examples=300, deadline=None)
def test_any_name_gets_a_sound_reply_and_the_same_again(given_labels, domain, rtype, additional):
    wire = b"".join(bytes((len(one),)) + one for one in given_labels) + wire_name(domain)
    if len(wire) > 255:
        return
    head = query(domain, rtype, additional=additional)[:12]
    packet = head + wire + rtype.to_bytes(2, "big") + b"\0\1" + additional
    first = reply_of(SERVED, packet)
    assert first[12 : 12 + len(wire)] == wire
    assert len(first) <= 1232
    assert first[3] & 15 in {0, 2, 3, 5}
    for _ in range(2):
        again = reply_of(SERVED, packet)
        assert again[:12] == first[:12]
        assert walked(again, len(wire) + 16) == walked(first, len(wire) + 16)


def served() -> Answers:
    lookup = FakeLookup()
    answers = Answers(random.Random(1), lookup)
    answers.view = view()
    tags = (b"v1", b"v1.2")
    lookup.put(b"web", [instance(1, tags=tags), instance(2), instance(3, address="a.example")])
    lookup.put(b"db", [instance(1, address="x.service.consul"), instance(2, address="far.example")])
    lookup.put(b"consul", [instance(1, status=2)])
    lookup.put_node(b"w1", HostNode("10.1.0.1", (b"k=v",)))
    return answers


SERVED = served()


# How much is kept


def test_a_flood_of_spellings_and_types_does_not_grow_the_memory(monkeypatch):
    monkeypatch.setattr(cache, "KNOWN_MAX", 200)
    monkeypatch.setattr(cache, "SERVICES_SIZE_MAX", 200_000)
    lookup = FakeLookup()
    answers = Answers(random.Random(1), lookup)
    answers.view = view()
    for number in range(10):
        lookup.put(b"web%d" % number, [instance(one) for one in range(1, 6)])
    rng = random.Random(7)
    for number in range(3000):
        name = f"web{number % 10}.service.consul"
        spelt = "".join(rng.choice((one.upper(), one)) for one in name)
        answers.reply(query(spelt, rng.choice([1, 33, number]), additional=opt()))
        assert len(answers.known) <= 200
        assert answers._cache._services_size <= 200_000
    check_sizes(answers._cache)
    assert answers.known


def test_large_replies_are_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(cache, "KNOWN_SIZE_MAX", 50_000)
    kept = Cache()
    answer = Compiled(Rcode.NOERROR, (0, 0, 0), [b""])
    kept.add(wire_name("web") + b"\0\1\0\1", answer)
    for number in range(100):
        packet = query("web", ident=0)[2:] + number.to_bytes(2, "big")
        kept.remember(packet, answer, (bytes(1200), bytes(1200)), Count())
        assert kept._known_size <= 50_000
    check_sizes(kept)
    assert 5 <= len(kept.known) < 20


def test_answers_of_the_cluster_give_way_to_each_other_and_not_to_those_of_services(monkeypatch):
    monkeypatch.setattr(cache, "COMPILED_MAX", 20)
    lookup = FakeLookup()
    answers = Answers(random.Random(1), lookup)
    answers.view = view()
    lookup.put(b"web", [instance()])
    packet = query("web.service.consul", additional=opt())
    for _ in range(3):
        answers.reply(packet)
    for number in range(1, 100):
        answers.reply(query("leader.hstore.local", 300 + number))
        assert answers._cache._of_cluster <= 20
    assert packet[2:] in answers.known
    check_sizes(answers._cache)
