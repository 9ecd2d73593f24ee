"""Services with their checks, and checks: contract-services sections 2.6, 2.7, 4.1, 5, 13.2, 13.5, 13.6."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from hstore.node.errors import NoLeader
from hstore.node.model.checks import CheckDefinition
from tests.node.api.consul.conftest import OWN, is_read, is_refused

TTL = CheckDefinition(kind="ttl", ttl_ns=10**10)
SERF = {
    "Node": "n1",
    "CheckID": "serfHealth",
    "Name": "Serf Health Status",
    "Status": "passing",
    "Notes": "",
    "Output": "",
    "ServiceID": "",
    "ServiceName": "",
    "ServiceTags": [],
    "Type": "",
    "Interval": "",
    "Timeout": "",
    "ExposedPort": 0,
    "Definition": {},
}


async def get(client, path):
    answer = await client.request("GET", f"/v1/{path}")
    assert answer.status == 200, answer
    is_read(answer)
    return answer.json()


def plain(checks):
    """Without their indexes."""
    return [
        {name: value for name, value in check.items() if not name.endswith("Index")}
        for check in checks
    ]


async def ids(client, path):
    """The instances, or checks, that a path lists."""
    found = await get(client, path)
    return [
        one["Service"]["ID"] if "Service" in one else one.get("CheckID", one.get("ServiceID"))
        for one in found
    ]


# --- what is shown ------------------------------------------------------------------------------


async def test_a_service_with_its_node_and_checks(client, backend, catalog):
    catalog.register(
        OWN, "web", "web-1", port=80, tags=("b", "a"), address="10.9.9.9",
        tagged=(("lan_ipv4", "10.9.9.9", 80),), meta=(("k", "v"),),
        weight_passing=3, weight_warning=0, tag_override=True,
    )  # fmt: skip
    catalog.check(
        OWN, "service:web-1", "warning", service="web-1", name="up", notes="n", definition=TTL
    )
    answer = await client.request("GET", "/v1/health/service/web")
    [found] = answer.json()
    assert list(found) == ["Node", "Service", "Checks"]
    [node] = await get(client, "catalog/nodes")
    assert found["Node"] == node
    service = found["Service"]
    created, modified = service.pop("CreateIndex"), service.pop("ModifyIndex")
    assert service == {
        "ID": "web-1",
        "Service": "web",
        "Tags": ["b", "a"],
        "Address": "10.9.9.9",
        "TaggedAddresses": {"lan_ipv4": {"Address": "10.9.9.9", "Port": 80}},
        "Meta": {"k": "v"},
        "Port": 80,
        "Weights": {"Passing": 3, "Warning": 0},
        "EnableTagOverride": True,
    }
    assert 0 < created <= modified <= backend.applied_index
    serf, own = found["Checks"]
    assert plain([serf]) == [SERF]
    assert plain([own]) == [
        SERF
        | {
            "CheckID": "service:web-1",
            "Name": "up",
            "Status": "warning",
            "Notes": "n",
            "ServiceID": "web-1",
            "ServiceName": "web",
            "ServiceTags": ["b", "a"],
            "Type": "ttl",
        }
    ]
    is_read(answer, own["ModifyIndex"])


async def test_what_is_empty_is_never_null(client, catalog):
    catalog.register(OWN, "web")
    [found] = await get(client, "health/service/web")
    service = found["Service"]
    assert (service["Tags"], service["Meta"], service["TaggedAddresses"]) == ([], {}, {})
    assert (service["Address"], service["Port"]) == ("", 0)
    assert service["Weights"] == {"Passing": 1, "Warning": 1}
    assert plain(found["Checks"]) == [SERF]
    [flat] = await get(client, "catalog/service/web")
    assert (flat["ServiceTags"], flat["ServiceMeta"]) == ([], {})
    assert (flat["ServiceTaggedAddresses"], flat["NodeMeta"]) == ({}, {})
    assert await get(client, "health/checks/web") == []


async def test_durations_are_written_as_go_does(client, catalog):
    definition = CheckDefinition(
        kind="http", http="http://x/", interval_ns=10**9, timeout_ns=200_000_000
    )
    catalog.check(OWN, "a", "passing", definition=definition)
    definition = CheckDefinition(kind="tcp", tcp="x:1", interval_ns=60 * 10**9)
    catalog.check(OWN, "b", "passing", definition=definition)
    first, second, _ = await get(client, "health/node/n1")
    assert (first["Type"], first["Interval"], first["Timeout"]) == ("http", "1s", "200ms")
    assert (second["Type"], second["Interval"], second["Timeout"]) == ("tcp", "1m0s", "")
    assert first["Definition"] == second["Definition"] == {}


async def test_a_definition_that_the_catalog_was_given_is_shown(client, catalog):
    number = catalog.add_external("ext", "192.0.2.1")
    definition = CheckDefinition(
        kind="http", http="http://x/", interval_ns=10**10, headers=(("A", ("b",)),),
        deregister_after_ms=60_000, is_shown=True,
    )  # fmt: skip
    catalog.check(number, "a", "passing", definition=definition)
    [found] = await get(client, "health/node/ext")
    assert found["Definition"] == {
        "HTTP": "http://x/",
        "Header": {"A": ["b"]},
        "Interval": "10s",
        "DeregisterCriticalServiceAfter": "1m0s",
    }


async def test_the_built_in_service(client, backend, catalog):
    backend.add("n2", 2, 8501)
    catalog.add_external("ext", "192.0.2.1")
    first, second = await get(client, "health/service/consul")
    assert [one["Node"]["Node"] for one in (first, second)] == ["n1", "n2"]
    service = first["Service"]
    assert (service["ID"], service["Service"], service["Tags"]) == ("consul", "consul", [])
    assert (service["Port"], second["Service"]["Port"]) == (8500, 8501)
    assert plain(first["Checks"]) == [SERF]
    assert await get(client, "health/checks/consul") == []
    assert len(await get(client, "catalog/service/Consul")) == 2


async def test_checks_of_a_service_are_its_instances_own(client, catalog):
    catalog.register(OWN, "web", "w2")
    catalog.register(OWN, "web", "w1")
    catalog.check(OWN, "z", "passing", service="w1")
    catalog.check(OWN, "a", "critical", service="w2")
    catalog.check(OWN, "node", "passing")
    assert await ids(client, "health/checks/web") == ["z", "a"]


async def test_checks_of_a_node_are_its_own_and_then_those_of_its_services(client, catalog):
    catalog.register(OWN, "web", "w2")
    catalog.register(OWN, "db", "d1")
    catalog.check(OWN, "b", "passing", service="w2")
    catalog.check(OWN, "a", "passing", service="w2")
    catalog.check(OWN, "c", "passing", service="d1")
    catalog.check(OWN, "zz", "critical")
    expected = ["serfHealth", "zz", "c", "a", "b"]
    assert await ids(client, "health/node/n1") == expected
    assert await ids(client, "health/node/N1") == expected
    uuid = "00000000-0000-0000-1f00-000000000001"
    assert await ids(client, f"health/node/{uuid}") == expected


async def test_checks_by_their_status(client, backend, catalog):
    backend.add("a0", 2, 8501)
    catalog.register(OWN, "web")
    catalog.check(OWN, "x", "warning", service="web")
    catalog.check(2, "y", "critical")
    found = await get(client, "health/state/any")
    assert [(one["Node"], one["CheckID"]) for one in found] == [
        ("a0", "serfHealth"),
        ("a0", "y"),
        ("n1", "serfHealth"),
        ("n1", "x"),
    ]
    assert await ids(client, "health/state/warning") == ["x"]
    assert await ids(client, "health/state/critical") == ["y"]
    assert await ids(client, "health/state/passing") == ["serfHealth", "serfHealth"]


async def test_a_fresh_node_has_exactly_one_check(client):
    [check] = await get(client, "health/state/any")
    assert (check["CheckID"], check["ServiceID"]) == ("serfHealth", "")


# --- order --------------------------------------------------------------------------------------


async def test_both_lists_of_a_service_are_in_one_order_bytewise(client, backend, catalog):
    backend.add("n10", 2, 8501)
    backend.add("n2", 3, 8502)
    external = catalog.add_external("Z", "192.0.2.1")
    for number in (OWN, 3, external, 2):
        for service_id in ("b", "B", "ä", "a/1", "a"):
            catalog.register(number, "web", service_id, tags=("t",) if service_id != "b" else ())
    each = ["B", "a", "a/1", "b", "ä"]
    expected = [(node, one) for node in ("Z", "n1", "n10", "n2") for one in each]
    flat = await get(client, "catalog/service/web")
    assert [(one["Node"], one["ServiceID"]) for one in flat] == expected
    found = await get(client, "health/service/web")
    assert [(one["Node"]["Node"], one["Service"]["ID"]) for one in found] == expected
    tagged = [pair for pair in expected if pair[1] != "b"]
    for query in ("?tag=t", "?filter=Service.Tags+contains+t", "?tag=t&passing"):
        found = await get(client, f"health/service/web{query}")
        shown = [(one["Node"]["Node"], one["Service"]["ID"]) for one in found]
        assert shown == tagged, query


# --- what narrows -------------------------------------------------------------------------------


async def test_names_are_found_without_regard_to_case_and_shown_as_first_written(client, catalog):
    catalog.register(OWN, "Web", "1")
    catalog.register(OWN, "wEB", "2")
    catalog.register(OWN, "Ärger", "3")
    for name in ("web", "WEB", "Web"):
        found = await get(client, f"health/service/{name}")
        assert [one["Service"]["Service"] for one in found] == ["Web", "Web"]
        assert len(await get(client, f"catalog/service/{name}")) == 2
    assert await ids(client, f"catalog/service/{quote('Ärger')}") == ["3"]
    assert await ids(client, f"catalog/service/{quote('ärger')}") == []


async def test_names_with_any_characters(client, catalog):
    for name in ("app#127.0.0.1#3000", "a/b", "a b", "a:b", "a?b", "%"):
        catalog.register(OWN, name)
        assert await ids(client, f"health/service/{quote(name, safe='')}") == [name]
        assert await ids(client, f"catalog/service/{quote(name, safe='/')}") == [name]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["c", "p", "w"]),
        ("passing", ["p"]),
        ("passing=", ["p"]),
        *((f"passing={word}", ["p"]) for word in ["1", "t", "T", "true", "True", "TRUE"]),
        *(
            (f"passing={word}", ["c", "p", "w"])
            for word in ["0", "f", "F", "false", "False", "FALSE"]
        ),
    ],
)
async def test_passing_keeps_those_all_of_whose_checks_pass(client, catalog, query, expected):
    for status in ("passing", "warning", "critical"):
        catalog.register(OWN, "web", status[0])
        catalog.check(OWN, status, status, service=status[0])
    assert await ids(client, f"health/service/web?{query}") == expected


async def test_a_check_of_the_node_counts_for_its_services(client, catalog):
    catalog.register(OWN, "web")
    catalog.check(OWN, "disk", "warning")
    assert await ids(client, "health/service/web?passing") == []
    catalog.check(OWN, "disk", "passing")
    assert await ids(client, "health/service/web?passing") == ["web"]


@pytest.mark.parametrize("word", ["yes", "TrUe", "2", "%20"])
async def test_passing_that_is_no_boolean(client, word):
    answer = await client.request("GET", f"/v1/health/service/web?passing={word}")
    assert answer.status == 400
    assert answer.body.startswith(b"Invalid passing: ")


async def test_tags_are_compared_without_regard_to_case_and_all_must_be_there(client, catalog):
    catalog.register(OWN, "web", "1", tags=("Primary", "v1"))
    catalog.register(OWN, "web", "2", tags=("v1",))
    for path in ("health/service/web", "catalog/service/web"):
        assert await ids(client, f"{path}?tag=primary") == ["1"]
        assert await ids(client, f"{path}?tag=PRIMARY&tag=V1") == ["1"]
        assert await ids(client, f"{path}?tag=v1") == ["1", "2"]
        assert await ids(client, f"{path}?tag=v1&tag=nope") == []


async def test_node_meta(client, catalog):
    external = catalog.add_external("ext", "192.0.2.1", meta=(("env", "prod"), ("os", "linux")))
    for number in (OWN, external):
        catalog.register(number, "web", f"web-{number % 2}")
        catalog.check(number, f"c{number % 2}", "passing", service=f"web-{number % 2}")
    for path, found in (
        ("health/service/web", ["web-0"]),
        ("catalog/service/web", ["web-0"]),
        ("health/checks/web", ["c0"]),
        ("health/state/any", ["c0"]),
    ):
        assert await ids(client, f"{path}?node-meta=os:linux") == found
        assert await ids(client, f"{path}?node-meta=os:linux&node-meta=env:prod") == found
        assert await ids(client, f"{path}?node-meta=os:linux&node-meta=env:test") == []
        assert await ids(client, f"{path}?node-meta=os") == []


@pytest.mark.parametrize(
    ("path", "expression", "expected"),
    [
        ("health/service/web", 'Service.ID == "1"', ["1"]),
        ("health/service/web", 'Service.ID == "1" and Node.Node == "n1"', ["1"]),
        ("health/service/web", 'Service.Meta.k == "v"', ["1"]),
        ("health/service/web", 'Service.Meta["k"] != "v"', ["2"]),
        ("health/service/web", "Service.Weights.Passing == 1", ["1", "2"]),
        ("health/service/web", 'Checks.Status == "critical"', ["2"]),
        ("health/service/web", '"a" in Service.Tags', ["1"]),
        ("health/service/web", "Service.Tags is empty", ["2"]),
        ("health/service/web", "Service.EnableTagOverride == false", ["1", "2"]),
        ("health/service/web", 'Service.TaggedAddresses.lan.Address == "x"', []),
        ("health/service/web", 'Checks.Status == "critical"&passing', []),
        ("catalog/service/web", 'ServiceID == "2"', ["2"]),
        ("catalog/service/web", 'ServiceMeta.k == "v" or NodeMeta.os == "x"', ["1"]),
        ("catalog/service/web", 'ServiceTags contains "A"', []),
        ("catalog/service/web", "ServicePort != 0", ["1"]),
        ("health/checks/web", 'CheckID matches "^c"', ["c1", "c2"]),
        ("health/checks/web", 'ServiceTags contains "a"', ["c1"]),
        ("health/node/n1", 'Status == "critical"', ["c2"]),
        ("health/node/n1", "ServiceID is empty", ["serfHealth"]),
        ("health/state/any", 'ServiceName == "web" and Type == "ttl"', ["c1", "c2"]),
        ("health/state/critical", 'CheckID == "c1"', []),
    ],
)
async def test_filters(client, catalog, path, expression, expected):
    catalog.register(OWN, "web", "1", tags=("a",), meta=(("k", "v"),), port=1)
    catalog.register(OWN, "web", "2")
    catalog.check(OWN, "c1", "passing", service="1", definition=TTL)
    catalog.check(OWN, "c2", "critical", service="2", definition=TTL)
    expression, _, more = expression.partition("&")
    query = f"?filter={quote(expression)}" + (f"&{more}" if more else "")
    assert await ids(client, path + query) == expected
    # The index is the same with and without.
    whole = await client.request("GET", f"/v1/{path}")
    some = await client.request("GET", f"/v1/{path}{query}")
    assert some.index == whole.index


@pytest.mark.parametrize(
    "path",
    ["health/service/x", "health/checks/x", "health/node/x", "health/state/x", "catalog/service/x",
     "catalog/services", "catalog/node/x", "catalog/nodes"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["Nope == x", "CreateIndex == x", "Definition is empty", "=="])
async def test_a_filter_is_checked_also_where_there_is_nothing(client, path, text):
    answer = await client.request("GET", f"/v1/{path}?filter={quote(text)}")
    assert answer.status == 400, answer
    assert answer.body.startswith(b"Failed to create boolean expression evaluator: ")


# --- nothing there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("health/service/nope", b"[]"),
        ("health/checks/nope", b"[]"),
        ("health/node/nope", b"[]"),
        ("health/state/xyz", b"[]"),
        ("health/connect/web", b"[]"),
        ("catalog/connect/web", b"[]"),
        ("catalog/service/nope", b"[]"),
        ("catalog/node/nope", b"null"),
        ("health/service/web?peer=other", b"[]"),
        ("catalog/service/web?peer=other", b"[]"),
        ("catalog/nodes?peer=other", b"[]"),
        ("catalog/services?peer=other", b"{}"),
        ("catalog/node/n1?peer=other", b"null"),
        ("health/node/n1?peer=other", b"[]"),
        ("health/state/any?peer=other", b"[]"),
    ],
)
async def test_nothing_there(client, catalog, path, body):
    catalog.register(OWN, "web")
    answer = await client.request("GET", f"/v1/{path}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json"
    is_read(answer)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("health/service/", "Missing service name"),
        ("health/checks/", "Missing service name"),
        ("catalog/service/", "Missing service name"),
        ("catalog/connect/", "Missing service name"),
        ("health/node/", "Missing node name"),
        ("catalog/node/", "Missing node name"),
        ("health/state/", "Missing check state"),
    ],
)
async def test_no_name(client, path, text):
    is_refused(await client.request("GET", f"/v1/{path}"), 400, text)


PATHS = [
    "health/service/web", "health/checks/web", "health/node/n1", "health/state/any",
    "catalog/service/web", "catalog/services", "catalog/node/n1", "catalog/nodes",
    "health/connect/web",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_the_rules_of_the_dialect(client, backend, catalog, path):
    catalog.register(OWN, "web")
    target = f"/v1/{path}"
    is_refused(await client.request("GET", f"{target}?dc=dc2"), 500, "No path to datacenter")
    is_refused(
        await client.request("GET", f"{target}?stale&consistent"),
        400,
        "Conflicting flags: consistent,stale",
    )
    is_refused(await client.request("GET", f"{target}?index=x"), 400, "Invalid index")
    is_refused(await client.request("GET", f"{target}?wait=10"), 400, "Invalid wait time")
    for query in ("?dc=dc1&ns=x&partition=y&near=_agent&cached&token=t&merge-central-config", ""):
        is_read(await client.request("GET", target + query))
    answer = await client.request("GET", f"{target}?consistent")
    assert answer.headers["x-consul-effective-consistency"] == "consistent"
    answer = await client.request("POST", target)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    # Without a leader, asked again when the body is there already.
    backend.error, backend.knows_leader = NoLeader("none"), False
    is_refused(await client.request("GET", target), 500, "No cluster leader")
    backend.last_contact_ms = 77
    answer = await client.request("GET", f"{target}?stale")
    assert answer.status == 200
    assert answer.headers["x-consul-effective-consistency"] == "stale"
    assert answer.headers["x-consul-knownleader"] == "false"
    assert answer.headers["x-consul-lastcontact"] == "77"
