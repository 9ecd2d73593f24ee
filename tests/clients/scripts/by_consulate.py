"""consulate 0.6: keys as a dictionary, sessions, locks, events, status, agent, catalog, health.

It deregisters by GET, which Consul takes no more since 1.0: what it registers is removed by us.

It reads JSON by `json.loads(text, encoding=...)`, which Python 3.9 removed, takes the error for text
that is no JSON, and gives the text. The argument is dropped here on its way.
"""

from __future__ import annotations

import json

import consulate
from harness import fails, main

_loads = json.loads


def _loads_as_before(text, encoding=None, **named):
    return _loads(text, **named)


setattr(json, "loads", _loads_as_before)  # noqa: B010 - another type than it had


def client(place):
    return consulate.Consul(place.host, place.port)


def check_dictionary(place):
    kv = client(place).kv
    kv["foo"] = "bar"
    assert kv["foo"] == "bar"
    assert "foo" in kv
    assert "other" not in kv
    del kv["foo"]
    assert "foo" not in kv
    fails(KeyError, lambda: kv["foo"])


def check_set_reads_and_then_writes_with_cas(place):
    kv = client(place).kv
    kv["foo"] = "1"
    kv["foo"] = "2"
    assert kv["foo"] == "2"
    assert kv.get_record("foo")["Key"] == "foo"


def check_find_with_recurse_none(place):
    kv = client(place).kv
    kv["dir/a"] = "1"
    kv["dir/b"] = "2"
    assert kv.find("dir/") == {"dir/a": "1", "dir/b": "2"}


def check_iteration(place):
    kv = client(place).kv
    kv["a"] = "1"
    kv["b"] = "2"
    assert sorted(kv) == ["a", "b"]
    assert sorted(kv.items(), key=str) == [{"a": "1"}, {"b": "2"}]
    assert len(kv) == 2


def check_recursive_delete(place):
    kv = client(place).kv
    kv["dir/a"] = "1"
    kv["dir/b"] = "2"
    assert kv.delete("dir/", recurse=True)
    assert list(kv.find("dir/")) == []


def check_session_life(place):
    session = client(place).session
    made = session.create("mine", ttl="20s", delay="1s")
    # A list of one is given as its element.
    info = session.info(made)
    assert info["Name"] == "mine", info
    assert session.list()["ID"] == made
    assert session.node(info["Node"])["ID"] == made
    assert session.renew(made)["ID"] == made
    assert session.destroy(made) is True
    assert session.list() == []


def check_lock(place):
    c = client(place)
    one, two = c.session.create(delay="1s"), c.session.create(delay="1s")
    assert c.kv.acquire_lock("lock", one) is True
    assert c.kv.acquire_lock("lock", two) is False
    assert c.kv.release_lock("lock", two) is False
    assert c.kv.release_lock("lock", one) is True
    assert c.kv.acquire_lock("lock", two) is True


def check_events(place):
    c = client(place)
    made = c.event.fire("fooname", "foobody")
    assert made
    found = c.event.list("fooname")
    found = found[-1] if isinstance(found, list) else found
    assert found["ID"] == made


def check_status(place):
    c = client(place)
    assert c.status.leader() in c.status.peers()


def check_service_is_registered_and_found(place):
    c = client(place)
    assert c.agent.service.register("web", "web-1", "10.0.0.1", 80, ["b", "a"], ttl="10m") is True
    [services] = c.agent.services()
    assert services["web-1"]["Tags"] == ["b", "a"]
    [one] = c.catalog.service("web")
    assert (one["ServiceID"], one["ServiceAddress"]) == ("web-1", "10.0.0.1")
    assert c.catalog.services() == [{"consul": [], "web": ["a", "b"]}]
    [one] = c.health.service("web")
    assert one["Service"]["Port"] == 80
    # An empty `passing` is a yes.
    assert c.health.service("web", passing=True) == []
    place.say("pass", "service:web-1")
    assert len(c.health.service("web", tag="a", passing=True)) == 1


def check_check_with_all_members_null(place):
    # What it is not given it sends as null.
    c = client(place)
    assert c.agent.check.register("disk", ttl="10m") is True
    [checks] = c.agent.checks()
    assert (checks["disk"]["Status"], checks["disk"]["Type"]) == ("critical", "ttl")
    assert [one["CheckID"] for one in c.health.state("critical")] == ["disk"]


def check_http_check(place):
    url = f"http://{place.address}/v1/status/leader"
    c = client(place)
    assert c.agent.service.register("web", httpcheck=url, interval="1s") is True
    place.until(lambda: c.health.service("web", passing=True), "it is well", 1.5)
    [check] = c.health.checks("web")
    assert check["CheckID"] == "service:web"


def check_what_it_says_by_get_is_refused_and_changes_nothing(place):
    c = client(place)
    c.agent.service.register("web", ttl="10m")
    assert c.agent.check.ttl_pass("service:web") is False
    assert c.agent.check.deregister("service:web") is False
    assert c.agent.service.deregister("web") is False
    [checks] = c.agent.checks()
    assert checks["service:web"]["Status"] == "critical"


def check_nodes_and_members(place):
    c = client(place)
    assert c.catalog.datacenters() in ("dc1", ["dc1"])
    names = [one["Node"] for one in c.catalog.nodes()]
    assert names == sorted(one["Name"] for one in c.agent.members())
    node = c.catalog.node(names[0])
    assert node["Node"]["Node"] == names[0]
    assert list(node["Services"]) == ["consul"]
    [check] = c.health.node(names[0])
    assert check["CheckID"] == "serfHealth"


if __name__ == "__main__":
    main(globals())
