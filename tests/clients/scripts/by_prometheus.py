"""What Prometheus' consul_sd asks (discovery/consul/consul.go of 2.53), by its requests.

First the agent, whose datacenter it must have; then the names of all services, and of each the instances
with their checks, again and again: it waits with the index of its last answer, and takes an equal index
for "nothing new". Targets and their labels are made as there.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness import run, test

ADDRESS = sys.argv[1]
WAIT = "wait=120000ms&stale="


def ask(method: str, path: str, body: Any = None) -> tuple[Any, int]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
        index = int(answer.headers.get("X-Consul-Index", 0))
        contact = answer.headers.get("X-Consul-LastContact")
        if method == "GET" and index:
            assert contact is not None and contact.isdecimal(), contact
    return json.loads(text) if text else None, index


def register(number: int, **more: Any) -> None:
    body = {
        "ID": f"prom-{number}",
        "Name": "prom",
        "Tags": ["a", "b"],
        "Port": 9100 + number,
        "Meta": {"team": "x"},
        "Check": {"TTL": "10m", "Status": "passing"},
        **more,
    }
    ask("PUT", "/v1/agent/service/register", body)


def deregister(number: int) -> None:
    ask("PUT", f"/v1/agent/service/deregister/prom-{number}")


def targets() -> tuple[list[dict[str, str]], int]:
    """Make the targets of one service with their labels, as `consulService.watch` does."""
    entries, index = ask("GET", f"/v1/health/service/prom?{WAIT}")
    found = []
    for entry in entries:
        node, service = entry["Node"], entry["Service"]
        host = service["Address"] or node["Address"]
        labels = {
            "__address__": f"{host}:{service['Port']}",
            "__meta_consul_address": node["Address"],
            "__meta_consul_node": node["Node"],
            "__meta_consul_tags": "," + ",".join(service["Tags"]) + ",",
            "__meta_consul_service_address": service["Address"],
            "__meta_consul_service_port": str(service["Port"]),
            "__meta_consul_service_id": service["ID"],
            "__meta_consul_health": worst(entry["Checks"]),
            "__meta_consul_dc": node["Datacenter"],
        }
        labels |= {f"__meta_consul_metadata_{k}": v for k, v in node["Meta"].items()}
        labels |= {f"__meta_consul_service_metadata_{k}": v for k, v in service["Meta"].items()}
        labels |= {
            f"__meta_consul_tagged_address_{k}": v for k, v in node["TaggedAddresses"].items()
        }
        found.append(labels)
    return found, index


def worst(checks: list[dict[str, Any]]) -> str:
    order = ["passing", "warning", "critical"]
    return max((check["Status"] for check in checks), key=order.index, default="passing")


def waits(path: str, index: int, change: Any) -> tuple[Any, int]:
    """Ask with an index, change something while the answer is out, and return the answer."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, "GET", f"{path}?{WAIT}&index={index}")
        try:
            change()
            return waiting.result(timeout=20)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@test
def the_agent_names_its_datacenter() -> None:
    found, _ = ask("GET", "/v1/agent/self")
    assert isinstance(found["Config"]["Datacenter"], str) and found["Config"]["Datacenter"]


@test
def services_are_named_and_a_new_one_ends_the_wait() -> None:
    names, index = ask("GET", f"/v1/catalog/services?{WAIT}")
    assert index > 0 and "consul" in names and "prom" not in names, names
    try:
        names, later = waits("/v1/catalog/services", index, lambda: register(1))
        assert later > index and names["prom"] == ["a", "b"], names
    finally:
        deregister(1)


@test
def targets_have_their_labels() -> None:
    register(1, Address="10.9.8.7")
    register(2)
    try:
        (first, second), index = targets()
        assert index > 0
        assert first["__address__"] == "10.9.8.7:9101"
        assert second["__address__"] == f"{second['__meta_consul_address']}:9102"
        assert first["__meta_consul_tags"] == ",a,b,"
        assert first["__meta_consul_service_metadata_team"] == "x"
        assert first["__meta_consul_health"] == "passing"
        assert first["__meta_consul_dc"] == "dc1"
        assert "__meta_consul_tagged_address_lan" in first
    finally:
        deregister(1)
        deregister(2)


@test
def an_equal_index_means_that_nothing_is_new() -> None:
    register(1)
    try:
        before, index = targets()
        register(1)
        after, same = targets()
        assert (after, same) == (before, index)
        answer, same = ask("GET", f"/v1/health/service/prom?index={index}&wait=20ms&stale=")
        assert same == index and len(answer) == 1
    finally:
        deregister(1)


@test
def a_failing_check_ends_the_wait() -> None:
    register(1)
    try:
        _, index = targets()
        fail = lambda: ask("PUT", "/v1/agent/check/fail/service:prom-1")
        [entry], later = waits("/v1/health/service/prom", index, fail)
        assert later > index and worst(entry["Checks"]) == "critical"
    finally:
        deregister(1)


@test
def a_service_that_is_gone_is_empty_and_gone_from_the_names() -> None:
    register(1)
    _, index = targets()
    found, later = waits("/v1/health/service/prom", index, lambda: deregister(1))
    assert found == [] and later > index
    assert "prom" not in ask("GET", f"/v1/catalog/services?{WAIT}")[0]


@test
def the_built_in_service_is_a_target_of_each_member() -> None:
    entries, _ = ask("GET", f"/v1/health/service/consul?{WAIT}")
    members, _ = ask("GET", "/v1/agent/members")
    assert [entry["Node"]["Node"] for entry in entries] == sorted(one["Name"] for one in members)


run()
