"""Paths by which services and checks are registered: contract-services sections 2, 3.2, 3.3, 4.1, 5, 13.

The catalog is one of dictionaries, and the log answers as a test says: which command a request becomes,
and what becomes of each outcome. What the commands do is in tests/node/state.
"""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from hstore.node.api.http.parked import Parked
from hstore.node.api.http.serving import Serving
from hstore.node.errors import NoLeader, OutcomeUnknown
from hstore.node.model.checks import CheckDefinition
from hstore.node.model.commands import Denial, Keyed
from hstore.node.model.services import (
    Deregister,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)
from tests.node.api.consul.conftest import is_refused
from tests.node.api.consul.registering import SCRIPTS, TTL, CatalogBackend, is_done, put


@pytest.fixture
def backend() -> CatalogBackend:
    return CatalogBackend()


# --- service/register ----------------------------------------------------------------------------

REGISTER = "/v1/agent/service/register"


async def test_a_service_is_registered_on_the_member_that_is_asked(client, backend):
    body = {"Name": "web", "Port": 80, "Check": {"TTL": "10s"}}
    assert is_done(await put(client, REGISTER, body))
    assert backend.written == [
        RegisterService(
            Place(1),
            Service(0, "web", "web", port=80),
            (GivenCheck("service:web", "Service 'web' check", definition=TTL),),
        )
    ]


@pytest.mark.parametrize(
    ("query", "replaces"),
    [
        ("", False),
        ("?replace-existing-checks", True),
        ("?replace-existing-checks=", True),
        ("?replace-existing-checks=T", True),
        ("?replace-existing-checks=0", False),
    ],
)
async def test_checks_that_are_not_named_stay_unless_they_are_to_go(
    client, backend, query, replaces
):
    assert is_done(await put(client, REGISTER + query, {"Name": "web"}))
    assert backend.written[0].replaces_checks is replaces


async def test_another_word_than_a_boolean_is_refused(client, backend):
    answer = await put(client, REGISTER + "?replace-existing-checks=yes", {"Name": "web"})
    is_refused(answer, 400, "Invalid replace-existing-checks: 'yes' is not true or false")
    assert backend.written == []


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "Request decode failed: EOF"),
        (b"{}", 400, "Missing service name"),
        ({"Name": "a", "Address": "0.0.0.0"}, 400, "Invalid service address"),
        ({"Name": "a", "Check": {"Args": ["x"], "Interval": "1s"}}, 400, SCRIPTS),
        ({"Name": "a", "Datacenter": "dc2"}, 500, "No path to datacenter"),
        (
            b"x" * (256 * 1024 + 1),
            413,
            "Request body(262145 bytes) too large, max size: 262144 bytes.",
        ),
    ],
)
async def test_what_is_no_service_is_refused_before_the_log_sees_it(
    client, backend, body, status, text
):
    answer = await put(client, REGISTER, body)
    is_refused(answer, status, text)
    assert answer.headers["x-hstore-outcome"] == "not applied"
    assert backend.written == []


async def test_a_script_is_registered_where_scripts_are_switched_on(client, backend):
    backend.checks.scripts = True
    assert is_done(
        await put(client, REGISTER, {"Name": "a", "Check": {"Args": ["x"], "Interval": "1s"}})
    )


@pytest.mark.parametrize(
    ("denial", "text", "status", "said"),
    [
        (
            Denial.LIMIT,
            "this node has 5,000 services, and may not have more",
            400,
            "this node has 5,000 services, and may not have more",
        ),
        (Denial.NO_NODE, "", 500, "Missing node registration"),
    ],
)
async def test_what_the_log_refuses_is_told(client, backend, denial, text, status, said):
    backend.deny(denial, text)
    is_refused(await put(client, REGISTER, {"Name": "a"}), status, said)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (REGISTER, {"Name": "web"}),
        ("/v1/agent/check/register", {"Name": "web", "TTL": "10s"}),
        ("/v1/catalog/register", {"Node": "far", "Address": "192.0.2.1"}),
    ],
)
async def test_what_is_so_already_is_confirmed_and_not_written(client, backend, path, body):
    backend.catalog.so = [True, True]
    answer = await put(client, path, body)
    assert answer.body == (b"true" if "catalog" in path else b"")
    assert (backend.written, backend.barriers) == ([], 1)
    # What is so in a copy that is old need not be so.
    backend.catalog.so = [True, False]
    assert (await put(client, path, body)).body == answer.body
    assert (len(backend.written), backend.barriers) == (1, 2)
    # What is answered under a key is in the log.
    backend.catalog.so = [True, True]
    assert (await put(client, path, body, Idempotency_Key="k")).body == answer.body
    assert (len(backend.written), backend.barriers) == (2, 2)
    backend.catalog.so, backend.error = [True, True], NoLeader("there is none")
    answer = await put(client, path, body)
    is_refused(answer, 500, "No cluster leader")
    assert answer.headers["x-hstore-outcome"] == "not applied"


async def test_without_a_leader_nothing_is_registered_and_the_client_is_told_so(client, backend):
    backend.error = NoLeader("none")
    answer = await put(client, REGISTER, {"Name": "a"})
    is_refused(answer, 500, "No cluster leader")
    assert answer.headers["x-hstore-outcome"] == "not applied"
    backend.error = OutcomeUnknown("who knows")
    answer = await put(client, REGISTER, {"Name": "a"})
    is_refused(answer, 500, "leadership lost while committing log")
    assert answer.headers["x-hstore-outcome"] == "unknown"


async def test_a_member_that_does_not_know_its_number_registers_nothing(client, backend):
    backend.catalog.own_number = 0
    is_refused(await put(client, REGISTER, {"Name": "a"}), 500, "No cluster leader")


async def test_a_registration_under_a_key_is_one_whoever_is_asked(client, backend):
    body = {"Name": "web"}
    assert is_done(await put(client, REGISTER, body, Idempotency_Key="k"))
    backend.catalog.own_number = 2
    assert is_done(await put(client, REGISTER, body, Idempotency_Key="k"))
    assert is_done(await put(client, REGISTER + "?node=n1", body, Idempotency_Key="k"))
    first, second, named = backend.written
    assert isinstance(first, Keyed)
    assert first.digest == second.digest
    places: list[Any] = [first.command, second.command]
    assert [one.place for one in places] == [Place(1), Place(2)]
    assert named.digest != first.digest


# --- ?node= --------------------------------------------------------------------------------------


async def test_a_members_name_means_that_member_in_any_case(client, backend):
    assert is_done(await put(client, REGISTER + "?node=N2", {"Name": "a"}))
    assert backend.written[0].place == Place(2)


async def test_an_external_node_is_made_with_the_address_that_is_given(client, backend):
    query = "?node=web-1&node-address=192.0.2.9"
    assert is_done(await put(client, REGISTER + query, {"Name": "a"}))
    assert backend.written[0].place == Place(0, "web-1", "192.0.2.9")


async def test_an_external_node_that_is_there_keeps_its_spelling(client, backend):
    backend.catalog.add_external("Web-1", "192.0.2.1")
    assert is_done(await put(client, REGISTER + "?node=web-1", {"Name": "a"}))
    assert backend.written[0].place == Place(0, "Web-1", "192.0.2.1")


@pytest.mark.parametrize("query", ["?node=web-1", "?node=web-1&node-address=192.0.2.9"])
async def test_a_key_is_the_same_requests_whether_the_node_is_there_or_not(
    connect, backend, monkeypatch, query
):
    for served in (Serving, Parked):
        monkeypatch.setattr(served, "_client", lambda _: "192.0.2.33")
    client = connect()
    assert is_done(await put(client, REGISTER + query, {"Name": "a"}, Idempotency_Key="k"))
    backend.catalog.add_external("Web-1", "192.0.2.1")
    assert is_done(await put(client, REGISTER + query, {"Name": "a"}, Idempotency_Key="k"))
    first, second = backend.written
    assert isinstance(first, Keyed)
    assert first.digest == second.digest


async def test_without_an_address_it_is_that_of_the_connection(connect, backend, monkeypatch):
    for served in (Serving, Parked):
        monkeypatch.setattr(served, "_client", lambda _: "192.0.2.33")
    assert is_done(await put(connect(), REGISTER + "?node=web-1", {"Name": "a"}))
    assert backend.written[0].place == Place(0, "web-1", "192.0.2.33")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "?node=a%0Ab",
            "Invalid node name: it must have 1 to 255 bytes without control characters",
        ),
        ("?node=a&node-address=host", "Invalid node-address: 'host' is no IP address"),
    ],
)
async def test_no_node_is_made_of_nonsense(client, backend, query, text):
    is_refused(await put(client, REGISTER + query, {"Name": "a"}), 400, text)
    assert backend.written == []


async def test_a_script_is_for_the_member_that_is_asked(client, backend):
    backend.checks.scripts = True
    body = {"Name": "a", "Check": {"Args": ["x"], "Interval": "1s"}}
    for query in ("?node=n2", "?node=web-1&node-address=192.0.2.1"):
        answer = await put(client, REGISTER + query, body)
        assert answer.status == 400
        assert answer.error.startswith("Invalid check: a script runs on the member")


# --- what the log says ---------------------------------------------------------------------------


async def test_the_log_says_once_that_dns_cannot_name_a_service(client):
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert is_done(await put(client, REGISTER, {"Name": "app#1", "ID": "said-once"}))
    assert [entry["service"] for entry in logs if "DNS" in entry["event"]] == ["app#1"]


async def test_the_log_says_that_dns_leaves_a_service_out_whose_address_is_none(client):
    with structlog.testing.capture_logs() as logs:
        for number, address in enumerate(("web:80", "db.example", "fd00::1", "10.0.0.9")):
            body = {"Name": "web", "ID": f"address-{number}", "Address": address}
            assert is_done(await put(client, REGISTER, body))
    assert [entry["address"] for entry in logs if "leaves out" in entry["event"]] == ["web:80"]


async def test_the_log_says_that_a_service_from_elsewhere_has_no_address(connect):
    far = connect(is_local=False)
    with structlog.testing.capture_logs() as logs:
        assert is_done(await put(far, REGISTER, {"Name": "web", "ID": "from-afar"}))
        assert is_done(await put(far, REGISTER, {"Name": "web", "ID": "x", "Address": "10.0.0.9"}))
    assert [entry["service_id"] for entry in logs if "another machine" in entry["event"]] == [
        "from-afar"
    ]


# --- service/deregister --------------------------------------------------------------------------


async def test_a_service_goes_by_all_that_follows_in_the_path(client, backend):
    assert is_done(await put(client, "/v1/agent/service/deregister/scope/me%23%2F1"))
    assert backend.written == [Deregister(Place(1), service="scope/me#/1")]
    backend.catalog.add_external("web-1", "192.0.2.1")
    assert is_done(await put(client, "/v1/agent/service/deregister/a?node=web-1"))
    assert backend.written[1] == Deregister(Place(0, "web-1"), service="a")


UNKNOWN_SERVICE = (
    'Unknown service ID "{}". Ensure that the service ID is passed, not the service name.'
)
UNKNOWN_CHECK = 'Unknown check ID "{}". Ensure that the check ID is passed, not the check name.'


@pytest.mark.parametrize("denial", [Denial.NO_SERVICE, Denial.NO_NODE])
async def test_a_service_that_is_not_there_cannot_go(client, backend, denial):
    backend.deny(denial)
    answer = await put(client, "/v1/agent/service/deregister/a")
    is_refused(answer, 404, UNKNOWN_SERVICE.format("a"))


async def test_no_service_has_such_an_id(client, backend):
    for service_id in ("", "x" * 2000):
        answer = await put(client, f"/v1/agent/service/deregister/{service_id}")
        assert answer.status == 404
        answer = await put(client, f"/v1/agent/check/deregister/{service_id}")
        assert answer.status == 404
    assert backend.written == []


# --- check/register, deregister ------------------------------------------------------------------

CHECK = "/v1/agent/check/register"


async def test_a_check_is_registered(client, backend):
    body = {"Name": "c", "TTL": "10s", "service_id": "web"}
    assert is_done(await put(client, CHECK, body))
    check = GivenCheck("c", "c", definition=TTL, service="web")
    assert backend.written == [RegisterCheck(Place(1), check)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"TTL": "1s"}, "Missing check name"),
        ({"Name": "c", "TTL": "1s", "Status": "bad"}, "Bad check status"),
        ({"Name": "c"}, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            {"Name": "serfHealth", "TTL": "1s"},
            "Invalid check: serfHealth is the check of the member itself",
        ),
    ],
)
async def test_what_is_no_check_is_refused(client, backend, body, text):
    is_refused(await put(client, CHECK, body), 400, text)
    assert backend.written == []


async def test_an_external_node_may_have_a_serf_health(client, backend):
    query = "?node=web-1&node-address=192.0.2.1"
    assert is_done(await put(client, CHECK + query, {"Name": "serfHealth", "TTL": "1s"}))


async def test_a_check_of_a_service_that_is_not_there(client, backend):
    backend.deny(Denial.NO_SERVICE_OF_CHECK, "web")
    answer = await put(client, CHECK, {"Name": "c", "TTL": "1s", "ServiceID": "web"})
    is_refused(answer, 404, 'ServiceID "web" does not exist')


async def test_a_check_goes(client, backend):
    assert is_done(await put(client, "/v1/agent/check/deregister/service:web:1"))
    assert backend.written == [Deregister(Place(1), check="service:web:1")]
    backend.deny(Denial.NO_CHECK)
    answer = await put(client, "/v1/agent/check/deregister/serfHealth")
    is_refused(answer, 404, UNKNOWN_CHECK.format("serfHealth"))


# --- words ---------------------------------------------------------------------------------------


@pytest.fixture
def web(backend: CatalogBackend) -> CatalogBackend:
    backend.catalog.register(1, "web", tags=("v1",), port=80)
    backend.catalog.check(1, "service:web", "critical", service="web", definition=TTL)
    return backend


@pytest.mark.parametrize(
    ("word", "status"), [("pass", "passing"), ("warn", "warning"), ("fail", "critical")]
)
async def test_a_word_is_taken_at_once_and_shown(client, web, word, status):
    assert is_done(await put(client, f"/v1/agent/check/{word}/service:web?note=all+well"))
    assert web.written == []
    assert web.barriers == 0
    shown = (await client.request("GET", "/v1/agent/checks")).json()["service:web"]
    assert (shown["Status"], shown["Output"]) == (status, "all well")


async def test_a_word_with_its_status_in_the_body(client, web):
    body = {"Status": "warning", "Output": "slow"}
    assert is_done(await put(client, "/v1/agent/check/update/service:web", body))
    assert web.checks.said[1, "service:web"] == ("warning", "slow")
    answer = await put(client, "/v1/agent/check/update/service:web", {"Status": "bad"})
    is_refused(answer, 400, "Invalid check status: 'bad'")
    answer = await put(client, "/v1/agent/check/update/service:web")
    is_refused(answer, 400, "Request decode failed: EOF")


async def test_a_word_is_taken_without_a_leader(client, web):
    web.error, web.knows_leader = NoLeader("none"), False
    assert is_done(await put(client, "/v1/agent/check/pass/service:web"))
    answer = await put(client, "/v1/agent/check/pass/nobody")
    is_refused(answer, 404, UNKNOWN_CHECK.format("nobody"))


async def test_a_check_that_is_not_known_yet_is_looked_for_after_a_barrier(client, web):
    made = []

    async def read_barrier(deadline: float) -> None:
        made.append(deadline)
        web.catalog.check(1, "late", "critical", definition=TTL)

    web.read_barrier = read_barrier
    assert is_done(await put(client, "/v1/agent/check/pass/late"))
    assert len(made) == 1
    answer = await put(client, "/v1/agent/check/pass/never")
    is_refused(answer, 404, UNKNOWN_CHECK.format("never"))


async def test_a_check_of_another_kind_takes_no_word(client, web):
    maintenance = CheckDefinition("maintenance")
    web.catalog.check(1, "_node_maintenance", "critical", definition=maintenance)
    answer = await put(client, "/v1/agent/check/pass/_node_maintenance")
    is_refused(answer, 500, 'CheckID "_node_maintenance" does not have associated TTL')


async def test_a_word_for_another_node_goes_to_whom_runs_its_checks(client, web):
    number = web.catalog.add_external("web-1", "192.0.2.1")
    web.catalog.check(number, "c", "critical", definition=TTL)
    web.catalog.check(2, "c", "critical", definition=TTL)
    assert is_done(await put(client, "/v1/agent/check/pass/c?node=WEB-1&note=n"))
    assert is_done(await put(client, "/v1/agent/check/fail/c?node=n2"))
    assert is_done(await put(client, "/v1/agent/check/pass/service:web?node=n1"))
    assert web.checks.elsewhere == [(number, "c", "passing", "n"), (2, "c", "critical", "")]
    answer = await put(client, "/v1/agent/check/pass/c?node=nobody")
    is_refused(answer, 404, UNKNOWN_CHECK.format("c"))


# --- what is shown -------------------------------------------------------------------------------


async def test_nothing_registered_is_an_empty_object(client):
    for path in ("services", "checks"):
        answer = await client.request("GET", f"/v1/agent/{path}")
        assert answer.body == b"{}"
        assert answer.headers["x-consul-effective-consistency"] == "leader"
    assert (await client.request("GET", "/v1/agent/services?node=nobody")).body == b"{}"


async def test_services_are_shown_as_an_agent_shows_them(client, web):
    web.catalog.register(1, "db", tagged=(("lan", "10.0.0.1", 5432),), meta=(("a", "1"),))
    web.catalog.register(2, "elsewhere")
    answer = await client.request("GET", "/v1/agent/services")
    assert answer.json() == {
        "db": {
            "ID": "db",
            "Service": "db",
            "Tags": [],
            "Meta": {"a": "1"},
            "Port": 0,
            "Address": "",
            "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 5432}},
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Datacenter": "dc1",
        },
        "web": {
            "ID": "web",
            "Service": "web",
            "Tags": ["v1"],
            "Meta": {},
            "Port": 80,
            "Address": "",
            "TaggedAddresses": {},
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Datacenter": "dc1",
        },
    }
    other = await client.request("GET", "/v1/agent/services?node=n2")
    assert list(other.json()) == ["elsewhere"]


async def test_checks_are_shown_without_serf_health(client, web):
    assert list((await client.request("GET", "/v1/agent/checks")).json()) == ["service:web"]
    assert (await client.request("GET", "/v1/agent/checks?node=n2")).body == b"{}"
    number = web.catalog.add_external("web-1", "192.0.2.1")
    web.catalog.check(number, "serfHealth", "passing")
    shown = (await client.request("GET", "/v1/agent/checks?node=web-1")).json()
    assert list(shown) == ["serfHealth"]
    assert shown["serfHealth"]["Node"] == "web-1"


async def test_a_check_is_shown_whole(client, web):
    (shown,) = (await client.request("GET", "/v1/agent/checks")).json().values()
    index = shown["CreateIndex"]
    assert shown == {
        "Node": "n1",
        "CheckID": "service:web",
        "Name": "service:web",
        "Status": "critical",
        "Notes": "",
        "Output": "",
        "ServiceID": "web",
        "ServiceName": "web",
        "ServiceTags": ["v1"],
        "Type": "ttl",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": index,
        "ModifyIndex": index,
    }


async def test_a_filter_chooses(client, web):
    web.catalog.register(1, "db")
    chosen = 'filter=Service%20==%20"web"%20and%20"v1"%20in%20Tags'
    answer = await client.request("GET", f"/v1/agent/services?{chosen}")
    assert list(answer.json()) == ["web"]
    answer = await client.request("GET", '/v1/agent/checks?filter=Status%20==%20"passing"')
    assert answer.json() == {}
    for path in ("services", "checks"):
        answer = await client.request("GET", f"/v1/agent/{path}?filter=Nobody%20==%201")
        assert answer.status == 400
        assert answer.error.startswith("Failed to create boolean expression evaluator: ")


async def test_thousands_are_sent_while_they_are_made(client, backend):
    for number in range(1000):
        backend.catalog.register(1, "web", f"web-{number:04}")
    answer = await client.request("GET", "/v1/agent/services")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert list(answer.json()) == [f"web-{number:04}" for number in range(1000)]
    answer = await client.request("GET", '/v1/agent/services?filter=ID%20matches%20"7$"')
    assert len(answer.json()) == 100


# --- maintenance ---------------------------------------------------------------------------------


async def test_a_node_is_taken_out_and_put_back(client, backend):
    assert is_done(await put(client, "/v1/agent/maintenance?enable=true&reason=new+disk"))
    check = GivenCheck(
        "_node_maintenance",
        "Node Maintenance Mode",
        "critical",
        "new disk",
        definition=CheckDefinition("maintenance"),
    )
    assert backend.written == [RegisterCheck(Place(1), check)]
    assert is_done(await put(client, "/v1/agent/maintenance?enable=false"))
    assert backend.written[1] == Deregister(Place(1), check="_node_maintenance")
    backend.deny(Denial.NO_CHECK)
    assert is_done(await put(client, "/v1/agent/maintenance?enable=f"))


async def test_a_service_is_taken_out_and_put_back(client, web):
    path = "/v1/agent/service/maintenance/web"
    assert is_done(await put(client, path + "?enable"))
    check = web.written[0].check
    assert (check.id, check.name) == ("_service_maintenance:web", "Service Maintenance Mode")
    assert check.service == "web"
    assert "no reason was given" in check.notes
    assert is_done(await put(client, path + "?enable=0"))
    assert web.written[1] == Deregister(Place(1), check="_service_maintenance:web")
    web.deny(Denial.NO_CHECK)
    assert is_done(await put(client, path + "?enable=0"))
    web.deny(Denial.NO_SERVICE)
    answer = await put(client, "/v1/agent/service/maintenance/nobody?enable=0")
    is_refused(answer, 404, UNKNOWN_SERVICE.format("nobody"))
    web.deny(Denial.NO_SERVICE_OF_CHECK, "web")
    answer = await put(client, path + "?enable=1")
    is_refused(answer, 404, UNKNOWN_SERVICE.format("web"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("service/maintenance/", "Missing service ID"),
        ("service/maintenance/?enable=true", "Missing service ID"),
        ("service/maintenance/web", "Missing value for enable"),
        ("service/maintenance/web?enable=x", 'Invalid value for enable: "x"'),
        ("maintenance", "Missing value for enable"),
        ("maintenance?enable=%22", 'Invalid value for enable: "\\""'),
        (
            "maintenance?enable=1&reason=" + "r" * 4097,
            "Invalid reason: it has more than 4,096 bytes",
        ),
        (
            f"service/maintenance/{'s' * 1010}?enable=1",
            "Invalid service ID: maintenance is for those of at most 1,003 bytes",
        ),
    ],
)
async def test_maintenance_has_to_be_said_clearly(client, backend, path, text):
    is_refused(await put(client, f"/v1/agent/{path}"), 400, text)
    assert backend.written == []


# --- the health of a service in one status -----------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "own", "status", "word"),
    [
        ("passing", "passing", 200, "passing"),
        ("warning", "passing", 429, "warning"),
        ("passing", "critical", 503, "critical"),
        ("critical", "warning", 503, "critical"),
    ],
)
async def test_the_worst_check_is_the_status(client, backend, service, own, status, word):
    backend.catalog.register(1, "web", "web-1")
    backend.catalog.check(1, "c", service, service="web-1", definition=TTL)
    backend.catalog.check(1, "d", own, definition=TTL)
    for path in ("id/web-1", "name/WEB"):
        answer = await client.request("GET", f"/v1/agent/health/service/{path}")
        assert answer.status == status
        assert answer.headers["x-consul-reason"] == word
        found = answer.json()
        if path.startswith("name"):
            (found,) = found
        assert found["AggregatedStatus"] == word
        assert (found["Service"]["ID"], found["Service"]["Datacenter"]) == ("web-1", "dc1")
        assert [check["CheckID"] for check in found["Checks"]] == ["d", "c"]
        for target, accept in ((f"{path}?format=text", "*/*"), (path, "text/plain")):
            answer = await client.request(
                "GET", f"/v1/agent/health/service/{target}", Accept=accept
            )
            assert (answer.status, answer.body.decode()) == (status, word)


async def test_maintenance_is_unavailable_and_no_check_is_passing(client, backend):
    backend.catalog.register(1, "web")
    answer = await client.request("GET", "/v1/agent/health/service/id/web")
    assert (answer.status, answer.json()["AggregatedStatus"]) == (200, "passing")
    maintenance = CheckDefinition("maintenance")
    backend.catalog.check(1, "m", "critical", service="web", definition=maintenance)
    answer = await client.request("GET", "/v1/agent/health/service/id/web?format=text")
    assert (answer.status, answer.body) == (503, b"maintenance")


async def test_a_service_that_is_not_here_has_no_health(client, backend):
    backend.catalog.register(2, "web")
    answer = await client.request("GET", "/v1/agent/health/service/id/web")
    is_refused(answer, 404, "ServiceId web not found")
    answer = await client.request("GET", "/v1/agent/health/service/name/web")
    is_refused(answer, 404, "ServiceName web Not Found")
    answer = await client.request("GET", "/v1/agent/health/service/name/web?node=n2")
    assert answer.status == 200


# --- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "agent/service/register", "agent/service/deregister/a", "agent/service/maintenance/a",
        "agent/maintenance", "agent/check/register", "agent/check/deregister/a", "agent/check/pass/a",
        "agent/check/warn/a", "agent/check/fail/a", "agent/check/update/a", "catalog/register",
        "catalog/deregister",
    ],
)  # fmt: skip
async def test_changes_are_made_by_put_alone(client, path):
    answer = await client.request("GET", f"/v1/{path}")
    is_refused(answer, 405, "method GET not allowed")
    assert answer.headers["allow"] == "PUT"


async def test_another_datacenter_is_refused_everywhere(client):
    for path in ("agent/service/register", "agent/check/pass/a", "catalog/deregister"):
        answer = await put(client, f"/v1/{path}?dc=dc2", {"Name": "a"})
        is_refused(answer, 500, "No path to datacenter")
