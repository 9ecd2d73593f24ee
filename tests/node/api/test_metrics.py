"""The paths of metrics, and where Prometheus finds its targets."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hstore.node.api.figures import Metrics
from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES

from .conftest import FakeBackend


class FakeMetrics:
    def __init__(self) -> None:
        self.accepted: list[str] = []

    def text(self, accept: str) -> tuple[str, bytes]:
        self.accepted.append(accept)
        return "text/plain; version=0.0.4; charset=utf-8", b"a 1\n"

    def consul(self) -> bytes:
        return b'{"Gauges":[]}'


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


@pytest.fixture
def server(backend: FakeBackend, metrics: FakeMetrics, poller: Any) -> ApiServer:
    shown: Metrics = metrics
    whole = dataclasses.replace(backend.whole, metrics=shown)
    return ApiServer(whole, ROUTES, poller=poller)


async def test_metrics_have_the_type_of_their_form(client, metrics):
    response = await client.request("GET", "/metrics", Accept="application/openmetrics-text")
    assert (response.status, response.body) == (200, b"a 1\n")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert metrics.accepted == ["application/openmetrics-text"]


async def test_metrics_as_consul_has_them(client, backend):
    backend.knows_leader = False
    response = await client.request("GET", "/v1/agent/metrics")
    assert response.json() == {"Gauges": []}
    own = {"x-consul-default-acl-policy": "allow", "vary": "Accept-Encoding"}
    assert own.items() <= response.headers.items()
    response = await client.request("GET", "/v1/agent/metrics?format=prometheus")
    assert response.body == b"a 1\n"
    assert own.items() <= response.headers.items()


@pytest.mark.parametrize(
    ("accept", "is_text"),
    [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("text/plain", True),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("*/*", False),
    ],
)
async def test_a_scraper_is_given_its_text_by_the_path_of_consul_too(client, accept, is_text):
    response = await client.request("GET", "/v1/agent/metrics", Accept=accept)
    assert (response.body == b"a 1\n") is is_text


async def test_the_members_are_targets(client):
    response = await client.request("GET", "/v1/sd/prometheus")
    assert response.headers["content-type"] == "application/json"
    groups = response.json()
    assert [group["targets"] for group in groups] == [["10.0.0.1:8500"], ["10.0.0.1:8501"]]
    labels = groups[0]["labels"]
    assert labels["node"] == "n1"
    assert (labels["__scheme__"], labels["__metrics_path__"]) == ("http", "/metrics")


async def register(client, **service: Any) -> None:
    body = {"Name": "web", "Port": 80, **service}
    assert (await client.request("PUT", "/v1/agent/service/register", body)).status == 200


async def test_the_instances_of_a_service_are_targets_with_consuls_labels(client):
    meta = {"a-b_c": "1", "prometheus_path": "/m", "prometheus_scheme": "https"}
    await register(client, ID="w1", Tags=["x", "y"], Meta=meta, Address="fd00::1")
    await register(client, ID="w2", Check={"TTL": "1m", "Status": "passing"})
    response = await client.request("GET", "/v1/sd/prometheus?service=WEB")
    assert response.headers["content-type"] == "application/json"
    first, second = response.json()
    assert first["targets"] == ["[fd00::1]:80"]
    labels = first["labels"]
    assert labels["__meta_consul_service"] == "web"
    assert labels["__meta_consul_service_id"] == "w1"
    assert labels["__meta_consul_service_address"] == "fd00::1"
    assert labels["__meta_consul_service_port"] == "80"
    assert labels["__meta_consul_tags"] == ",x,y,"
    assert labels["__meta_consul_service_metadata_a_b_c"] == "1"
    assert labels["__meta_consul_node"] == "n1"
    assert labels["__meta_consul_address"] == "10.0.0.1"
    assert labels["__meta_consul_dc"] == "dc1"
    assert (labels["__scheme__"], labels["__metrics_path__"]) == ("https", "/m")
    assert second["targets"] == ["10.0.0.1:80"]
    assert second["labels"]["__meta_consul_health"] == "critical"
    assert second["labels"]["__metrics_path__"] == "/metrics"


async def test_an_instance_in_maintenance_says_so(client):
    await register(client, ID="w1")
    await client.request("PUT", "/v1/agent/service/maintenance/w1?enable=true")
    (only,) = (await client.request("GET", "/v1/sd/prometheus?service=web")).json()
    assert only["labels"]["__meta_consul_health"] == "maintenance"


async def test_a_service_without_instances_has_no_targets(client):
    assert (await client.request("GET", "/v1/sd/prometheus?service=none")).json() == []
    response = await client.request("GET", "/v1/sd/prometheus?service=")
    assert response.status == 400
