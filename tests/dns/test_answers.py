"""Which reply a query gets: header, sizes, errors. One test per rule of the contract."""

from __future__ import annotations

import dnslib
import pytest

from hstore.dns.zone import build_zone

from .kit import ZONE, answers_from, asked, is_held, member, opt, query, reply_of, view, wire_name

FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 1, 2, 3, 4, 5
AA, TC, RD, CD = 0x0400, 0x0200, 0x0100, 0x0010


def reply_to(packet, seen=None, **how):
    return reply_of(answers_from(seen or view()), packet, **how)


def flags_of(reply):
    return int.from_bytes(reply[2:4], "big")


def rcode_of(reply):
    return reply[3] & 15


def counts_of(reply):
    return tuple(int.from_bytes(reply[at : at + 2], "big") for at in (4, 6, 8, 10))


def question_of(packet):
    return packet[12 : packet.index(0, 12) + 5]


@pytest.mark.parametrize(
    "name", ["LeAdEr.HsToRe.LoCaL", "NODES.hstore.LOCAL", "aBsEnT.hstore.local"]
)
@pytest.mark.parametrize("again", [False, True])
def test_the_question_comes_back_byte_for_byte(name, again):
    answers = answers_from(view())
    if again:
        answers.reply(query(name.lower()))
    packet = query(name, "SRV", ident=0xBEEF)
    reply = reply_of(answers, packet)
    assert reply[:2] == b"\xbe\xef"
    assert reply[12 : len(packet)] == packet[12:]
    same = reply_of(answers, query(name.lower(), "SRV"))
    assert counts_of(reply) == counts_of(same)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (0x0000, 0x8400),
        (RD, 0x8400 | RD),
        (CD, 0x8400 | CD),
        (RD | CD | 0x0020, 0x8400 | RD | CD),
        # What a query has no business to set is not sent back: AA, TC, RA and Z.
        (AA | TC | 0x0080 | 0x0040, 0x8400),
    ],
)
def test_rd_and_cd_are_copied_and_nothing_else(sent, expected):
    assert flags_of(reply_to(query(flags=sent))) == expected


@pytest.mark.parametrize("name", ["example.com", "local", "", "xhstore.local", "hstore.local.x"])
@pytest.mark.parametrize("rtype", ["A", "ANY", "SOA"])
def test_outside_the_zone_is_refused_without_aa(name, rtype):
    reply = reply_to(query(name, rtype, additional=opt()))
    assert flags_of(reply) == 0x8000 | RD | REFUSED
    assert counts_of(reply) == (1, 0, 0, 1)
    assert question_of(reply) == question_of(query(name, rtype))


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("name", [ZONE, "leader.hstore.local", "absent.hstore.local"])
def test_transfers_are_refused(rtype, name):
    reply = reply_to(query(name, rtype), over_tcp=True)
    assert rcode_of(reply) == REFUSED
    assert counts_of(reply) == (1, 0, 0, 0)


def test_an_ixfr_with_its_soa_is_refused_and_not_malformed():
    soa = wire_name(ZONE) + b"\0\x06\0\1\0\0\0\0\0\x16\0\0" + bytes(20)
    packet = query(ZONE, "IXFR", counts=(1, 0, 1, 0), additional=soa)
    assert rcode_of(reply_to(packet)) == REFUSED


@pytest.mark.parametrize("rclass", [3, 254, 255, 0])
def test_another_class_is_refused(rclass):
    reply = reply_to(query("version.bind", 16, rclass=rclass))
    assert flags_of(reply) == 0x8000 | RD | REFUSED
    assert rcode_of(reply_to(query(rclass=rclass))) == REFUSED


@pytest.mark.parametrize("name", ["@", "leader", "nodes", "n1.node", "_hstore._tcp"])
def test_any_is_answered_with_one_hinfo(name):
    reply = asked(answers_from(view()), name, "ANY")
    assert (reply.header.rcode, reply.header.aa) == (0, 1)
    (record,) = reply.rr
    assert record.rtype == dnslib.QTYPE.HINFO
    assert record.rdata.data == b"\x07RFC8482\x00"
    assert record.ttl == 1


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_what_is_not_a_query_is_notimp(opcode):
    packet = query(flags=opcode << 11 | RD, additional=opt())
    reply = reply_to(packet)
    assert flags_of(reply) == 0x8000 | opcode << 11 | RD | NOTIMP
    assert question_of(reply) == question_of(packet)
    bare = query(flags=opcode << 11)[:12]
    assert reply_to(bare)[4:] == bytes(8)
    assert rcode_of(reply_to(bare)) == NOTIMP


@pytest.mark.parametrize("version", [1, 255])
@pytest.mark.parametrize("name", ["leader.hstore.local", "example.com"])
def test_an_edns_version_above_0_is_badvers(version, name):
    answers = answers_from(view())
    answers.reply(query(name))  # compiled, so that a shortcut would be there to be taken
    reply = reply_of(answers, query(name, additional=opt(version=version)))
    assert rcode_of(reply) == 0
    assert counts_of(reply) == (1, 0, 0, 1)
    # RFC 6891 section 6.1.3: 16 is 1 in the upper bits; version 0 is what we have.
    assert reply[-11:] == b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"


@pytest.mark.parametrize(
    ("flags", "expected"), [(0, b"\0\0"), (0x8000, b"\x80\0"), (0xC001, b"\x80\0")]
)
@pytest.mark.parametrize("options", [b"", b"\0\x0a\0\x08\1\2\3\4\5\6\7\x08"])
def test_an_opt_is_answered_with_ours_that_copies_do(flags, expected, options):
    answers = answers_from(view())
    for _ in range(2):
        reply = reply_of(answers, query(additional=opt(size=4096, flags=flags, options=options)))
        assert counts_of(reply) == (1, 1, 0, 1)
        assert reply[-11:] == b"\0\0\x29\x04\xd0\0\0" + expected + b"\0\0"


def test_without_an_opt_none_is_sent():
    assert counts_of(reply_to(query())) == (1, 1, 0, 0)


MALFORMED = {
    "no question": query(counts=(0, 0, 0, 0))[:12],
    "no question but its bytes": query(counts=(0, 0, 0, 0)),
    "two questions": query(counts=(2, 0, 0, 0)) + query()[12:],
    "a question announced only": query()[:12],
    "a name cut short": query()[:20],
    "a question without class": query()[:-2],
    "a pointer in the question": query()[:12] + b"\xc0\x0c\0\1\0\1",
    "an unknown label type": query()[:12] + b"\x41abc\0\0\1\0\1",
    "a label of 65 bytes": query()[:12] + b"\x41" + b"x" * 65 + b"\0\0\1\0\1",
    "a name of 256 bytes": query(".".join(["x" * 61] * 4 + ["x" * 6])),
    "bytes after the question": query() + b"\0",
    "bytes after the opt": query(additional=opt(), counts=(1, 0, 0, 1)) + b"\0",
    "an opt that is not counted": query(additional=opt(), counts=(1, 0, 0, 0)),
    "an opt announced only": query(counts=(1, 0, 0, 1)),
    "an opt cut short": query(additional=opt()[:-1], counts=(1, 0, 0, 1)),
    "an option cut short": query(additional=opt(options=b"\0\x0a\0\x08\1")),
    "half an option": query(additional=opt(options=b"\0\x0a\0")),
    "options announced only": query(additional=opt()[:-1] + b"\x14"),
    "two opts": query(additional=opt() + opt(), counts=(1, 0, 0, 2)),
    "an opt with an owner": query(additional=b"\1x" + opt(), counts=(1, 0, 0, 1)),
    "an opt with an owner that reads as one without": query(
        additional=b"\1x" + opt(options=b"\0\2ab"), counts=(1, 0, 0, 1)
    ),
    "an answer announced only": query(counts=(1, 1, 0, 0)),
    "65535 answers announced": query(counts=(1, 65535, 65535, 65535)),
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_garbage_behind_a_readable_header_is_formerr(packet):
    answers = answers_from(view())
    answers.reply(query())  # compiled, so that a shortcut would be there to be taken
    reply = reply_of(answers, packet)
    assert rcode_of(reply) == FORMERR
    assert reply[:2] == packet[:2]
    assert flags_of(reply) & AA == 0
    assert counts_of(reply)[1:3] == (0, 0)


def test_formerr_echoes_a_question_that_could_be_read():
    assert question_of(reply_to(query() + b"x")) == question_of(query())
    assert len(reply_to(query()[:20])) == 12


def test_a_name_of_255_bytes_is_not_malformed():
    name = ".".join(["x" * 61] * 4 + ["x" * 5])
    assert len(wire_name(name)) == 255
    assert rcode_of(reply_to(query(name))) == REFUSED


def test_records_other_than_opt_in_the_additional_section_are_ignored():
    tsig = wire_name("key.x") + b"\0\xfa\0\xff\0\0\0\0\0\2ab"
    packet = query(additional=tsig + opt(), counts=(1, 0, 0, 2))
    assert counts_of(reply_to(packet)) == (1, 1, 0, 1)


@pytest.mark.parametrize("size", range(12))
def test_without_a_header_there_is_no_reply(size):
    answers = answers_from(view())
    assert answers.reply(query()[:size]) is None
    assert answers.failure(query()[:size]) is None


@pytest.mark.parametrize("opcode", [0, 4, 5])
def test_a_response_is_never_answered(opcode):
    answers = answers_from(view())
    answers.reply(query())
    packet = query(flags=0x8000 | opcode << 11)
    assert answers.reply(packet) is None
    assert answers.reply(packet[:12]) is None
    assert answers.failure(packet) is None


def test_before_there_is_a_view_every_query_is_servfail_but_for_what_is_held():
    answers = answers_from(None)
    for name in ("leader.hstore.local", "example.com"):
        assert is_held(answers, query(name)) == (name != "example.com")
        reply = reply_of(answers, query(name))
        assert (rcode_of(reply), flags_of(reply) & AA) == (SERVFAIL, 0)
    assert not is_held(answers, query(rclass=3))
    assert rcode_of(reply_of(answers, query(rclass=3))) == REFUSED


# Sizes. An SRV record of a member takes 40 bytes or so, and its address in the additional section 20.


def size_by_tcp(seen, packet):
    return len(reply_to(packet, seen, over_tcp=True))


WHOLE, SHORTENED, TRUNCATED = "whole", "without some additional records", "TC"


@pytest.mark.parametrize("is_near", [False, True])
@pytest.mark.parametrize(
    ("count", "edns", "how", "how_near"),
    [
        (6, None, WHOLE, WHOLE),
        (6, 0, WHOLE, WHOLE),
        (8, None, SHORTENED, SHORTENED),
        (8, 512, SHORTENED, SHORTENED),
        (8, 0, SHORTENED, SHORTENED),  # RFC 6891 section 6.2.5: below 512 means 512
        (8, 1232, WHOLE, WHOLE),
        (20, None, TRUNCATED, TRUNCATED),
        (20, 1231, SHORTENED, SHORTENED),
        (20, 1232, SHORTENED, SHORTENED),
        (20, 4096, SHORTENED, WHOLE),  # our own 1232 is the cap, but not on this machine
        (20, 65535, SHORTENED, WHOLE),
        (90, 4096, TRUNCATED, SHORTENED),
        (350, 16384, TRUNCATED, SHORTENED),
        (350, 65535, TRUNCATED, SHORTENED),  # 16384 is the cap there
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_by_udp_additional_records_give_way_before_tc(count, edns, how, how_near, is_near, warm):
    seen = view(count)
    packet = query(
        "_hstore._tcp.hstore.local", "SRV", additional=b"" if edns is None else opt(edns)
    )
    answers = answers_from(seen)
    if warm:
        for was_near in (not is_near, is_near):  # what another got from the caches is not given
            answers.reply(packet, over_tcp=True)
            answers.reply(packet, is_near=was_near)
    reply = reply_of(answers, packet, is_near=is_near)
    expected = how_near if is_near else how
    limit = 512 if edns is None else max(512, min(edns, 16384 if is_near else 1232))
    opts = 0 if edns is None else 1
    assert len(reply) <= limit
    assert (size_by_tcp(seen, packet) <= limit) == (expected is WHOLE)
    assert bool(flags_of(reply) & TC) == (expected is TRUNCATED)
    assert flags_of(reply) & AA
    assert question_of(reply) == question_of(packet)
    if expected is TRUNCATED:
        assert counts_of(reply) == (1, 0, 0, opts)
        return
    parsed = dnslib.DNSRecord.parse(reply)
    hosts = [str(rr.rname) for rr in parsed.ar if rr.rtype != 41]
    assert len(parsed.rr) == count
    assert counts_of(reply)[3] == len(hosts) + opts
    assert (len(hosts) == count) == (expected is WHOLE)
    # They are those of the first records, and one more would be too much.
    assert hosts == [str(rr.rdata.target) for rr in parsed.rr][: len(hosts)]
    assert expected is WHOLE or limit - len(reply) < 40


def test_records_fit_to_the_byte():
    """Whatever the limit, as many addresses are there as fit, and not one more."""
    seen = view(9)  # all names are equally long, so that all orders are
    name = "nodes.hstore.local"
    packets = {limit: query(name, "SRV", additional=opt(limit)) for limit in range(512, 700)}
    whole = size_by_tcp(seen, packets[699])
    one = whole - len(reply_to(packets[whole - 1], seen))
    for limit, packet in packets.items():
        reply = reply_to(packet, seen)
        lacking = 9 - (counts_of(reply)[3] - 1)
        assert len(reply) == whole - lacking * one
        assert len(reply) <= limit
        assert not lacking or len(reply) + one > limit
        assert not flags_of(reply) & TC
        dnslib.DNSRecord.parse(reply)


@pytest.mark.parametrize(
    ("name", "rtype", "count"),
    [
        ("hstore.local", "NS", 25),
        ("_hstore._tcp.hstore.local", "PTR", 16),
        ("nodes.hstore.local", "SRV", 15),
        ("_hstore-peer._tcp.hstore.local", "SRV", 12),
    ],
)
@pytest.mark.parametrize("size", [None, 700])
def test_every_type_with_additional_records_is_whole_without_them(name, rtype, count, size):
    packet = query(name, rtype, additional=b"" if size is None else opt(size))
    answers = answers_from(view(count if size else count // 2))
    for _ in range(2):
        reply = reply_of(answers, packet)
        parsed = dnslib.DNSRecord.parse(reply)
        assert flags_of(reply) & TC == 0
        assert len(parsed.rr) == (count if size else count // 2)


@pytest.mark.parametrize("edns", [b"", opt(512)])
def test_by_tcp_everything_is_given(edns):
    answers = answers_from(view(100))
    for _ in range(2):
        reply = reply_of(
            answers, query("nodes.hstore.local", "SRV", additional=edns), over_tcp=True
        )
        assert flags_of(reply) & TC == 0
        assert counts_of(reply) == (1, 100, 0, 101 if edns else 100)


def test_what_no_message_can_hold_sets_tc_even_by_tcp():
    answers = answers_from(view(2000))
    for _ in range(2):
        reply = reply_of(answers, query("nodes.hstore.local", "SRV"), over_tcp=True)
        assert flags_of(reply) & TC


def test_a_new_view_takes_effect_with_the_next_query_and_an_equal_one_keeps_what_is_compiled():
    answers = answers_from(view())
    assert "10.0.0.1" in str(asked(answers, "leader"))
    assert " 42 " in str(asked(answers, "absent").auth[0].rdata)
    compiled = answers._compiled
    answers.view = view()
    assert answers._compiled is compiled
    answers.view = view(leader="n2", serial=43)
    assert "10.0.0.2" in str(asked(answers, "leader"))
    assert " 43 " in str(asked(answers, "absent").auth[0].rdata)
    answers.view = view(leader=None, serial=44)
    assert asked(answers, "leader").header.rcode == SERVFAIL
    answers.view = view([member(1, "10.9.9.9")], serial=45)
    assert "10.9.9.9" in str(asked(answers, "leader"))
    assert asked(answers, "n2.node").header.rcode == NXDOMAIN


def test_a_zone_is_built_for_the_first_query_and_not_for_each_view(monkeypatch):
    built = []

    def build(view, **_how):
        built.append(view.serial)
        return build_zone(view)

    monkeypatch.setattr("hstore.dns.answers.build_zone", build)
    answers = answers_from(view(serial=1))
    answers.view = view(serial=2)
    assert built == []
    asked(answers, "leader")
    asked(answers, "nodes")
    assert built == [2]


def test_a_flood_of_names_and_types_does_not_grow_the_memory():
    answers = answers_from(view())
    for number in range(10_000):
        answers.reply(query(f"x{number}.hstore.local"))
        answers.reply(query("leader.hstore.local", number))
    assert 0 < len(answers._compiled) <= 4096
