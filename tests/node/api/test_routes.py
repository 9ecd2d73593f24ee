"""Every route demands what it should, and its gate holds a request to it before the handler runs."""

from __future__ import annotations

import dataclasses

import pytest

from hstore.node.api.gate import Browser, Caller, Repeat, Right, Route, Routes
from hstore.node.api.http.answers import Answer, HttpError, ok
from hstore.node.api.http.connection import Request
from hstore.node.api.http.exchange import Exchange
from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import RECORDS
from tests.node.api.conftest import Connect

CHANGES = [route for route in RECORDS if route.repeat is not Repeat.SAFE]


def name(route: Route) -> str:
    return f"{route.method.decode()} {route.path.decode()}"


every_route = pytest.mark.parametrize("route", RECORDS, ids=name)


class Reached:
    """Stands for all handlers, and counts the requests that pass their gates."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
        self.count += 1
        return ok(exchange.keys.applied_index, b"{}")


@pytest.fixture
def reached() -> Reached:
    return Reached()


@pytest.fixture
def server(backend, poller, reached) -> ApiServer:
    """The gates of all routes, before a handler that answers everything."""
    routes = Routes([dataclasses.replace(route, handler=reached) for route in RECORDS])
    return ApiServer(backend.whole, routes, poller=poller)


def target(route: Route) -> str:
    return route.path.decode() + "key" * route.has_key


async def status(connect: Connect, route: Route, *, is_local: bool = True, **headers: str) -> int:
    client = connect(is_local=is_local)
    answer = await client.request(route.method.decode(), target(route), b"", **headers)
    return answer.status


# --- the table --------------------------------------------------------------------------------

RIGHTS = {
    Right.NONE: {
        "/", "/v1/catalog/datacenters", "/v1/coordinate/datacenters", "/v1/health",
        "/v1/status/leader", "/v1/status/peers", "/ui", "/ui/", "/v1/ui/me",
    },
    Right.ACL_READ: {"/v1/acl/"},
    Right.ACL_WRITE: {"/v1/acl/"},
    Right.KEY_READ: {"/read", "/read/", "/v1/kv/", "/v1/ui/keys", "/v1/watch"},
    Right.KEY_WRITE: {"/write", "/update", "/delete/", "/v1/kv/", "/v1/txn"},
    Right.SESSION_READ: {"/v1/session/info/", "/v1/session/list", "/v1/session/node/", "/v1/ui/sessions"},
    Right.SESSION_WRITE: {"/v1/session/create", "/v1/session/destroy/", "/v1/session/renew/"},
    Right.EVENT_READ: {"/v1/event/list"},
    Right.EVENT_WRITE: {"/v1/event/fire/"},
    Right.SERVICE_READ: {
        "/v1/agent/health/service/id/", "/v1/agent/health/service/name/", "/v1/agent/services",
        "/v1/catalog/connect/", "/v1/catalog/service/", "/v1/catalog/services",
        "/v1/health/checks/", "/v1/health/connect/", "/v1/health/service/", "/v1/ui/instance",
        "/v1/ui/instances",
        "/v1/ui/services",
    },
    Right.SERVICE_WRITE: {
        "/v1/agent/check/deregister/", "/v1/agent/check/fail/", "/v1/agent/check/pass/",
        "/v1/agent/check/register", "/v1/agent/check/update/", "/v1/agent/check/warn/",
        "/v1/agent/service/deregister/", "/v1/agent/service/maintenance/",
        "/v1/agent/service/register",
    },
    Right.NODE_READ: {
        "/v1/agent/checks", "/v1/agent/members", "/v1/catalog/node/", "/v1/catalog/nodes",
        "/v1/cluster", "/v1/coordinate/node/", "/v1/coordinate/nodes", "/v1/events",
        "/v1/health/node/", "/v1/health/state/", "/v1/sd/prometheus", "/v1/timeline", "/v1/ui/dns",
        "/v1/ui/stream",
    },
    Right.NODE_WRITE: {
        "/v1/agent/maintenance", "/v1/catalog/deregister", "/v1/catalog/register",
        "/v1/coordinate/update",
    },
    Right.AGENT_READ: {
        "/metrics", "/v1/agent/metrics", "/v1/agent/self", "/v1/node/load", "/v1/statistics",
    },
    Right.AGENT_WRITE: {"/v1/agent/leave", "/v1/agent/reload", "/v1/agent/token/"},
    Right.OPERATOR_READ: {
        "/v1/agent/monitor", "/v1/config", "/v1/config/", "/v1/operator/raft/configuration",
    },
    Right.OPERATOR_WRITE: {
        "/v1/cluster/stop", "/v1/config/", "/v1/leader/remove", "/v1/leader/transfer", "/v1/node/kill",
        "/v1/node/leave", "/v1/node/rename", "/v1/node/restart", "/v1/node/stop",
        "/v1/operator/raft/peer", "/v1/operator/raft/transfer-leader",
    },
    Right.JOIN: {"/v1/cluster/join"},
}  # fmt: skip


def test_every_route_needs_the_right_of_the_contract():
    needed: dict[Right, set[str]] = {right: set() for right in Right}
    for route in RECORDS:
        needed[route.right].add(route.path.decode())
    assert needed == RIGHTS


@every_route
def test_a_route_that_changes_something_needs_more_than_a_right_to_read(route):
    reads = {right for right in Right if right.value.endswith(" read")} | {Right.NONE}
    assert (route.right in reads) is (route.repeat is Repeat.SAFE)


@every_route
def test_what_only_an_operator_may_change_is_for_this_machine_until_tokens_exist(route):
    # And the log, which says more than any answer does.
    is_log = route.path == b"/v1/agent/monitor"
    is_operators = route.right in {Right.OPERATOR_WRITE, Right.AGENT_WRITE} or is_log
    assert is_operators is (route.caller is Caller.THIS_MACHINE)


@every_route
def test_only_a_get_is_safe_and_one_that_is_not_has_a_guard_of_its_own(route):
    if route.method != b"GET":
        assert route.repeat is not Repeat.SAFE
    elif route.repeat is not Repeat.SAFE:
        assert route.browser is Browser.PROVEN
        assert b"HEAD" not in route.methods


def test_no_path_and_method_has_two_routes(reached):
    twice = Route(b"GET", b"/read", reached, Right.NONE)
    with pytest.raises(ValueError, match="two routes"):
        Routes([*RECORDS, twice])


# --- the gate ---------------------------------------------------------------------------------


@every_route
async def test_a_plain_request_from_this_machine_reaches_the_handler(connect, reached, route):
    assert await status(connect, route) == 200
    assert reached.count == 1


@every_route
@pytest.mark.parametrize(
    "headers", [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://evil.example"}]
)
async def test_no_page_of_another_site_reaches_a_handler(connect, reached, route, headers):
    assert await status(connect, route, **headers) == 403
    assert reached.count == 0


@pytest.mark.parametrize("route", [r for r in CHANGES if r.method == b"GET"], ids=name)
async def test_no_image_of_a_page_reaches_a_handler_that_changes_something(connect, reached, route):
    """An image carries neither `Origin` nor `Sec-Fetch-Site` where the host is not loopback."""
    assert await status(connect, route, User_Agent="Mozilla/5.0 (X11; Linux x86_64)") == 403
    assert reached.count == 0


@every_route
async def test_from_another_host_only_what_is_for_any_host_reaches_a_handler(
    connect, reached, route
):
    is_open = route.caller is Caller.ANYWHERE
    assert await status(connect, route, is_local=False) == (200 if is_open else 403)
    assert reached.count == is_open


@every_route
async def test_an_idempotency_key_is_refused_where_it_would_be_ignored(connect, reached, route):
    is_taken = route.repeat is not Repeat.NEVER
    assert await status(connect, route, Idempotency_Key="k") == (200 if is_taken else 400)
    assert reached.count == is_taken


@every_route
async def test_a_body_without_a_length_ends_the_connection_where_a_body_is_needed(
    connect, reached, route
):
    client = connect()
    answer = await client.request(route.method.decode(), target(route))
    assert answer.status == (411 if route.needs_length else 200)
    assert reached.count == (not route.needs_length)
    assert ("connection" in answer.headers) is route.needs_length


@pytest.mark.parametrize("route", [r for r in RECORDS if r.needs_length], ids=name)
async def test_who_may_not_ask_is_told_so_before_what_is_wrong_with_the_request(connect, route):
    client = connect(is_local=False)
    answer = await client.request(route.method.decode(), target(route))
    assert answer.status == (403 if route.caller is Caller.THIS_MACHINE else 411)


def test_a_renewal_takes_an_idempotency_key_on_purpose():
    """Contract of services 2.1: on every write; it does no harm, as each renewal starts the time again."""
    (renewal,) = [route for route in RECORDS if route.path == b"/v1/session/renew/"]
    assert renewal.repeat is Repeat.HARMLESS


# --- which route it is --------------------------------------------------------------------------


def test_of_two_routes_with_a_key_the_longer_path_counts(reached):
    paths = [b"/v1/a/", b"/v1/a/b/", b"/read/", b"/v1/ab/"]
    routes = Routes([Route(b"GET", path, reached, Right.NONE) for path in paths])
    cases = {
        "/v1/a/": (b"/v1/a/", b""),
        "/v1/a/b": (b"/v1/a/", b"b"),
        "/v1/a/b/": (b"/v1/a/b/", b""),
        "/v1/a/b/c/d": (b"/v1/a/b/", b"c/d"),
        "/v1/a//b/": (b"/v1/a/", b"/b/"),
        "/v1/ab/c": (b"/v1/ab/", b"c"),
        "/read/a/b": (b"/read/", b"a/b"),
    }
    request = Request()
    request.method = b"GET"
    for path, expected in cases.items():
        request.path = path.encode()
        route, rest = routes._find(request)
        assert (route.path, rest) == expected
    for path in (
        "/v1/",
        "/v1/a",
        "/v1",
        "/",
        "/v1/b/",
        "/v1/abc/",
        "//",
        "/v1//a/",
        "/read",
        "/x/",
    ):
        request.path = path.encode()
        with pytest.raises(HttpError) as error:
            routes._find(request)
        assert error.value.status == 404
    with pytest.raises(ValueError, match="too short"):
        Routes([Route(b"GET", b"/a/", reached, Right.NONE)])
