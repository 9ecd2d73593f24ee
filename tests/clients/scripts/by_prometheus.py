"""What Prometheus' consul_sd asks (discovery/consul/consul.go), by its requests.

First the agent, whose datacenter it must have; then the names of all services, and of each the instances
with their checks, again and again: it waits with the index of its last answer, and takes an equal index
for "nothing new". Targets and their labels are made as there.
"""

from __future__ import annotations

import json

from harness import aggregated, main

WAIT = "wait=120000ms&stale="


def targets(place):
    """Make the targets of the service `web` with their labels."""
    entries, index = place.read(f"/v1/health/service/web?{WAIT}")
    return [_labels(entry) for entry in entries], index


def _labels(entry):
    node, service = entry["Node"], entry["Service"]
    host = service["Address"] or node["Address"]
    start = "__meta_consul_"
    return {
        "__address__": f"{host}:{service['Port']}",
        f"{start}address": node["Address"],
        f"{start}node": node["Node"],
        f"{start}dc": node["Datacenter"],
        f"{start}tags": f",{','.join(service['Tags'])},",
        f"{start}service_address": service["Address"],
        f"{start}service_port": str(service["Port"]),
        f"{start}service_id": service["ID"],
        f"{start}health": aggregated(entry["Checks"]),
        **{f"{start}metadata_{key}": value for key, value in node["Meta"].items()},
        **{f"{start}service_metadata_{key}": value for key, value in service["Meta"].items()},
        **{f"{start}tagged_address_{key}": value for key, value in node["TaggedAddresses"].items()},
    }


def check_the_agent_names_its_datacenter(place):
    assert place.ask("GET", "/v1/agent/self")["Config"]["Datacenter"] == "dc1"


def check_a_new_service_ends_the_wait_for_the_names(place):
    names, index = place.read(f"/v1/catalog/services?{WAIT}")
    assert index > 0
    assert set(names) == {"consul"}, names

    path = f"/v1/catalog/services?{WAIT}&index={index}"
    names, later = place.woken(path, lambda: place.register("web-1", "web", Tags=["b", "a"]))
    assert later > index
    assert names == {"consul": [], "web": ["a", "b"]}, names


def check_targets_have_their_labels(place):
    place.register("web-1", "web", Address="10.9.8.7", Port=9101, Tags=["b", "a"])
    place.register("web-2", "web", Port=9102, Meta={"team": "x"})
    (first, second), index = targets(place)
    assert index > 0
    assert first["__address__"] == "10.9.8.7:9101"
    assert second["__address__"] == f"{second['__meta_consul_address']}:9102"
    assert first["__meta_consul_tags"] == ",b,a,"
    assert second["__meta_consul_service_metadata_team"] == "x"
    assert first["__meta_consul_health"] == "passing"
    assert first["__meta_consul_dc"] == "dc1"
    assert first["__meta_consul_tagged_address_lan"] == first["__meta_consul_address"]


def check_an_equal_index_means_that_nothing_is_new(place):
    place.register("web-1", "web")
    before = targets(place)
    place.register("web-1", "web")
    place.register("other", "other")
    assert targets(place) == before
    index = before[1]
    _, same = place.read(f"/v1/health/service/web?index={index}&wait=20ms&stale=")
    assert same == index


def check_a_failing_check_ends_the_wait(place):
    place.register("web-1", "web")
    _, index = targets(place)
    path = f"/v1/health/service/web?{WAIT}&index={index}"
    fail = "/v1/agent/check/fail/service:web-1"
    [entry], later = place.woken(path, lambda: place.ask("PUT", fail))
    assert later > index
    assert aggregated(entry["Checks"]) == "critical"


def check_a_service_that_goes_is_empty_and_out_of_the_names(place):
    place.register("web-1", "web")
    _, index = targets(place)
    path = f"/v1/health/service/web?{WAIT}&index={index}"
    found, later = place.woken(path, lambda: place.deregister("web-1"))
    assert found == []
    assert later > index
    assert set(place.read("/v1/catalog/services")[0]) == {"consul"}


def check_tags_and_node_meta_of_its_configuration(place):
    node = {"Node": "x1", "Address": "10.1.10.11", "NodeMeta": {"rack": "7"}}
    tags = ["blue", "metrics"]
    body = {**node, "Service": {"Service": "web", "ID": "web-x", "Tags": tags, "Port": 80}}
    place.ask("PUT", "/v1/catalog/register", json.dumps(body).encode())
    place.register("web-1", "web", Tags=tags)
    chosen = f"node-meta=rack%3A7&{WAIT}"
    names, _ = place.read(f"/v1/catalog/services?{chosen}")
    assert names == {"web": tags}, names
    path = f"/v1/health/service/web?{chosen}&tag=metrics&tag=blue"
    [entry], index = place.read(path)
    assert _labels(entry)["__meta_consul_metadata_rack"] == "7"
    assert _labels(entry)["__address__"] == "10.1.10.11:80"
    # It wakes although the result of its filters is the same: so it does at Consul.
    found, later = place.woken(f"{path}&index={index}", lambda: place.register("web-2", "web"))
    assert [one["Service"]["ID"] for one in found] == ["web-x"]
    assert later > index


def check_the_built_in_service_is_a_target_of_each_member(place):
    entries, _ = place.read(f"/v1/health/service/consul?{WAIT}")
    members = place.ask("GET", "/v1/agent/members")
    assert [entry["Node"]["Node"] for entry in entries] == sorted(one["Name"] for one in members)
    assert {aggregated(entry["Checks"]) for entry in entries} == {"passing"}


if __name__ == "__main__":
    main(globals())
