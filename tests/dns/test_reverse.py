"""Names of addresses (in-addr.arpa, ip6.arpa), and browsing for services (RFC 6763)."""

from __future__ import annotations

import dnslib
import pytest

from .kit import answers_from, asked, contents, member, opt, query, reply_of, texts, view

NODE = "node.hstore.local."
V6 = "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


def of(answers, name, rtype="PTR"):
    packet = query(name, rtype, additional=opt())
    return dnslib.DNSRecord.parse(reply_of(answers, packet, over_tcp=True))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.0.0.2", "2.0.0.10.in-addr.arpa"),
        ("2001:db8::8", V6),
        ("::ffff:192.0.2.7", "7.2.0.192.IN-ADDR.arpa"),
        ("fe80::1%eth0", "1." + "0." * 28 + "8.e.f.ip6.arpa"),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_the_name_of_a_members_address_points_to_it_live_or_not(host, name, live):
    answers = answers_from(view([member(1), member(2, host, live=live)]))
    for _ in range(2):
        reply = of(answers, name)
        assert (reply.header.rcode, reply.header.aa) == (0, 1)
        assert contents(reply.rr) == [f"n2.{NODE}"]
        assert [rr.ttl for rr in reply.rr] == [1]
        assert str(reply.rr[0].rname).lower() == f"{name.lower()}."


def test_several_members_at_one_address_have_one_ptr_each():
    answers = answers_from(view([member(number, "127.0.0.1") for number in (1, 2, 3)]))
    assert set(contents(of(answers, "1.0.0.127.in-addr.arpa").rr)) == {
        f"n{number}.{NODE}" for number in (1, 2, 3)
    }


@pytest.mark.parametrize(
    "name",
    [
        "4.0.0.10.in-addr.arpa",
        "0.0.10.in-addr.arpa",
        "10.in-addr.arpa",
        "in-addr.arpa",
        "ip6.arpa",
        "9" + V6[1:],
        V6[2:],
        "1.0.0.10.in-addr.arpa.hstore.example",
    ],
)
def test_the_reverse_names_of_others_are_outside_the_zone(name):
    answers = answers_from(view([member(1), member(2, "2001:db8::8")]))
    reply = of(answers, name)
    assert (reply.header.rcode, reply.header.aa) == (dnslib.RCODE.REFUSED, 0)


def test_a_member_that_is_no_ip_literal_has_no_reverse_name():
    answers = answers_from(view([member(1), member(2, "n2.example")]))
    assert contents(of(answers, "1.0.0.10.in-addr.arpa").rr) == [f"n1.{NODE}"]


@pytest.mark.parametrize(
    ("name", "rtype", "rcode"),
    [
        ("1.0.0.10.in-addr.arpa", "A", 0),
        ("1.0.0.10.in-addr.arpa", "TXT", 0),
        ("x.1.0.0.10.in-addr.arpa", "PTR", 3),
        ("x.y.1.0.0.10.in-addr.arpa", "A", 3),
    ],
)
def test_a_negative_answer_has_the_soa_of_an_apex_that_the_name_lies_under(name, rtype, rcode):
    """RFC 2308 section 3; and what one apex does not have is not said with another's SOA."""
    answers = answers_from(view())
    asked(answers, "absent")
    for _ in range(2):
        reply = of(answers, name, rtype)
        assert (reply.header.rcode, reply.header.aa, reply.rr) == (rcode, 1, [])
        assert [str(rr.rname) for rr in reply.auth] == ["1.0.0.10.in-addr.arpa."]
    assert [str(rr.rname) for rr in asked(answers, "absent").auth] == ["hstore.local."]


def test_the_name_of_an_address_is_an_apex_with_soa_and_ns():
    answers = answers_from(view())
    assert len(of(answers, "1.0.0.10.in-addr.arpa", "SOA").rr) == 1
    assert len(of(answers, "1.0.0.10.in-addr.arpa", "NS").rr) == 3


def test_without_a_leader_pointers_have_ttl_0():
    (record,) = of(answers_from(view(leader=None)), "2.0.0.10.in-addr.arpa").rr
    assert record.ttl == 0


def test_browsing_leads_from_the_zone_to_every_live_members_port_and_facts():
    """RFC 6763 sections 4, 9 and 12: types, instances, and with these all there is to know."""
    answers = answers_from(view([member(1), member(2, live=False), member(3)]))
    types = contents(asked(answers, "_services._dns-sd._udp", "PTR").rr)
    assert "_hstore._tcp.hstore.local." in types
    reply = asked(answers, "_hstore._tcp", "PTR")
    assert set(contents(reply.rr)) == {f"n{i}._hstore._tcp.hstore.local." for i in (1, 3)}
    more = texts(reply.ar)
    for i in (1, 3):
        assert f"n{i}._hstore._tcp.hstore.local SRV 0 1 {8499 + i} n{i}.{NODE}" in more
        assert f"n{i}.node.hstore.local A 10.0.0.{i}" in more
        assert any(text.startswith(f"n{i}._hstore._tcp.hstore.local TXT ") for text in more)
    assert len(more) == 6


def test_instances_do_not_show_among_the_srv_records_of_their_service():
    reply = asked(answers_from(view()), "_hstore._tcp", "SRV")
    assert {rr.rtype for rr in reply.rr} == {dnslib.QTYPE.SRV}
    assert len(reply.rr) == 3


def test_types_that_can_be_browsed_are_those_that_exist():
    answers = answers_from(view())
    for record in asked(answers, "_services._dns-sd._udp", "PTR").rr:
        service = str(record.rdata).removesuffix(".hstore.local.")
        assert asked(answers, service, "PTR").rr


@pytest.mark.parametrize(
    ("count", "size", "answers", "more"),
    [(3, None, 3, 8), (3, 1232, 3, 9), (12, 1232, 12, 15), (80, 1232, 0, 0)],
)
def test_what_only_saves_a_browser_questions_is_left_out_as_far_as_it_does_not_fit(
    count, size, answers, more
):
    """RFC 2181 section 9: TC is for what belongs to the answer itself."""
    server = answers_from(view(count))
    extra = b"" if size is None else opt(size)
    packet = query("_hstore._tcp.hstore.local", "PTR", additional=extra)
    whole = asked(server, "_hstore._tcp", "PTR")
    assert (len(whole.rr), len(texts(whole.ar))) == (count, 3 * count)
    for _ in range(2):
        reply = reply_of(server, packet)
        assert len(reply) <= (size or 512)
        parsed = dnslib.DNSRecord.parse(reply)
        assert (len(parsed.rr), len(texts(parsed.ar))) == (answers, more)
        assert bool(reply[2] & 2) == (answers == 0)
