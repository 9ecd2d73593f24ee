"""What consul-template asks for its functions (dependency/*.go), by its requests.

Each function of a template is a blocking query of its own, of at most 60 s: `service` reads
`health/service`, with `passing` unless other states are wanted, `services` the names, `nodes` and `node`
the catalog; `service "web|any"` has all. An index that falls makes it begin again, one that stands still
with the same answer renders nothing.
"""

from __future__ import annotations

import json

from harness import aggregated, main

WAIT = "stale=&wait=60000ms"


def check_service_has_those_that_pass(place):
    place.register("web-1", "web", Address="10.0.0.1", Port=80)
    place.register("web-2", "web", Address="10.0.0.2", Port=80)
    place.say("warn", "service:web-2")
    found, _ = place.read(f"/v1/health/service/web?{WAIT}&passing=1")
    assert [one["Service"]["ID"] for one in found] == ["web-1"]
    found, _ = place.read(f"/v1/health/service/web?{WAIT}")
    assert [one["Service"]["ID"] for one in found] == ["web-1", "web-2"]


def check_service_with_states_that_it_names(place):
    for number in (1, 2, 3):
        place.register(f"web-{number}", "web")
    place.say("warn", "service:web-2")
    place.ask("PUT", "/v1/agent/service/maintenance/web-3?enable=true")
    found, _ = place.read(f"/v1/health/service/web?{WAIT}&near=_agent")
    assert [aggregated(one["Checks"]) for one in found] == ["passing", "warning", "maintenance"]


def check_service_by_tag(place):
    place.register("web-1", "web", Tags=["Primary"])
    place.register("web-2", "web")
    found, _ = place.read(f"/v1/health/service/web?{WAIT}&passing=1&tag=primary")
    assert [one["Service"]["ID"] for one in found] == ["web-1"]


def check_a_template_is_rendered_at_each_change_and_no_other(place):
    place.register("web-1", "web")
    seen = []
    found, index = place.read(f"/v1/health/service/web?{WAIT}&passing=1")
    changes = [
        lambda: place.register("web-2", "web"),
        lambda: place.ask("PUT", "/v1/agent/check/fail/service:web-1"),
        lambda: place.ask("PUT", "/v1/agent/check/pass/service:web-1"),
        lambda: place.deregister("web-2"),
    ]
    for change in changes:
        path = f"/v1/health/service/web?{WAIT}&passing=1&index={index}"
        found, later = place.woken(path, change)
        assert later > index, (later, index)
        index = later
        seen.append([one["Service"]["ID"] for one in found])
    assert seen == [["web-1", "web-2"], ["web-2"], ["web-1", "web-2"], ["web-1"]], seen
    place.register("other", "other")
    _, same = place.read(f"/v1/health/service/web?stale=&wait=20ms&passing=1&index={index}")
    assert same == index


def check_services_and_the_catalog_of_one(place):
    place.register("web-1", "web", Tags=["b", "a"], Meta={"k": "v"}, Port=80)
    names, _ = place.read(f"/v1/catalog/services?{WAIT}")
    assert names["web"] == ["a", "b"]
    [one], _ = place.read(f"/v1/catalog/service/web?{WAIT}")
    assert one["ServiceTags"] == ["b", "a"]
    assert (one["ServiceMeta"], one["ServicePort"]) == ({"k": "v"}, 80)
    assert one["TaggedAddresses"]["lan"] == one["Address"]


def check_nodes_and_one_node_with_its_services(place):
    place.register("web-1", "web")
    names = [one["Node"] for one in place.read(f"/v1/catalog/nodes?{WAIT}")[0]]
    assert names == sorted(names)
    own = place.ask("GET", "/v1/agent/self")["Config"]["NodeName"]
    found, index = place.read(f"/v1/catalog/node/{own}?{WAIT}")
    assert found["Node"]["Node"] == own
    assert list(found["Services"]) == ["consul", "web-1"]
    path = f"/v1/catalog/node/{own}?{WAIT}&index={index}"
    found, later = place.woken(path, lambda: place.deregister("web-1"))
    assert later > index
    assert list(found["Services"]) == ["consul"]


def check_what_is_not_there(place):
    assert place.read(f"/v1/health/service/nope?{WAIT}&passing=1")[0] == []
    assert place.read(f"/v1/catalog/service/nope?{WAIT}")[0] == []
    assert place.read(f"/v1/catalog/node/nope?{WAIT}")[0] is None


def check_health_of_a_service_comes_with_its_nodes(place):
    check = {"Name": "disk", "TTL": "10m", "Status": "passing"}
    place.ask("PUT", "/v1/agent/check/register", json.dumps(check).encode())
    place.register("web-1", "web")
    try:
        [one], _ = place.read(f"/v1/health/service/web?{WAIT}")
        names = [check["CheckID"] for check in one["Checks"]]
        assert names == ["disk", "serfHealth", "service:web-1"], names
    finally:
        place.ask("PUT", "/v1/agent/check/deregister/disk")


if __name__ == "__main__":
    main(globals())
