"""/v1/status."""

from __future__ import annotations

import pytest

from tests.node.api.conftest import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


async def test_status_leader_is_its_peer_address_or_empty(client, backend):
    assert (await client.request("GET", "/v1/status/leader")).json() == "10.0.0.1:8300"
    backend.leader = None
    assert (await client.request("GET", "/v1/status/leader")).json() == ""


async def test_status_peers_is_a_list_of_peer_addresses(client):
    answer = await client.request("GET", "/v1/status/peers")
    assert answer.json() == ["10.0.0.1:8300", "10.0.0.1:8301"]
