"""What `hstore dns setup` prints: whole files, for the cluster that is there, or for none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hstore.cli import main as cli
from hstore.cli.client.errors import Unreachable
from hstore.cli.dns import setup
from hstore.cli.dns.resolvers import DEFAULT_SERVERS, RESOLVERS, Server, configuration
from hstore.node.api.gate import Caller
from hstore.node.api.routes import RECORDS
from hstore.node.errors import Refused

ROOT = Path(__file__).resolve().parents[3]
CONFIGS, DOCS = ROOT / "configs" / "dns", ROOT / "docs"
A = "127.0.0.1:8500"
SPREAD = [Server("10.0.0.1", 8600), Server("10.0.0.2", 8600), Server("fd00::3", 8700)]

PROXIES = ("haproxy", "nginx")

CHECKERS = {
    "dnsmasq": ["dnsmasq", "--test", "-C"],
    "unbound": ["unbound-checkconf"],
    "bind": ["named-checkconf"],
    "haproxy": ["haproxy", "-c", "-f"],
    "nginx": ["nginx", "-t", "-e", "stderr", "-c"],
}
WHOLE = {"nginx": "pid {folder}/pid; events {{ }} http {{ access_log off; {text} }}"}
"""What a file is part of that is none by itself."""


def effective(text):
    """Give what is left without comments and empty lines."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "--"))]


def test_configs_hold_what_is_printed_for_the_defaults():
    """After a change of a template: `hstore dns setup SYSTEM > configs/dns/FILE` without a cluster."""
    printed = {
        resolver.file: configuration(system, "hstore.local", DEFAULT_SERVERS)
        for system, resolver in RESOLVERS.items()
    }
    assert {path.name: path.read_text() for path in CONFIGS.iterdir()} == printed


@pytest.mark.parametrize(
    ("system", "lines"),
    [
        (
            "systemd-resolved",
            ["[Resolve]", "DNS=10.0.0.1:8600 10.0.0.2:8600 [fd00::3]:8700", "Domains=~z.example"],
        ),
        (
            "dnsmasq",
            [
                "server=/z.example/10.0.0.1#8600",
                "server=/z.example/10.0.0.2#8600",
                "server=/z.example/fd00::3#8700",
                "all-servers",
                "rebind-domain-ok=/z.example/",
            ],
        ),
        (
            "unbound",
            [
                "server:",
                'domain-insecure: "z.example."',
                'local-zone: "z.example." transparent',
                'private-domain: "z.example."',
                "do-not-query-localhost: no",
                "discard-timeout: 5000",
                "outbound-msg-retry: 4",
                "stub-zone:",
                'name: "z.example."',
                "stub-addr: 10.0.0.1@8600",
                "stub-addr: 10.0.0.2@8600",
                "stub-addr: fd00::3@8700",
                "stub-no-cache: yes",
            ],
        ),
        (
            "bind",
            [
                'zone "z.example" {',
                "type forward;",
                "forward only;",
                "forwarders {",
                "10.0.0.1 port 8600;",
                "10.0.0.2 port 8600;",
                "fd00::3 port 8700;",
                "};",
                "};",
            ],
        ),
        (
            "coredns",
            [
                "z.example {",
                "errors",
                "forward . 10.0.0.1:8600 10.0.0.2:8600 [fd00::3]:8700 {",
                "health_check 1s",
                "max_fails 1",
                "}",
                "}",
            ],
        ),
        (
            "knot",
            [
                "local zone = policy.todnames({'z.example.'})",
                "policy.add(policy.suffix(policy.FLAGS({'NO_CACHE'}), zone))",
                "policy.add(policy.suffix(policy.STUB({",
                "'10.0.0.1@8600',",
                "'10.0.0.2@8600',",
                "'fd00::3@8700',",
                "}), zone))",
            ],
        ),
        ("macos", ["nameserver 10.0.0.1", "nameserver 10.0.0.2", "port 8600"]),
    ],
)
def test_each_file_names_the_zone_and_all_servers_in_the_words_of_its_system(system, lines):
    assert effective(configuration(system, "z.example", SPREAD)) == lines


@pytest.mark.parametrize(
    ("system", "servers", "lines"),
    [
        (
            "haproxy",
            SPREAD,
            [
                "nameserver n1 10.0.0.1:8600",
                "nameserver n2 10.0.0.2:8600",
                "nameserver n3 [fd00::3]:8700",
                "hold valid 1s",
                "accepted_payload_size 8192",
                "default-server resolvers hstore-dns init-addr none resolve-prefer ipv6",
                "server-template node 10 _hstore._tcp.z.example",
                "server-template leader 1 _hstore-leader._tcp.z.example",
            ],
        ),
        (
            "haproxy",
            SPREAD[:2],
            ["default-server resolvers hstore-dns init-addr none resolve-prefer ipv4"],
        ),
        (
            "nginx",
            SPREAD,
            ["resolver 127.0.0.1 valid=1s;", "set $hstore_node leader.z.example:9000;"],
        ),
        ("nginx", SPREAD[:2], ["resolver 127.0.0.1 valid=1s ipv6=off;"]),
    ],
)
def test_a_proxy_looks_up_the_nodes_while_it_runs(system, servers, lines):
    text = configuration(system, "z.example", servers, api_port=9000)
    assert [line for line in effective(text) if line in lines and "default" not in line] == [
        line for line in lines if "default" not in line
    ]
    assert set(lines) <= set(effective(text))


@pytest.mark.parametrize("system", PROXIES)
def test_a_proxy_passes_no_order_on_that_a_node_takes_from_its_own_machine_only(system):
    """To a node beside the proxy, every client of the proxy is on that machine."""
    text = configuration(system, "z.example", SPREAD)
    if system == "haproxy":
        (rule,) = re.findall(r"http-request deny if \{ path_beg (.*) \} !METH_GET", text)
        denied = "|".join(map(re.escape, rule.split()))
    else:
        (denied,) = re.findall(r"location ~ (\S+) \{\s+limit_except GET \{ deny all; \}", text)
    changes = [route for route in RECORDS if route.method != b"GET"]
    assert {route.path for route in changes if re.match(denied, route.path.decode())} == {
        route.path for route in changes if route.caller is Caller.THIS_MACHINE
    }


def test_what_cannot_be_set_is_said_in_the_comments():
    said = {
        system: " ".join(configuration(system, "z.example", SPREAD).split()) for system in RESOLVERS
    }
    for words in ("waits 5 s", "a SERVFAIL for 10 s"):
        assert words in said["systemd-resolved"]
    assert "strict-order must not be set" in said["dnsmasq"]
    assert "servfail-ttl 0;" in said["bind"]
    assert "a TTL of 1 s for up to 2 s" in said["unbound"]
    assert "waits 2 s for a node that is down" in said["knot"]


def test_on_macos_a_node_at_another_port_gets_a_file_of_its_own():
    text = configuration("macos", "z.example", SPREAD)
    assert text.partition("# -- /etc/resolver/z.example.2\n")[2].splitlines() == [
        "# domain z.example",
        "# nameserver fd00::3",
        "# port 8700",
        "# search_order 2",
    ]


@pytest.mark.parametrize("system", RESOLVERS)
def test_each_file_says_how_to_install_reload_and_try_it(system):
    text = configuration(system, "z.example", SPREAD)
    sign = RESOLVERS[system].comment
    for word in (f"Install: hstore dns setup {system} |", "Reload:  ", "Try:     "):
        assert f"\n{sign} {word}" in text
    assert set(re.findall(r"\$\S+", text)) <= (
        {"$hstore_node", "$hstore_node;", "$http_host;"} if system == "nginx" else set()
    )
    assert "1.0.0.10.in-addr.arpa" in text or system in {"macos", *PROXIES}


@pytest.mark.parametrize("servers", [DEFAULT_SERVERS, SPREAD], ids=["defaults", "spread"])
@pytest.mark.parametrize("system", CHECKERS)
def test_the_system_itself_takes_the_file(system, servers, require_tool, tmp_path):
    program, *options = CHECKERS[system]
    file = tmp_path / "hstore.conf"
    text = configuration(system, "hstore.local", servers)
    file.write_text(WHOLE.get(system, "{text}").format(folder=tmp_path, text=text))
    done = subprocess.run(
        [require_tool(program), *options, str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, "error" in done.stderr.replace("error_log", "")) == (0, False), done


# --- the guides -----------------------------------------------------------------------------


def blocks(page):
    """Give the lines of each block of code, with the heading above it."""
    heading = ""
    for number, piece in enumerate((DOCS / page).read_text().split("```\n")):
        if number % 2:
            yield heading, [line.strip() for line in piece.splitlines() if line]
        else:
            heading = [heading, *re.findall(r"^## (.*)$", piece, re.MULTILINE)][-1]


@pytest.mark.parametrize("page", ["resolvers.md", "load-balancers.md"])
def test_a_guide_shows_what_is_printed(page):
    by_title = {resolver.title: system for system, resolver in RESOLVERS.items()}
    shown = list(blocks(page))
    assert shown
    for heading, lines in shown:
        text = configuration(by_title[heading], "hstore.local", DEFAULT_SERVERS)
        assert lines
        if heading == "BIND" and "servfail-ttl 0;" in lines:
            assert all(line in text for line in lines)  # in its instructions
        else:
            printed = effective(text)
            assert lines == (printed[: len(lines)] if page == "load-balancers.md" else printed)


# --- the command ------------------------------------------------------------------------------


def test_the_servers_are_those_of_the_running_cluster_live_ones_first(
    make_finder, cluster, make, capfd
):
    nodes = [
        make.node(1, health="failed", dns_address="10.0.0.1:8600"),
        make.node(2, dns_address="10.0.0.2:9053"),
        make.node(3, health="suspect", dns_address="[fd00::3]:8600"),
    ]
    cluster.set(A, "/v1/cluster", make.info(*nodes, zone="kv.example"))
    setup.setup("dnsmasq", None, make_finder([A]))
    out, err = capfd.readouterr()
    assert effective(out)[:3] == [
        "server=/kv.example/10.0.0.2#9053",
        "server=/kv.example/fd00::3#8600",
        "server=/kv.example/10.0.0.1#8600",
    ]
    assert err == ""


def test_without_a_cluster_the_defaults_are_printed_and_that_is_said_beside_the_file(
    make_finder, capfd
):
    setup.setup("unbound", None, make_finder([]))
    out, err = capfd.readouterr()
    assert out == (CONFIGS / "unbound.conf").read_text()
    assert err.startswith("hstore: no cluster of zone hstore.local was found")


def test_nginx_gets_the_port_of_the_nodes_and_is_said_not_to_find_others(
    make_finder, cluster, make, capfd
):
    nodes = [make.node(k, address=f"10.0.0.{k}:9000") for k in (1, 2, 3)]
    cluster.set(A, "/v1/cluster", make.info(*nodes))
    setup.setup("nginx", A, make_finder([A]))
    out, err = capfd.readouterr()
    assert ("set $hstore_node leader.hstore.local:9000;" in out, err) == (True, "")

    nodes = [make.node(1, address="10.0.0.1:9000", health="failed"), *nodes[1:]]
    nodes[2] = make.node(3, address="10.0.0.3:9001")
    cluster.set(A, "/v1/cluster", make.info(*nodes))
    setup.setup("nginx", A, make_finder([A]))
    out, err = capfd.readouterr()
    assert "set $hstore_node leader.hstore.local:9000;" in out
    assert "at 9000 and 9001: it finds a leader at 9000 only" in err
    setup.setup("haproxy", A, make_finder([A]))
    assert capfd.readouterr().err == ""


def test_a_node_that_is_named_has_to_answer(make_finder):
    with pytest.raises(Unreachable):
        setup.setup("unbound", A, make_finder([]))


def test_what_a_stranger_says_does_not_get_into_a_file_that_root_installs(
    make_finder, cluster, make, capfd
):
    evil = "127.0.0.1:8600\nserver=/#/6.6.6.6"
    nodes = [make.node(1, dns_address=evil), make.node(2, dns_address="evil.example:53")]
    cluster.set(A, "/v1/cluster", make.info(*nodes, make.node(3), cluster_id="c\nserver=/x/y"))
    setup.setup("dnsmasq", A, make_finder([A]))
    assert effective(capfd.readouterr().out) == [
        "server=/hstore.local/127.0.0.1#8602",
        "all-servers",
        "rebind-domain-ok=/hstore.local/",
    ]

    cluster.set(A, "/v1/cluster", make.info(zone="x/1.2.3.4\nserver=/#/6.6.6.6"))
    with pytest.raises(Refused, match="gives a zone that is none"):
        setup.setup("dnsmasq", A, make_finder([A]))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("arguments", [["x"], [], ["--help"]], ids=["unknown", "none", "help"])
def test_the_systems_are_listed_to_who_does_not_name_one_of_them(arguments, capfd):
    status = cli.run(["dns", "setup", *arguments])
    out, err = capfd.readouterr()
    assert status == (0 if arguments == ["--help"] else 2)
    said = " ".join((out + err).split())
    assert all(system in said for system in RESOLVERS)


def test_a_system_may_be_written_as_its_makers_do(server, make, capfd):
    server.set_cluster(make.info())
    assert cli.run(["dns", "setup", "-h", server.address, "BIND"]) == 0
    assert 'zone "hstore.local" {' in capfd.readouterr().out
