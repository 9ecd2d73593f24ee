"""Whatever arrives: replies stay within their limits, and both ways to an answer agree."""

from __future__ import annotations

import random

import dnslib
from hypothesis import example, given
from hypothesis import strategies as st

from .kit import TYPES, ZONE, answers_from, opt, query, view

NAMES = [ZONE, "leader.hstore.local", "nodes.hstore.local", "n1.node.HSTORE.local", "x.y", "LOCAL"]

ordinary = st.builds(
    query,
    st.sampled_from(NAMES),
    st.sampled_from(sorted(TYPES)),
    flags=st.sampled_from([0, 0x0100, 0x0110, 0x0120, 0x2800, 0x8000]),
    rclass=st.sampled_from([1, 1, 1, 3, 255]),
    additional=st.one_of(
        st.just(b""),
        st.builds(
            opt,
            st.integers(0, 65535),
            st.sampled_from([0, 0, 0, 1]),
            st.sampled_from([0, 0x8000, 1]),
            st.sampled_from([b"", b"\0\x0a\0\0", b"\0"]),
        ),
    ),
)


@st.composite
def mutated(draw):
    """An ordinary query with some bytes changed, put in or cut off."""
    packet = bytearray(draw(ordinary))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(packet)))
        match draw(st.sampled_from(["change", "insert", "cut"])):
            case "change" if at < len(packet):
                packet[at] = draw(st.integers(0, 255))
            case "insert":
                packet[at:at] = draw(st.binary(max_size=12))
            case _:
                del packet[at : at + draw(st.integers(0, 6))]
    return bytes(packet)


packets = st.one_of(mutated(), st.binary(max_size=64))


def warm(count=12):
    answers = answers_from(view(count))
    for name in NAMES:
        for rtype in TYPES:
            answers.reply(query(name, rtype))
    return answers


WARM = warm()


@given(packets, st.booleans(), st.booleans())
def test_any_bytes_get_no_reply_or_one_that_is_a_reply_to_them(packet, over_tcp, is_near):
    reply = WARM.reply(packet, over_tcp=over_tcp, is_near=is_near)
    if len(packet) < 12 or packet[2] & 0x80:
        assert reply is None
        return
    assert reply is not None
    assert reply[:2] == packet[:2]
    assert reply[2] & 0xF9 == 0x80 | packet[2] & 0x79  # QR set, opcode and RD copied
    assert reply[3] & 0xE0 == 0  # RA, Z, AD
    assert len(reply) <= (65535 if over_tcp else 16384 if is_near else 1232)
    if reply[4:6] == b"\0\1":
        end = reply.index(0, 12) + 5 if 0 in reply[12:] else len(reply)
        assert reply[12:end] == packet[12:end]


@given(ordinary, st.booleans())
def test_replies_to_whole_queries_can_be_parsed_and_fit_what_the_client_takes(packet, is_near):
    reply = WARM.reply(packet, is_near=is_near)
    if reply is None:
        return
    parsed = dnslib.DNSRecord.parse(reply)
    assert bytes(parsed.pack())[:4] == reply[:4]
    advertised = 512
    if packet[11] and reply[11]:
        at = len(query(packed_name(packet), 1))
        advertised = max(
            512, min(16384 if is_near else 1232, int.from_bytes(packet[at + 3 : at + 5], "big"))
        )
    assert len(reply) <= advertised


def packed_name(packet):
    return str(dnslib.DNSRecord.parse(packet).q.qname)


# Queries of the usual shapes with an additional record that is nearly, but not quite, usual.
nearly_usual = st.builds(
    query,
    st.sampled_from(NAMES),
    st.sampled_from(["A", "SRV"]),
    flags=st.sampled_from([0, 0x0100, 0x0110, 0x0120]),
    counts=st.just((1, 0, 0, 1)),
    additional=st.builds(
        lambda record, at, byte: record[:at] + byte + record[at + len(byte) :],
        st.builds(opt, st.integers(0, 65535), flags=st.sampled_from([0, 0x8000])),
        st.integers(0, 11),
        st.binary(max_size=1),
    ),
)


@given(st.one_of(packets, nearly_usual), st.booleans(), st.booleans())
@example(query(additional=opt(), flags=0x0120), False, False)
@example(query(additional=opt() + b"\0", counts=(1, 0, 0, 1)), True, False)
@example(query(additional=opt(version=1)), True, False)
@example(query(additional=b"\0\0\x2a" + opt()[3:]), False, True)
@example(query(additional=b"\0\0\x2a" + opt()[3:]), True, False)
def test_the_shortcut_and_the_careful_way_give_the_same_reply(packet, over_tcp, is_near):
    # One member: a single order of records, so that equal means equal byte for byte.
    answers = warm_of_one()
    short = answers._shortcut(packet, over_tcp=over_tcp, is_near=is_near)
    if short is not None:
        answers._compiled.clear()
        assert answers.reply(packet, over_tcp=over_tcp, is_near=is_near) == short


def warm_of_one():
    answers = answers_from(view(1))
    for name in NAMES:
        answers.reply(query(name, "A"))
        answers.reply(query(name, "SRV"))
    return answers


def test_the_shortcut_is_what_answers_a_repeated_usual_query():
    answers = warm_of_one()
    rng = random.Random(2)
    for additional in (b"", opt(rng.randrange(65536)), opt(flags=0x8000)):
        assert (
            answers._shortcut(query(additional=additional), over_tcp=False, is_near=True)
            is not None
        )
        assert (
            answers._shortcut(query(additional=additional), over_tcp=True, is_near=False)
            is not None
        )
