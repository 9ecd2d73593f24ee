"""`hstore config` and `hstore rename`."""

from __future__ import annotations

import json

import pytest

from hstore.cli import main as cli
from hstore.cli.search.find import Found
from hstore.cli.show import listing

SHOWN = {
    "heartbeat": {"value": "100ms", "source": "default"},
    "election_timeout": {"value": "2s", "source": "changed at revision 7"},
    "n1.type": {"value": "voter", "source": "default"},
}
CURRENT = ("GET", "/v1/config?timeout=2s")


def test_config_shows_a_table_or_one_value(server, capfd):
    server.answers[CURRENT] = (200, SHOWN)
    assert cli.run(["config", "-h", server.address]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "KEY               VALUE  SOURCE",
        "heartbeat         100ms  default",
        "election_timeout  2s     changed at revision 7",
        "n1.type           voter  default",
    ]
    assert cli.run(["config", "-h", server.address, "election_timeout"]) == 0
    assert capfd.readouterr().out == "2s\n"


def test_an_empty_value_is_seen_and_leaves_three_columns(server, capfd):
    empty = {"value": "", "source": "default"}
    server.answers[CURRENT] = (200, {"dns.service_ttl": empty})
    assert cli.run(["config", "-h", server.address]) == 0
    assert capfd.readouterr().out.splitlines()[1].split() == ["dns.service_ttl", '""', "default"]
    assert cli.run(["config", "-h", server.address, "dns.service_ttl"]) == 0
    assert capfd.readouterr().out == "\n"
    server.answers["PUT", "/v1/config/dns.service_ttl"] = (200, {"key": "dns.service_ttl", **empty})
    assert cli.run(["config", "-h", server.address, "dns.service_ttl", ""]) == 0
    assert capfd.readouterr().out == 'dns.service_ttl is "" (default)\n'


def test_an_unknown_key_is_wrong_usage_and_the_known_ones_are_named(server, capfd):
    server.answers[CURRENT] = (200, SHOWN)
    assert cli.run(["config", "-h", server.address, "hartbeat"]) == 2
    said = capfd.readouterr()
    assert said == (
        "",
        "hstore: hartbeat: unknown key; there are heartbeat, election_timeout, n1.type\n",
    )


def test_without_a_leader_what_the_node_knows_is_shown_and_that_is_said(server, capfd):
    server.answers[CURRENT] = (503, {"error": "there is no leader"})
    server.answers["GET", "/v1/config?stale"] = (200, SHOWN)
    assert cli.run(["config", "-h", server.address, "heartbeat"]) == 0
    out, err = capfd.readouterr()
    assert out == "100ms\n"
    assert err.startswith("hstore: there is no leader; what the node at ")


def test_a_change_is_sent_once_and_what_it_came_to_is_printed(server, capfd):
    changed = {"key": "n2.type", "value": "voter", "source": "default", "note": "it votes soon"}
    server.answers["PUT", "/v1/config/n2.type"] = (200, changed)
    assert cli.run(["config", "-h", server.address, "n2.type", "voter"]) == 0
    assert capfd.readouterr().out == "n2.type is voter (default)\nit votes soon\n"
    [(_, _, body)] = server.asked
    assert json.loads(body) == {"value": "voter"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((400, {"error": "no"}), 2),
        ((409, {"error": "no"}), 1),
        ((403, {"error": "no"}), 1),
        ((503, {"error": "no", "outcome": "unknown"}), 1),
    ],
)
def test_the_exit_status_tells_a_bad_value_from_a_refusal(server, capfd, answer, status):
    server.answers["PUT", "/v1/config/a%2Fb"] = answer
    assert cli.run(["config", "-h", server.address, "a/b", "1s"]) == status
    server.answers["POST", "/v1/node/rename"] = answer
    assert cli.run(["rename", "-h", server.address, "x"]) == status
    assert capfd.readouterr() == ("", "hstore: no\nhstore: no\n")


def test_a_node_that_is_not_there_is_status_3(capfd):
    assert cli.run(["config", "-h", "127.0.0.1:1"]) == 3
    assert cli.run(["config", "-h", "127.0.0.1:1", "heartbeat", "1s"]) == 3
    assert cli.run(["rename", "-h", "127.0.0.1:1", "web"]) == 3
    assert capfd.readouterr().err.count("\n") == 3


def test_the_log_level_is_changed_on_a_node_that_is_named(server, capfd):
    assert cli.run(["config", "log_level", "debug"]) == 2
    assert "-h ADDR" in capfd.readouterr().err
    changed = {"key": "log_level", "value": "debug", "source": "of the answering node"}
    server.answers["PUT", "/v1/config/log_level"] = (200, changed)
    assert cli.run(["config", "log_level", "debug", "-h", server.address]) == 0


def test_rename_tells_both_names(server, capfd):
    server.answers["POST", "/v1/node/rename"] = (200, {"name": "web", "was": "n2"})
    assert cli.run(["rename", "-h", server.address, "web"]) == 0
    assert capfd.readouterr().out == "n2 is web now\n"


def test_a_list_of_a_cluster_that_waits_for_nodes_says_so(make, capfd):
    info = make.info(make.node(type="follower"), leader=None, waiting_for=3)
    assert listing.show_once(Found("127.0.0.1:8500", info)) == 1
    out, err = capfd.readouterr()
    assert "n1" in out
    assert "waits for 3 nodes" in err
    assert "of which 1 has joined, and names no leader until then" in err


@pytest.mark.parametrize(
    ("words", "sent"), [(["n2"], "n2"), ([], ""), (["192.0.2.1:1"], "192.0.2.1:1")]
)
def test_transfer_asks_for_a_node_or_for_any_and_says_which_leads(server, capfd, words, sent):
    server.answers["POST", "/v1/leader/transfer"] = (200, {"leader": "n2"})
    assert cli.run(["transfer", "-h", server.address, *words]) == 0
    assert capfd.readouterr() == ("n2 leads\n", "")
    assert json.loads(server.asked[-1][2]) == {"to": sent}


def test_transfer_to_an_unknown_node_is_refused(server, capfd):
    error = "no member is called x; the members are n1, n2"
    server.answers["POST", "/v1/leader/transfer"] = (409, {"error": error})
    assert cli.run(["transfer", "-h", server.address, "x"]) == 1
    assert capfd.readouterr() == ("", f"hstore: {error}\n")


def test_what_a_node_takes_from_its_own_machine_only_is_said_to_be_typed_there(
    server, capfd, monkeypatch
):
    monkeypatch.setattr("hstore.cli.search.here.is_this_machine", lambda _address: False)
    refused = (403, {"error": "not from there"})
    server.answers["PUT", "/v1/config/dns_ttl"] = refused
    server.answers["PUT", "/v1/config/log_level"] = refused
    server.answers["POST", "/v1/node/rename"] = refused
    server.answers["POST", "/v1/leader/transfer"] = refused
    there = server.address
    for words, named in (
        (["config", "dns_ttl", "2s"], "config dns_ttl 2s"),
        (["config", "log_level", "debug"], f"config -h {there} log_level debug"),
        (["rename", "web"], f"rename -h {there} web"),
        (["transfer", "n2"], "transfer n2"),
    ):
        assert cli.run([words[0], "-h", there, *words[1:]]) == 1
        said = capfd.readouterr().err
        assert said == f"hstore: not from there\non the machine of {there}: `hstore {named}`\n"
