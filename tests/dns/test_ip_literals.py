"""What is an IP literal and what is loopback, which address one means, and how one is written: one rule for all rooms."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hstore.dns.ip_literals import host_and_port, ip_of, is_ip, is_loopback, packed_ip
from hstore.dns.ratelimit import network_of

LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::1%lo", "::ffff:127.0.0.1", "::ffff:7f00:1"]
BEYOND = ["10.0.0.1", "::ffff:10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "fe80::1%eth0"]
# The copies of this rule differed: one went by `127.` as text, two took a mapped address for one
# of another machine, one raised for a host name.
NO_LITERALS = ["", "localhost", "127.example.org", "127.0.0.1:8500", "[::1]"]


def test_loopback_is_told_from_the_rest():
    assert [host for host in (*LOOPBACK, *BEYOND, *NO_LITERALS) if is_loopback(host)] == LOOPBACK


def test_a_literal_is_told_from_a_name():
    assert [host for host in (*LOOPBACK, *BEYOND, *NO_LITERALS) if is_ip(host)] == LOOPBACK + BEYOND


def test_the_rate_limit_which_goes_by_the_text_knows_the_same_loopback():
    # What the kernel gives as the sender of a datagram: never 7f00:1, nor a scope of ::1.
    senders = [one for one in (*LOOPBACK, *BEYOND) if one not in {"::ffff:7f00:1", "::1%lo"}]
    assert [one for one in senders if network_of(one) is None] == [
        one for one in senders if is_loopback(one)
    ]


def test_a_mapped_address_is_the_one_in_it_and_a_zone_index_no_part_of_one():
    assert ip_of("::ffff:192.0.2.1") == ip_address("192.0.2.1")
    assert ip_of("fe80::1%eth0") == ip_address("fe80::1")
    for host in NO_LITERALS:
        with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
            ip_of(host)


def test_an_ipv6_host_stands_in_brackets_before_a_port():
    assert host_and_port("192.0.2.1", 8500) == "192.0.2.1:8500"
    assert host_and_port("2001:db8::1", 8500) == "[2001:db8::1]:8500"


def packed(host: str) -> bytes | None:
    try:
        return ip_of(host).packed
    except ValueError:
        return None


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.ip_addresses(v=6).map(lambda ip: ip.exploded.upper()),
        st.ip_addresses(v=4).map("::ffff:{}".format),
        st.ip_addresses(v=6).map("{}%eth0".format),
        st.ip_addresses(v=4).map("{}%1".format),
        st.text(alphabet="0123456789abcdef.:%xF \0ü", max_size=20),
        st.text(max_size=10),
    )
)
@example("")
@example("1.2.3.04")
@example("1.2.3")
@example("::1.2.3.4")
@example("1::2::3")
@example("localhost")
@example("10.0.0.1\0")
def test_the_c_library_reads_the_same_addresses(host):
    assert packed_ip(host) == packed(host)
