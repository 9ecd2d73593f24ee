"""The files that say how names resolve, as glibc and nss-mdns read them."""

from __future__ import annotations

import pytest

from hstore.cli.dns.name_service import (
    NameService,
    multicast_keeper,
    parse_hosts,
    parse_nsswitch,
    parse_resolv_conf,
    read,
)


@pytest.mark.parametrize(
    ("text", "servers", "ignored"),
    [
        ("", ("127.0.0.1",), ()),
        ("# nameserver 1.1.1.1\n;nameserver 1.1.1.1\nsearch a b\n", ("127.0.0.1",), ()),
        ("nameserver 10.0.0.1\nnameserver fe80::1%eth0\n", ("10.0.0.1", "fe80::1%eth0"), ()),
        ("nameserver\t127.0.0.53\noptions edns0\n", ("127.0.0.53",), ()),
        ("nameserver 127.0.0.1:8600\n", ("127.0.0.1",), ("nameserver 127.0.0.1:8600",)),
        ("nameserver 127.0.0.1#8600\n", ("127.0.0.1",), ("nameserver 127.0.0.1#8600",)),
        (
            "nameserver localhost\nnameserver\n",
            ("127.0.0.1",),
            ("nameserver localhost", "nameserver"),
        ),
        ("nameserver 10.0.0.1\nport 8600\n", ("10.0.0.1",), ("port 8600",)),
        (
            "".join(f"nameserver 10.0.0.{k}\n" for k in (1, 2, 3, 4)),
            ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
            ("nameserver 10.0.0.4",),
        ),
    ],
)
def test_resolv_conf_gives_those_that_are_asked_and_what_is_ignored(text, servers, ignored):
    assert parse_resolv_conf(text) == (servers, ignored)


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("", ("files", "dns")),
        ("# hosts: files\npasswd: files\n", ("files", "dns")),
        ("hosts:files dns # both\n", ("files", "dns")),
        (
            "hosts:  files mdns4_minimal [NOTFOUND=return] dns\n",
            ("files", "mdns4_minimal", "[NOTFOUND=return]", "dns"),
        ),
        (
            "hosts: files resolve [!UNAVAIL=return]dns\n",
            ("files", "resolve", "[!UNAVAIL=return]", "dns"),
        ),
        ("hosts: files [ NOTFOUND = return ] dns\n", ("files", "[ NOTFOUND = return ]", "dns")),
    ],
)
def test_nsswitch_gives_the_sources_of_hosts(text, sources):
    assert parse_nsswitch(text) == sources


def test_hosts_gives_each_name_with_its_address():
    text = "127.0.0.1 localhost\n10.0.0.1  Leader.hstore.local. l # old\n#1.1.1.1 x\n"
    assert parse_hosts(text) == (
        ("localhost", "127.0.0.1"),
        ("leader.hstore.local", "10.0.0.1"),
        ("l", "10.0.0.1"),
    )


RETURN = "[NOTFOUND=return]"


@pytest.mark.parametrize(
    ("sources", "allow", "name", "keeper"),
    [
        # The two labels of a zone in .local are kept, what is below it is passed on.
        (("files", "mdns4_minimal", RETURN, "dns"), None, "hstore.local", "mdns4_minimal"),
        (("files", "mdns4_minimal", RETURN, "dns"), None, "leader.hstore.local", None),
        (("files", "mdns4_minimal", RETURN, "dns"), None, "kv.example", None),
        (("files", "mdns_minimal", RETURN, "dns"), None, "leader.LOCAL.", "mdns_minimal"),
        # It only keeps what it does not find where it ends the search.
        (("files", "mdns4_minimal", "dns"), None, "hstore.local", None),
        (("files", "dns", "mdns4_minimal", RETURN), None, "hstore.local", None),
        (("files", "resolve", "[!UNAVAIL=return]", "mdns4", RETURN), None, "hstore.local", None),
        # The module without _minimal keeps what mdns.allow says; without the file, two labels.
        (("files", "mdns4", RETURN, "dns"), None, "leader.hstore.local", None),
        (("files", "mdns4", RETURN, "dns"), None, "hstore.local", "mdns4"),
        (("files", "mdns4", RETURN, "dns"), (".local.", ".local"), "leader.hstore.local", "mdns4"),
        (("files", "mdns4", "[notfound = return]", "dns"), ("*",), "kv.example", "mdns4"),
        (("files", "mdns4", RETURN, "dns"), (".lan",), "hstore.local", None),
        (("files", "mdns4", RETURN, "dns"), (".cal",), "hstore.local", None),
        # The _minimal ones do not read that file.
        (("files", "mdns4_minimal", RETURN, "dns"), ("*",), "leader.hstore.local", None),
    ],
)
def test_nss_mdns_keeps_the_names_that_it_takes(sources, allow, name, keeper):
    service = NameService(sources=sources, mdns_allow=allow)
    assert multicast_keeper(service, name) == keeper


def test_a_machine_without_these_files_has_the_defaults_of_glibc(tmp_path):
    assert read(tmp_path) == NameService()


def test_the_files_are_read_where_the_root_is(tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "resolv.conf").write_bytes(b"nameserver 127.0.0.53\n# \xff\n")
    (etc / "nsswitch.conf").write_text("hosts: files resolve dns\n")
    (etc / "mdns.allow").write_text(".local # all\n\n")
    (etc / "hosts").write_text("10.0.0.1 a\n")
    service = read(tmp_path)
    assert service.nameservers == ("127.0.0.53",)
    assert service.is_resolved_asked
    assert service.mdns_allow == (".local",)
    assert service.fixed == (("a", "10.0.0.1"),)
