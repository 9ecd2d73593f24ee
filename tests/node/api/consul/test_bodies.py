"""Bodies by which services, checks and nodes are registered: contract-services sections 3.2, 4.2, 5, 9.5, 13.

What is refused, in which words, and that nothing but an answer of these comes from any body at all.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstore.node.api.consul.bodies import catalog_body, check_body, service_body
from hstore.node.api.http.answers import HttpError
from hstore.node.config import command_limits
from hstore.node.model import commands
from hstore.node.model.checks import CheckDefinition
from hstore.node.model.services import (
    CatalogRegister,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)

HERE = Place(7)
RESERVED = (
    "Invalid Service Meta: Key prefix 'consul-' is reserved for internal use ('consul-x', '1')"
)


def exchange(*, scripts: bool = False) -> Any:
    return SimpleNamespace(
        backend=SimpleNamespace(
            checks=SimpleNamespace(scripts=scripts),
            settings=SimpleNamespace(cluster_settings=commands.ClusterSettings()),
        )
    )


def service(body: Any, *, scripts: bool = False, runs_here: bool = True) -> Service:
    return both(body, scripts=scripts, runs_here=runs_here)[0]


def checks(body: Any, *, scripts: bool = False, runs_here: bool = True) -> tuple[GivenCheck, ...]:
    return both(body, scripts=scripts, runs_here=runs_here)[1]


def both(body: Any, *, scripts: bool, runs_here: bool) -> tuple[Service, tuple[GivenCheck, ...]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service_body.decode_register(exchange(scripts=scripts), raw, runs_here=runs_here)


def check(body: Any, **more: Any) -> GivenCheck:
    """The one check of a service that has this in its `Check`."""
    (only,) = checks({"Name": "web", "Check": body}, **more)
    return only


def outcome(call: Any, *args: Any) -> tuple[Any, HttpError | None]:
    try:
        return call(*args), None
    except HttpError as error:
        return None, error


def refusal(call: Any, *args: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        call(*args, **more)
    assert caught.value.plain is not None
    assert "\n" not in caught.value.plain
    return caught.value.status, caught.value.plain


# --- services ------------------------------------------------------------------------------------


def test_a_service_needs_but_a_name():
    assert service({"Name": "web"}) == Service(0, "web", "web")


def test_all_that_a_service_can_have():
    body = {
        "ID": "web-1",
        "Name": "web",
        "Tags": ["v2", "v1", "v2"],
        "Port": 8080,
        "Address": "app.example",
        "TaggedAddresses": {"wan": {"Address": "192.0.2.1", "Port": 80}, "lan": {}},
        "Meta": {"b": "2", "a": "1"},
        "Weights": {"Passing": 5},
        "EnableTagOverride": True,
        "Token": "t",
        "Kind": "",
        "Connect": {"Native": True},
        "Proxy": {"Anything": [1]},
        "Locality": None,
        "Nobody": {"knows": "this"},
    }
    assert service(body) == Service(
        0,
        "web-1",
        "web",
        ("v2", "v1", "v2"),
        "app.example",
        8080,
        (("lan", "", 0), ("wan", "192.0.2.1", 80)),
        (("a", "1"), ("b", "2")),
        5,
        1,
        True,
    )


@pytest.mark.parametrize(
    "body",
    [
        {"name": "web", "tagged_addresses": {"lan": {"address": "a", "port": 1}}},
        {"NAME": "web", "taggedaddresses": {"lan": {"ADDRESS": "a", "Port": 1}}},
        {"name": "web", "TaggedAddresses": {"lan": {"Address": "a", "Port": 1}}, "Tags": None},
    ],
)
def test_members_are_found_in_any_case_and_by_their_second_names(body):
    assert service(body).tagged == (("lan", "a", 1),)
    assert service(body | {"enable_tag_override": True}).tag_override


def test_of_a_member_that_is_there_twice_the_last_counts():
    assert service(b'{"Name":"a","Port":1,"Name":"b","name":"c","PORT":2}').name == "c"
    assert service(b'{"Name":"a","Port":1,"PORT":2}').port == 2


@pytest.mark.parametrize(
    ("address", "keys"),
    [("10.0.0.1", ("lan_ipv4", "wan_ipv4")), ("fd00::1", ("lan_ipv6", "wan_ipv6")), ("a.b", ())],
)
def test_an_ip_address_is_among_the_tagged_ones(address, keys):
    found = service({"Name": "web", "Address": address, "Port": 80})
    assert found.tagged == tuple((key, address, 80) for key in keys)


def test_a_tagged_address_that_is_given_stays():
    given = {"lan_ipv4": {"Address": "10.9.9.9", "Port": 1}}
    found = service({"Name": "web", "Address": "10.0.0.1", "TaggedAddresses": given})
    assert found.tagged == (("lan_ipv4", "10.9.9.9", 1), ("wan_ipv4", "10.0.0.1", 0))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Request decode failed: EOF"),
        (b"  ", "Request decode failed: EOF"),
        ({}, "Missing service name"),
        ({"Name": ""}, "Missing service name"),
        ({"Name": "Consul"}, "Invalid service name: consul is the name of the members themselves"),
        (
            {"Name": "a\x00"},
            "Invalid service name: it must have 1 to 255 bytes without control characters",
        ),
        (
            {"Name": "ä" * 128},
            "Invalid service name: it must have 1 to 255 bytes without control characters",
        ),
        ({"Name": "a", "Address": "0.0.0.0"}, "Invalid service address"),
        ({"Name": "a", "Address": "::"}, "Invalid service address"),
        ({"Name": "a", "Address": "[::]"}, "Invalid service address"),
        (
            {"Name": "a", "Address": "a" * 256},
            "Invalid service address: it has more than 255 bytes",
        ),
        ({"Name": "a", "Port": -1}, "Invalid service port: -1 is not from 0 to 65535"),
        ({"Name": "a", "Port": 65536}, "Invalid service port: 65536 is not from 0 to 65535"),
        (
            {"Name": "a", "ID": "consul"},
            "Invalid service ID: consul is the ID of the members themselves",
        ),
        ({"Name": "a", "ID": "i" * 1025}, "Invalid service ID: it must have 1 to 1,024 bytes"),
        (
            {"Name": "a", "Tags": ["t"] * 129},
            "Invalid service tags: there are 129, and may be 128",
        ),
        (
            {"Name": "a", "Weights": {"Passing": 0}},
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            {"Name": "a", "Weights": {"Warning": -1}},
            "Invalid Weights: Warning must be greater or equal than 0",
        ),
        (
            {"Name": "a", "Weights": {"Passing": 65536}},
            "Invalid Weights: Passing must be at most 65535",
        ),
        (
            {"Name": "a", "Meta": {"": "x"}},
            "Invalid Service Meta: Key cannot be blank ('', 'x')",
        ),
        (
            {"Name": "a", "Meta": {"a b": ""}},
            "Invalid Service Meta: Key contains invalid characters ('a b', '')",
        ),
        (
            {"Name": "a", "Meta": {"consul-x": "1"}},
            RESERVED,
        ),
        (
            {"Name": "a", "Meta": {str(n): "" for n in range(65)}},
            "Invalid Service Meta: it has 65 pairs, and may have 64",
        ),
        (
            {"Name": "a", "TaggedAddresses": {"lan": {"Port": 70000}}},
            "Invalid TaggedAddresses: the port 70000 is not from 0 to 65535",
        ),
        (
            {"Name": "a", "TaggedAddresses": {str(n): {} for n in range(33)}},
            "Invalid TaggedAddresses: there are 33, and may be 32",
        ),
        ({"Name": "a", "Kind": "connect-proxy"}, "mesh is not supported"),
        ({"Name": "a", "Connect": {"SidecarService": {}}}, "mesh is not supported"),
        (
            {"Name": "a", "Checks": [{"TTL": "1s"}] * 65},
            "Invalid check: a service has at most 64 checks, and not 65",
        ),
    ],
)
def test_what_is_no_service_is_refused_in_these_words(body, text):
    assert refusal(service, body) == (400, text)


def test_a_long_value_is_cut_in_the_answer():
    assert len(refusal(service, {"Name": "a", "Meta": {"k" * 5000: "v"}})[1]) < 200
    assert len(refusal(service, {"Name": "a", "Tags": ["t" * 5000]})[1]) < 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"nonsense",
        b"\xff",
        {"Name": 1},
        {"Name": "a", "Port": "80"},
        {"Name": "a", "Port": 80.0},
        {"Name": "a", "Port": True},
        {"Name": "a", "Tags": "t"},
        {"Name": "a", "Tags": [1]},
        {"Name": "a", "Tags": [None]},
        {"Name": "a", "Meta": {"k": 1}},
        {"Name": "a", "EnableTagOverride": "true"},
        {"Name": "a", "Check": []},
        {"Name": "a", "Checks": {}},
        {"Name": "a", "Check": {"TTL": True}},
        {"Name": "a", "Check": {"TTL": "10"}},
        {"Name": "a", "Check": {"TTL": ""}},
        {"Name": "a", "Check": {"TTL": 1e300}},
        {"Name": "a", "Check": {"HTTP": "http://a", "Interval": "1s", "Header": {"a": "b"}}},
        b'{"Name":"a","Port":1e999}',
        b'{"Name":"a","Port":' + b"1" * 5000 + b"}",
        b'{"Name":"a","Check":{"TTL":' + b"1" * 5000 + b"}}",
        b'{"Name":"a","Unknown":' + b"1" * 5000 + b"}",
        b'{"Name":"a","Meta":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"Name":"a","Check":{"TTL":123456789012345678901234567890}}',
    ],
)
def test_wrong_types_are_no_request(body):
    status, text = refusal(service, body)
    assert status == 400
    assert text.startswith("Request decode failed: ")


def test_another_datacenter_is_not_there():
    assert refusal(service, {"Name": "a", "Datacenter": "dc2"}) == (500, "No path to datacenter")
    assert service({"Name": "a", "Datacenter": "dc1"}).name == "a"


# --- checks of a service -------------------------------------------------------------------------


def test_a_check_gets_its_id_and_name_from_its_service():
    ttl = {"TTL": "10s"}
    assert [one.id for one in checks({"Name": "web", "Check": ttl})] == ["service:web"]
    assert [one.id for one in checks({"Name": "web", "Checks": [ttl]})] == ["service:web"]
    found = checks(
        {"Name": "web", "ID": "w1", "Check": ttl, "Checks": [ttl, {"CheckID": "c"} | ttl]}
    )
    assert [one.id for one in found] == ["service:w1:1", "service:w1:2", "c"]
    assert {one.name for one in found} == {"Service 'web' check"}


def test_of_two_checks_with_one_id_the_later_counts():
    found = checks({"Name": "web", "Checks": [{"ID": "c", "TTL": "1s"}, {"ID": "c", "TTL": "2s"}]})
    assert [(one.id, one.definition.ttl_ns) for one in found if one.definition] == [
        ("c", 2 * 10**9)
    ]


@pytest.mark.parametrize(
    "body", [{"Name": "a"}, {"Name": "a", "Check": {}}, {"Name": "a", "Checks": []}]
)
def test_an_empty_check_is_none(body):
    assert checks(body) == ()


def test_a_ttl_check():
    found = check({"TTL": "0.1s", "Status": "passing", "Notes": "n", "name": "N", "ID": "c"})
    assert found == GivenCheck("c", "N", "passing", "n", definition=CheckDefinition("ttl", 10**8))


def test_an_http_check():
    found = check(
        {
            "http": "https://user:pw@app:8443/health?x=1#part",
            "Method": "POST",
            "Header": {"X-B": ["2", "3"], "Host": ["h"]},
            "Body": "{}",
            "Interval": 10,
            "Timeout": "1500ms",
            "DisableRedirects": True,
            "tls_skip_verify": True,
            "tls_server_name": "app",
            "SuccessBeforePassing": 2,
            "FailuresBeforeWarning": 1,
            "FailuresBeforeCritical": 3,
            "deregister_critical_service_after": "100.0s",
            "OutputMaxSize": 100,
        }
    )
    assert found.definition == CheckDefinition(
        "http",
        interval_ns=10**9,  # 10 ns were given.
        timeout_ns=1_500_000_000,
        http="https://user:pw@app:8443/health?x=1#part",
        method="POST",
        headers=(("Host", ("h",)), ("X-B", ("2", "3"))),
        body="{}",
        no_redirects=True,
        tls_skip_verify=True,
        tls_server_name="app",
        successes=2,
        failures_warning=1,
        failures_critical=3,
        deregister_after_ms=100_000,
        output_max=100,
    )


def test_what_another_kind_has_is_not_kept():
    more = {
        "Method": "G T" * 100,
        "Header": {"a b": ["c"]},
        "Body": "b",
        "TLSServerName": "x" * 999,
    }
    assert check({"TTL": "10s"} | more).definition == CheckDefinition("ttl", 10**10)


def test_a_tcp_check():
    found = check({"TCP": "[::1]:80", "Interval": "2s", "tcp_use_tls": True}).definition
    assert found == CheckDefinition("tcp", interval_ns=2 * 10**9, tcp="[::1]:80", tcp_tls=True)


@pytest.mark.parametrize("name", ["Args", "ScriptArgs", "script_args", "args"])
def test_a_script_runs_only_where_scripts_are_switched_on(name):
    body = {name: ["sh", "-c", "true"], "Interval": "5s"}
    assert check(body, scripts=True).definition == CheckDefinition(
        "script", interval_ns=5 * 10**9, args=("sh", "-c", "true")
    )
    refused = refusal(check, body)
    assert refused == (
        400,
        "Scripts are disabled on this agent; to enable, configure 'checks.script' to true",
    )
    elsewhere = refusal(check, body, scripts=True, runs_here=False)
    assert elsewhere[1].startswith("Invalid check: a script runs on the member that is asked")


@pytest.mark.parametrize("after", ["1s", 1, "59s"])
def test_a_service_is_critical_for_a_minute_at_least_before_it_goes(after):
    found = check({"TTL": "1s", "DeregisterCriticalServiceAfter": after}).definition
    assert found is not None
    assert found.deregister_after_ms == 60_000


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"TTL": "1s", "Interval": "1s"}, "Interval and TTL cannot both be specified"),
        ({"HTTP": "http://a"}, "Interval must be > 0 for Script, HTTP, or TCP checks"),
        (
            {"TCP": "a:1", "Interval": "-1s"},
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        ({"Args": ["a"], "TTL": "1s"}, "Interval must be > 0 for Script, HTTP, or TCP checks"),
        ({"Interval": "1s"}, "TTL must be > 0 for TTL checks"),
        ({"Notes": "n"}, "TTL must be > 0 for TTL checks"),
        ({"TTL": "-1s"}, "TTL must be > 0 for TTL checks"),
        (
            {"HTTP": "http://a", "TCP": "a:1", "Interval": "1s"},
            "more than one kind: HTTP, TCP",
        ),
        (
            {"TTL": "1s", "FailuresBeforeWarning": 2, "FailuresBeforeCritical": 1},
            "FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
        (
            {"TTL": "1s", "FailuresBeforeWarning": 2},
            "FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
        (
            {"TTL": "1s", "SuccessBeforePassing": -1},
            "SuccessBeforePassing must be from 0 to 2,147,483,647",
        ),
        (
            {"TTL": "1s", "FailuresBeforeCritical": 10**30},
            "FailuresBeforeCritical must be from 0 to 2,147,483,647",
        ),
        ({"TTL": "1s", "Timeout": "-1s"}, "Timeout must not be negative"),
        ({"TTL": "1s", "OutputMaxSize": -1}, "MaxOutputMaxSize must be positive"),
        ({"GRPC": "a:1", "Interval": "1s"}, "not supported: GRPC"),
        ({"UDP": "a:1", "Interval": "1s"}, "not supported: UDP"),
        ({"H2PING": "a:1", "Interval": "1s"}, "not supported: H2PING"),
        ({"OSService": "a", "Interval": "1s"}, "not supported: OSService"),
        (
            {"DockerContainerID": "a", "Shell": "sh", "Args": ["x"], "Interval": "1s"},
            "not supported: DockerContainerID",
        ),
        ({"AliasService": "a"}, "not supported: AliasService"),
        ({"TTL": "1s", "ID": "i" * 1025}, "CheckID has 1,025 bytes, and may have 1,024"),
        ({"TTL": "1s", "Notes": "n" * 4097}, "Notes has 4,097 bytes, and may have 4,096"),
    ],
)
def test_what_is_no_check_is_refused_in_these_words(body, text):
    assert refusal(check, body) == (400, f"Invalid check: {text}")


@pytest.mark.parametrize(
    "more",
    [
        {"HTTP": "ftp://a"},
        {"HTTP": "a:80"},
        {"HTTP": "http://"},
        {"HTTP": "http://a:99999/"},
        {"HTTP": "http://a:0/"},
        {"HTTP": "http://a/ b"},
        {"HTTP": "http://a/\r\nX: y"},
        {"HTTP": "http://[::1"},
        {"HTTP": "http://a/" + "x" * 4096},
        {"HTTP": "http://a", "Method": "G T"},
        {"HTTP": "http://a", "Header": {"X Y": ["a"]}},
        {"HTTP": "http://a", "Header": {"X-Hstore-Check": ["0"]}},
        {"HTTP": "http://a", "Header": {"x-hstore-CHECK": []}},
        {"HTTP": "http://a", "Header": {"Content-Length": ["0"]}},
        {"HTTP": "http://a", "Header": {"X": ["a\r\nB: c"]}},
        {"HTTP": "http://a", "Header": {"X": ["a"] * 65}},
        {"HTTP": "http://a", "Header": {"X": ["a" * 8192]}},
        {"HTTP": "http://a", "Body": "b" * (64 * 1024 + 1)},
        {"TCP": "a"},
        {"TCP": ":80"},
        {"TCP": "a:0"},
        {"TCP": "a:65536"},
        {"TCP": "::1:80"},
        {"TCP": "a b:80"},
        {"Args": ["a\0"]},
        {"Args": [""]},
        {"Args": ["a"] * 65},
        {"Args": ["a" * 8193]},
    ],
)
def test_what_a_check_cannot_ask_is_refused(more):
    status, text = refusal(check, {"Interval": "1s"} | more, scripts=True)
    assert status == 400
    assert text.startswith("Invalid check: ")


def test_a_status_that_is_none_is_refused_in_the_words_of_its_path():
    bad = {"TTL": "1s", "Status": "warn"}
    assert refusal(check, bad) == (
        400,
        "Status for checks must 'passing', 'warning', 'critical'",
    )
    assert refusal(registered, bad | {"Name": "c"}) == (400, "Bad check status")
    assert refusal(updated, {"Status": "warn"}) == (400, "Invalid check status: 'warn'")
    assert refusal(updated, {}) == (400, "Invalid check status: ''")


# --- checks by themselves ------------------------------------------------------------------------


def registered(body: Any, *, scripts: bool = False) -> GivenCheck:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return check_body.decode_register(exchange(scripts=scripts), raw, runs_here=True)


def updated(body: Any) -> tuple[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return check_body.decode_update(exchange(), raw)


def test_a_check_of_a_node():
    definition = CheckDefinition("ttl", 10**9)
    assert registered({"Name": "c", "TTL": "1s"}) == GivenCheck("c", "c", definition=definition)
    for name in ("ID", "CheckID", "check_id", "id"):
        assert registered({"Name": "c", name: "i", "TTL": "1s"}).id == "i"
    for name in ("ServiceID", "service_id", "serviceid"):
        assert registered({"Name": "c", name: "web", "TTL": "1s"}).service == "web"


def test_what_is_no_check_of_a_node_is_refused():
    assert refusal(registered, {}) == (400, "Missing check name")
    assert refusal(registered, b"") == (400, "Request decode failed: EOF")
    assert refusal(registered, {"Name": "c"}) == (
        400,
        "Invalid check: TTL must be > 0 for TTL checks",
    )
    assert refusal(registered, {"Name": "c", "TTL": "1s", "ServiceID": "s" * 2000})[0] == 404


def test_a_word_about_a_check():
    assert updated({"Status": "warning", "output": "o"}) == ("warning", "o")
    assert refusal(updated, b"")[1] == "Request decode failed: EOF"
    assert refusal(updated, {"Status": 1})[1].startswith("Request decode failed: ")


# --- the catalog ---------------------------------------------------------------------------------


def catalog(body: Any) -> CatalogRegister:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return catalog_body.decode_register(exchange(), raw)


NODE = {"Node": "db-1", "Address": "192.0.2.7"}


def test_a_node_of_the_catalog():
    found = catalog(
        NODE
        | {
            "ID": "ABCDEF00-0000-0000-0000-000000000001",
            "TaggedAddresses": {"wan": "w", "lan": "l"},
            "NodeMeta": {"external-node": "true", "consul-version": "1"},
            "SkipNodeUpdate": True,
        }
    )
    node = found.node
    assert (node.number, node.name, node.address) == (0, "db-1", "192.0.2.7")
    assert node.uuid == "abcdef00-0000-0000-0000-000000000001"
    assert node.tagged == (("lan", "l"), ("wan", "w"))
    assert node.meta == (("consul-version", "1"), ("external-node", "true"))
    assert found.keeps_node
    assert found.service is None
    assert found.checks == ()


def test_a_node_that_stays_as_it_is_needs_no_address():
    assert catalog({"Node": "n", "SkipNodeUpdate": True}).node.address == ""


def test_a_service_and_checks_of_a_node():
    found = catalog(
        NODE
        | {
            "Service": {"Service": "db", "ID": "db:1", "Port": 5432, "Tags": ["a"]},
            "Check": {"Name": "alive"},
            "Checks": [
                {
                    "Node": "DB-1",
                    "CheckID": "c",
                    "Status": "passing",
                    "ServiceID": "db:1",
                    "Output": "fine",
                    "Definition": {"http": "http://192.0.2.7/", "Interval": "10s", "Timeout": ""},
                }
            ],
        }
    )
    assert found.service == Service(0, "db:1", "db", ("a",), port=5432)
    alive, c = found.checks
    assert alive == GivenCheck("alive", "alive", "critical")
    definition = CheckDefinition(
        "http", interval_ns=10**10, http="http://192.0.2.7/", is_shown=True
    )
    assert c == GivenCheck(
        "c", "c", "passing", output="fine", definition=definition, service="db:1"
    )


@pytest.mark.parametrize(
    "definition",
    [
        {"TTL": 10**9},
        {"HTTP": "http://a"},
        {"HTTP": "nonsense"},
        {"HTTP": "http://a", "TCP": "a:1", "Interval": "1s"},
        {"ScriptArgs": ["a"], "Interval": "1s"},
    ],
)
def test_a_definition_that_cannot_be_run_is_kept_and_nobody_runs_it(definition):
    found = catalog(NODE | {"Check": {"Name": "c", "Definition": definition}}).checks[0].definition
    assert found is not None
    assert found.kind == ""
    assert found.is_shown


@pytest.mark.parametrize("empty", [{}, None])
def test_an_empty_part_is_none(empty):
    found = catalog(NODE | {"Service": empty, "Check": empty})
    assert found.service is None
    assert found.checks == ()
    kept = catalog(NODE | {"Check": {"Name": "c", "Definition": empty}}).checks[0]
    assert kept.definition is None


def test_weights_that_a_go_client_has_not_set_are_none():
    def weights(given: dict[str, int]) -> tuple[int, int]:
        service = catalog(NODE | {"Service": {"Service": "x", "Weights": given}}).service
        assert service is not None
        return service.weight_passing, service.weight_warning

    assert weights({"Passing": 0, "Warning": 0}) == (1, 1)
    assert weights({"Passing": 2, "Warning": 0}) == (2, 0)
    refused = refusal(weights, {"Passing": 0, "Warning": 1})
    assert refused == (400, "Invalid Weights: Passing must be greater than 0")


def test_an_output_is_kept_to_4096_bytes():
    (found,) = catalog(NODE | {"Check": {"Name": "c", "Output": "ä" * 3000}}).checks
    assert found.output == "ä" * 2048 + "… (captured 4096 of 6000 bytes)"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "Request decode failed: EOF"),
        ({}, 400, "Must provide node"),
        ({"Node": "n"}, 400, "Must provide address"),
        (NODE | {"ID": "x"}, 400, "Invalid node ID: 'x' is no UUID"),
        (
            {"Node": "a\n", "Address": "a"},
            400,
            "Invalid node name: it must have 1 to 255 bytes without control characters",
        ),
        (
            NODE | {"NodeMeta": {"a b": ""}},
            400,
            "Invalid Node Meta: Key contains invalid characters ('a b', '')",
        ),
        (NODE | {"Service": {"ID": "x"}}, 400, "Must provide service name with ID"),
        (
            NODE | {"Service": {"ID": "consul", "Service": "x"}},
            400,
            "Invalid service ID: consul is the ID of the members themselves",
        ),
        (
            NODE | {"Service": {"ID": "x", "Service": "CONSUL"}},
            400,
            "Invalid service name: consul is the name of the members themselves",
        ),
        (NODE | {"Service": {"Service": "x", "Address": "::"}}, 400, "Invalid service address"),
        (NODE | {"Service": {"Service": "x", "Kind": "k"}}, 400, "mesh is not supported"),
        (
            NODE | {"Service": {"Service": "x", "Meta": {"": ""}}},
            400,
            "Invalid Service Meta: Key cannot be blank ('', '')",
        ),
        (NODE | {"Check": {"Notes": "n"}}, 400, "Invalid check: it has neither CheckID nor Name"),
        (
            NODE | {"Check": {"Name": "c", "Node": "other"}},
            400,
            "Invalid check: its Node is 'other', and not 'db-1'",
        ),
        (NODE | {"Check": {"Name": "c", "Status": "bad"}}, 400, "Invalid check status: 'bad'"),
        (
            NODE | {"Check": {"Name": "c", "ServiceID": "s" * 2000}},
            500,
            "Missing service registration",
        ),
        (NODE | {"Datacenter": "dc2"}, 500, "No path to datacenter"),
    ],
)
def test_what_is_no_registration_is_refused_in_these_words(body, status, text):
    assert refusal(catalog, body) == (status, text)


def deregister(body: Any) -> tuple[str, str | None, str | None]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return catalog_body.decode_deregister(exchange(), raw)


def test_what_is_to_go():
    assert deregister({"Node": "n"}) == ("n", None, None)
    assert deregister({"node": "n", "ServiceID": "s", "CheckID": "c"}) == ("n", "s", None)
    assert deregister({"Node": "n", "check_id": "c"}) == ("n", None, "c")
    assert refusal(deregister, {"ServiceID": "s"}) == (400, "Must provide node")
    assert refusal(deregister, {"Node": "n", "Datacenter": "x"}) == (500, "No path to datacenter")


# --- anything at all -----------------------------------------------------------------------------

NAMES = [
    "Name", "name", "NAME", "ID", "id", "Tags", "Port", "Address", "TaggedAddresses",
    "tagged_addresses", "Meta", "Weights", "Passing", "Warning", "EnableTagOverride", "Check", "Checks",
    "Kind", "Connect", "SidecarService", "CheckID", "check_id", "Status", "Notes", "TTL", "ttl",
    "Interval", "Timeout", "HTTP", "Method", "Header", "Body", "TCP", "Args", "ScriptArgs",
    "SuccessBeforePassing", "FailuresBeforeWarning", "FailuresBeforeCritical",
    "DeregisterCriticalServiceAfter", "OutputMaxSize", "ServiceID", "service_id", "Node", "NodeMeta",
    "Service", "SkipNodeUpdate", "Definition", "Output", "Datacenter", "lan",
]  # fmt: skip
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, 10**40, -1, 65535, 65536])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "10s",
            "-1s",
            "1e9s",
            "http://a/b",
            "a:80",
            "passing",
            "dc1",
            "dc2",
            "consul",
            "web",
            "0.0.0.0",
            "\0",
        ]
    )
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8).map(
    lambda body: {"Name": "web", "Node": "n", "Address": "a", **body}
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES, st.booleans())
def test_any_body_is_a_command_that_every_node_takes_or_a_clear_refusal(body, scripts):
    raw = json.dumps(body).encode()
    for decode in (
        lambda: RegisterService(HERE, *both(raw, scripts=scripts, runs_here=True)),
        lambda: RegisterCheck(HERE, registered(raw, scripts=scripts)),
        lambda: catalog(raw),
    ):
        command, error = outcome(decode)
        if error is not None:
            assert error.status in {400, 404, 500}
            assert error.plain
            assert len(error.plain) < 400
            continue
        encoded = commands.encode(command)
        assert commands.decode(encoded) == command
        assert command_limits.fault_of(command) == ""


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_taken(raw):
    for call in (service, registered, updated, catalog, deregister):
        _, error = outcome(call, raw)
        assert error is None or error.status in {400, 500}


@settings(max_examples=100)
@given(st.permutations(["Name", "ID", "Port", "Tags", "Check"]), st.randoms(use_true_random=False))
def test_case_and_order_of_members_do_not_matter(order, random):
    plain = {"Name": "web", "ID": "w", "Port": 1, "Tags": ["t"], "Check": {"TTL": "1s"}}

    def odd(name: str) -> str:
        return "".join(random.choice((str.lower, str.upper))(letter) for letter in name)

    written = {odd(name): plain[name] for name in order}
    assert both(json.dumps(written).encode(), scripts=False, runs_here=True) == both(
        plain, scripts=False, runs_here=True
    )


def test_second_spellings_cover_every_member_with_two_words():
    words = {
        "success_before_passing",
        "tls_skip_verify",
        "output_max_size",
        "failures_before_critical",
    }
    assert words <= set(check_body.ALIASES)
