"""What Traefik's provider `consulCatalog` asks (pkg/provider/consulcatalog), by its requests.

With `watch` it waits for the names of services, else it asks every 15 s; then, of each service, it reads
`catalog/service` and `health/service` side by side and takes them for lists of the same instances in the
same order: that of the catalog gives addresses and tags, that of health the status.
"""

from __future__ import annotations

from harness import aggregated, main

TAGS = ["traefik.enable=true", "traefik.http.routers.web.rule=Host(`web.example`)"]


def items(place, name, query=""):
    """Make the items of one service, as `fetchService` and `getConsulServicesData` do."""
    instances, _ = place.read(f"/v1/catalog/service/{name}{query}")
    health, _ = place.read(f"/v1/health/service/{name}{query}")
    found = []
    for consul, check in zip(instances, health, strict=True):
        assert consul["ServiceID"] == check["Service"]["ID"], (consul, check)
        assert consul["Node"] == check["Node"]["Node"], (consul, check)
        found.append(
            {
                "id": consul["ServiceID"],
                "datacenter": consul["Datacenter"],
                "address": consul["ServiceAddress"] or consul["Address"],
                "port": str(consul["ServicePort"]),
                "tags": consul["ServiceTags"],
                "status": aggregated(check["Checks"]),
            }
        )
    return found


def check_names_are_waited_for(place):
    names, index = place.read("/v1/catalog/services")
    assert "web" not in names
    path = f"/v1/catalog/services?index={index}&wait=60s"
    names, later = place.woken(path, lambda: place.register("web-1", "web", Tags=TAGS))
    assert later > index
    assert names["web"] == sorted(TAGS)


def check_tags_are_filtered_by_an_expression(place):
    place.register("web-1", "web", Tags=TAGS)
    place.register("db-1", "db", Tags=["primary"])
    names, _ = place.read("/v1/catalog/services?filter=%22primary%22+in+ServiceTags")
    assert names == {"db": ["primary"]}, names


def check_both_lists_are_in_one_order(place):
    for number in range(9, 0, -1):
        place.register(f"web-{number}", "web", Address=f"10.0.0.{number}", Port=80, Tags=TAGS)
    place.say("warn", "service:web-3")
    place.say("fail", "service:web-5")
    found = items(place, "web")
    assert [one["id"] for one in found] == [f"web-{number}" for number in range(1, 10)]
    assert [one["status"] for one in found if one["status"] != "passing"] == ["warning", "critical"]
    assert found[4]["address"] == "10.0.0.5"
    assert found[0]["tags"] == TAGS


def check_a_filter_and_stale_leave_them_in_one_order(place):
    for number in (3, 1, 2):
        place.register(f"web-{number}", "web", Tags=["a"] if number != 2 else ["b"])
    assert [one["id"] for one in items(place, "web", "?tag=a&stale=")] == ["web-1", "web-3"]


def check_what_is_exposed_by_its_tag_only(place):
    place.register("web-1", "web", Tags=TAGS)
    place.register("web-2", "web", Tags=["traefik.enable=false"])
    query = "?cached=&tag=traefik.enable%3Dtrue"
    assert [one["id"] for one in items(place, "web", query)] == ["web-1"]
    assert [one["id"] for one in items(place, "web", "?consistent=")] == ["web-1", "web-2"]


def check_maintenance_is_a_status_of_its_own(place):
    place.register("web-1", "web")
    place.ask("PUT", "/v1/agent/service/maintenance/web-1?enable=true&reason=new+disks")
    assert [one["status"] for one in items(place, "web")] == ["maintenance"]
    place.ask("PUT", "/v1/agent/service/maintenance/web-1?enable=false")
    place.ask("PUT", "/v1/agent/maintenance?enable=true")
    assert [one["status"] for one in items(place, "web")] == ["maintenance"]


def check_a_service_with_an_odd_name(place):
    name = "app#127.0.0.1#3000"
    place.register(name, name)
    [one] = items(place, "app%23127.0.0.1%233000")
    assert one["id"] == name


def check_a_service_that_is_gone(place):
    place.register("web-1", "web")
    place.deregister("web-1")
    assert items(place, "web") == []


def check_it_waits_for_a_status(place):
    place.register("web-1", "web", Tags=TAGS)
    _, index = place.read("/v1/health/state/any")
    path = f"/v1/health/state/any?index={index}&wait=60s"
    fail = "/v1/agent/check/fail/service:web-1"
    found, later = place.woken(path, lambda: place.ask("PUT", fail))
    assert later > index
    assert "critical" in {one["Status"] for one in found if one["ServiceName"] == "web"}


if __name__ == "__main__":
    main(globals())
