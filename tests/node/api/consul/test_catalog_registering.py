"""`catalog/register` and `deregister`: contract-services sections 5 and 13.

The catalog is one of dictionaries, and the log answers as a test says (`registering.py`).
"""

from __future__ import annotations

import pytest

from hstore.node.model.commands import Denial
from hstore.node.model.services import (
    CatalogRegister,
    Deregister,
    Place,
    Service,
)
from tests.node.api.consul.conftest import is_refused
from tests.node.api.consul.registering import CatalogBackend, put


@pytest.fixture
def backend() -> CatalogBackend:
    return CatalogBackend()


# --- the catalog ---------------------------------------------------------------------------------


async def test_a_node_is_registered(client, backend):
    body = {"Node": "db-1", "Address": "192.0.2.7", "Service": {"Service": "db"}}
    answer = await put(client, "/v1/catalog/register", body)
    assert (answer.status, answer.json()) == (200, True)
    (command,) = backend.written
    assert isinstance(command, CatalogRegister)
    assert (command.node.name, command.service) == ("db-1", Service(0, "db", "db"))


async def test_meta_of_a_node_in_the_query_means_nothing_as_in_consul(client, backend):
    body = {"Node": "db-1", "Address": "a", "nodemeta": {"k": "v"}}
    answer = await put(client, "/v1/catalog/register?node-meta=k:other", body)
    assert answer.json() is True
    assert backend.written[0].node.meta == (("k", "v"),)


@pytest.mark.parametrize(
    ("denial", "text", "status", "said"),
    [
        (Denial.NO_SERVICE_OF_CHECK, "web", 500, "Missing service registration"),
        (
            Denial.MEMBER,
            "n1 is a member: register through its agent",
            500,
            "n1 is a member: register through its agent",
        ),
        (Denial.LIMIT, "Invalid node ID: x", 400, "Invalid node ID: x"),
        (Denial.NO_NODE, "", 500, "Missing node registration"),
    ],
)
async def test_what_the_log_refuses_of_the_catalog_is_told(
    client, backend, denial, text, status, said
):
    backend.deny(denial, text)
    answer = await put(client, "/v1/catalog/register", {"Node": "n1", "Address": "a"})
    is_refused(answer, status, said)


async def test_parts_of_a_node_and_the_node_go(client, backend):
    path = "/v1/catalog/deregister"
    for body in (
        {"Node": "db-1", "ServiceID": "db"},
        {"Node": "N2", "CheckID": "c"},
        {"Node": "db-1"},
    ):
        answer = await put(client, path, body)
        assert (answer.status, answer.json()) == (200, True)
    assert backend.written == [
        Deregister(Place(0, "db-1"), "db", None, is_catalog=True),
        Deregister(Place(2), None, "c", is_catalog=True),
        Deregister(Place(0, "db-1"), None, None, is_catalog=True),
    ]
    backend.deny(Denial.NO_NODE)
    for body in ({"Node": "nobody"}, {"Node": "x" * 300}, {"Node": "a", "ServiceID": "s" * 2000}):
        answer = await put(client, path, body)
        assert (answer.status, answer.json()) == (200, True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Node": "N1"}, "n1 is a member: use leave"),
        ({"Node": "n1", "CheckID": "serfHealth"}, "serfHealth of a member cannot be removed"),
        ({"Node": "n1", "ServiceID": "consul"}, "the service consul of a member cannot be removed"),
    ],
)
async def test_a_member_and_what_is_its_own_stay(client, backend, body, text):
    backend.deny(Denial.PROTECTED)
    is_refused(await put(client, "/v1/catalog/deregister", body), 500, text)


async def test_a_node_must_be_named(client):
    for path in ("register", "deregister"):
        answer = await put(client, f"/v1/catalog/{path}", {"Address": "a"})
        is_refused(answer, 400, "Must provide node")
