"""python-consul 1.1 and python-consul2 0.1: keys, sessions, transactions, agent, catalog, health."""

from __future__ import annotations

import base64
import threading
import time

import consul
from harness import fails, main

UNKNOWN = "11111111-1111-1111-1111-111111111111"


def client(place):
    return consul.Consul(host=place.host, port=place.port)


def check_missing_key_has_an_index(place):
    index, data = client(place).kv.get("nothing")
    assert data is None
    assert int(index) >= 1, index


def check_put_get_delete(place):
    c = client(place)
    assert c.kv.put("foo", "bar") is True
    index, data = c.kv.get("foo")
    assert data["Value"] == b"bar"
    assert int(index) == data["ModifyIndex"], (index, data)
    assert "Session" not in data
    assert c.kv.delete("foo") is True
    assert c.kv.get("foo")[1] is None


def check_index_stands_still_without_a_change(place):
    c = client(place)
    c.kv.put("foo", "bar")
    index, _ = c.kv.get("foo")
    c.kv.put("other", "x")
    assert c.kv.delete("foo", cas=1) is False
    assert c.kv.get("foo")[0] == index
    assert c.kv.get("foo", index=index, wait="50ms")[0] == index


def check_blocking_read_wakes(place):
    c = client(place)
    c.kv.put("foo", "1")
    index, _ = c.kv.get("foo")
    timer = threading.Timer(0.1, lambda: client(place).kv.put("foo", "2"))
    timer.start()
    later, data = c.kv.get("foo", index=index, wait="10s")
    timer.join()
    assert data["Value"] == b"2"
    assert int(later) > int(index)


def check_blocking_read_of_a_prefix_sees_a_deletion(place):
    c = client(place)
    c.kv.put("dir/a", "1")
    c.kv.put("dir/b", "1")
    index, _ = c.kv.get("dir/", recurse=True)
    timer = threading.Timer(0.1, lambda: client(place).kv.delete("dir/b"))
    timer.start()
    later, data = c.kv.get("dir/", recurse=True, index=index, wait="10s")
    timer.join()
    assert [one["Key"] for one in data] == ["dir/a"]
    assert int(later) > int(index)


def check_keys_with_separator(place):
    c = client(place)
    for key in ("bar", "base/foo", "base/base/foo"):
        c.kv.put(key, "1")
    assert c.kv.get("base/", keys=True, separator="/")[1] == ["base/base/", "base/foo"]


def check_cas_and_flags(place):
    c = client(place)
    assert c.kv.put("foo", "bar", cas=0, flags=50) is True
    assert c.kv.put("foo", "bar", cas=0) is False
    data = c.kv.get("foo")[1]
    assert data["Flags"] == 50
    assert c.kv.put("foo", "baz", cas=data["ModifyIndex"]) is True


def check_recursive_delete(place):
    c = client(place)
    c.kv.put("dir/a", "1")
    c.kv.put("dir/b", "")
    assert [one["Value"] for one in c.kv.get("dir/", recurse=True)[1]] == [b"1", None]
    assert c.kv.delete("dir/", recurse=True) is True
    assert c.kv.get("dir/", recurse=True)[1] is None


def check_session_life(place):
    c = client(place)
    made = c.session.create("mine", behavior="delete", ttl=20)
    assert c.session.info(made)[1]["Name"] == "mine"
    assert [one["ID"] for one in c.session.list()[1]] == [made]
    node = c.session.info(made)[1]["Node"]
    assert [one["ID"] for one in c.session.node(node)[1]] == [made]
    assert c.session.renew(made)["TTL"] == "20s"
    fails(consul.base.ConsulException, c.session.renew, UNKNOWN)
    assert c.session.destroy(made) is True
    assert c.session.list()[1] == []
    assert c.session.info(made)[1] is None


def check_session_of_an_unknown_node(place):
    fails(consul.base.ConsulException, client(place).session.create, node="nobody-has-this-name")


def check_lock(place):
    c = client(place)
    fails(consul.base.ConsulException, c.kv.put, "lock", "x", acquire="nonsense")
    one, two = c.session.create(lock_delay=1), c.session.create(lock_delay=1)
    assert c.kv.put("lock", "1", acquire=one) is True
    assert c.kv.put("lock", "2", acquire=two) is False
    held = c.kv.get("lock")[1]
    assert (held["Session"], held["Value"]) == (one, b"1")
    assert c.kv.put("lock", "1", release=two) is False
    assert c.kv.put("lock", "1", release=one) is True
    assert c.kv.put("lock", "2", acquire=two) is True
    assert c.kv.get("lock")[1]["LockIndex"] == held["LockIndex"] + 1


def check_end_of_a_session_wakes_and_deletes(place):
    c = client(place)
    made = c.session.create(behavior="delete", lock_delay=0)
    assert c.kv.put("lock", "1", acquire=made) is True
    index, _ = c.kv.get("lock")
    timer = threading.Timer(0.1, lambda: client(place).session.destroy(made))
    timer.start()
    later, data = c.kv.get("lock", index=index, wait="10s")
    timer.join()
    assert data is None
    # python-consul2 takes no index from a 404.
    assert later is None or int(later) > int(index)


def check_transaction(place):
    c = client(place)
    value = base64.b64encode(b"1").decode()
    done = c.txn.put([{"KV": {"Verb": "set", "Key": "a", "Value": value}}])
    assert done["Errors"] is None, done
    got = c.txn.put([{"KV": {"Verb": "get", "Key": "a"}}])
    assert got["Results"][0]["KV"]["Value"] == value


def check_events(place):
    c = client(place)
    assert c.event.fire("fooname", "foobody")
    events = c.event.list(name="fooname")[1]
    # python-consul2 gives it as it came.
    assert events[-1]["Payload"] in (b"foobody", base64.b64encode(b"foobody").decode()), events[-1]
    assert c.event.list(name="othername")[1] == []


def check_status_and_self(place):
    c = client(place)
    assert c.status.leader() in c.status.peers()
    said = c.agent.self()
    assert said["Stats"]["consul"]["leader_addr"] == c.status.leader()
    members = c.agent.members()
    assert said["Member"] in members


def check_catalog_nodes(place):
    c = client(place)
    assert c.catalog.datacenters() == ["dc1"]
    name = c.agent.self()["Config"]["NodeName"]
    assert name in [one["Node"] for one in c.catalog.nodes()[1]]
    fails(consul.base.ConsulException, c.catalog.nodes, dc="dc2")


def ids(found):
    """Return the IDs of the instances in an answer of `health.service`, in its order."""
    return [one["Service"]["ID"] for one in found[1]]


def check_service_is_registered_and_found(place):
    c = client(place)
    assert c.agent.services() == {}
    tags = ["b", "a"]
    assert c.agent.service.register("foo", address="10.10.10.1", port=80, tags=tags) is True
    mine = c.agent.services()["foo"]
    assert (mine["Address"], mine["Port"], mine["Tags"]) == ("10.10.10.1", 80, tags)
    # It is in the catalog as soon as it is answered.
    assert ids(c.health.service("foo")) == ["foo"]
    [one] = c.catalog.service("foo")[1]
    assert (one["ServiceAddress"], one["ServicePort"], one["ServiceTags"]) == (
        "10.10.10.1",
        80,
        tags,
    )
    assert c.catalog.services()[1] == {"consul": [], "foo": ["a", "b"]}
    assert c.agent.service.deregister("foo") is True
    assert c.agent.services() == {}
    assert c.catalog.service("foo")[1] == []
    # What is 404 is no error here.
    assert c.agent.service.deregister("foo") is False


def check_service_with_an_odd_name(place):
    c = client(place)
    name = "app#127.0.0.1#3000"
    c.agent.service.register(name)
    assert ids(c.health.service(name)) == [name]
    assert c.agent.service.deregister(name) is True
    assert ids(c.health.service(name)) == []


def check_ttl_check_of_a_service(place):
    c = client(place)
    c.agent.service.register("foo", service_id="foo:1", check=consul.Check.ttl("10s"), tags=["one"])
    c.agent.service.register("foo", service_id="foo:2", check=consul.Check.ttl("1s"))
    assert ids(c.health.service("foo")) == ["foo:1", "foo:2"]
    assert ids(c.health.service("foo", passing=True)) == []
    index, _ = c.health.service("foo")
    for check_id in ("service:foo:1", "service:foo:2"):
        assert c.agent.check.ttl_pass(check_id, "all is well") is True
    assert c.agent.checks()["service:foo:1"]["Output"] == "all is well"
    place.until(
        lambda: ids(c.health.service("foo", passing=True)) == ["foo:1", "foo:2"], "both pass", 1
    )
    begun = time.monotonic()
    place.until(lambda: ids(c.health.service("foo", passing=True)) == ["foo:1"], "one is late")
    assert 0.5 < time.monotonic() - begun < 2, time.monotonic() - begun
    assert int(c.health.service("foo")[0]) > int(index)
    assert ids(c.health.service("foo", tag="one")) == ["foo:1"]
    assert ids(c.health.service("foo", near="_agent")) == ["foo:1", "foo:2"]


def check_words_of_a_check(place):
    c = client(place)
    assert c.agent.check.register("word", consul.Check.ttl("10m"), notes="foo") is True
    assert c.agent.checks()["word"]["Notes"] == "foo"
    for say, status in (
        (c.agent.check.ttl_warn, "warning"),
        (c.agent.check.ttl_fail, "critical"),
        (c.agent.check.ttl_pass, "passing"),
    ):
        assert say("word", notes=f"it is {status}") is True
        shown = c.agent.checks()["word"]
        assert (shown["Status"], shown["Output"]) == (status, f"it is {status}")
    assert c.agent.check.ttl_pass("unknown") is False
    assert c.agent.check.deregister("word") is True
    assert c.agent.checks() == {}
    assert c.agent.check.deregister("word") is False


def check_checks_of_a_service_and_of_none(place):
    c = client(place)
    assert c.agent.check.register("foo", consul.Check.ttl("1m"), service_id="foo1") is False
    assert c.agent.checks() == {}
    c.agent.service.register("foo1")
    for name in ("foo", "foo2"):
        assert c.agent.check.register(name, consul.Check.ttl("1m"), service_id="foo1") is True
    [one] = c.health.service("foo1")[1]
    assert {check["CheckID"] for check in one["Checks"]} == {"foo", "foo2", "serfHealth"}
    assert {check["ServiceID"] for check in one["Checks"]} == {"foo1", ""}
    assert [check["CheckID"] for check in c.health.checks("foo1")[1]] == ["foo", "foo2"]


def check_http_and_tcp_checks(place):
    c = client(place)
    url = f"http://{place.address}/v1/status/leader"
    c.agent.service.register("web", check=consul.Check.http(url, "1s", timeout="2s"))
    # They belong to a service: checks of the node would count for `web`, too.
    c.agent.service.register("other")
    for name, check in (
        ("port", consul.Check.tcp(place.host, place.port, "100ms")),
        ("gone", consul.Check.http("http://127.0.0.1:9/", "1s", deregister="90m")),
    ):
        assert c.agent.check.register(name, check, service_id="other") is True
    place.until(lambda: ids(c.health.service("web", passing=True)) == ["web"], "it is well", 1.5)
    place.until(lambda: c.agent.checks()["port"]["Status"] == "passing", "it connects", 1.5)
    shown = c.agent.checks()
    assert shown["port"]["Interval"] == "1s", shown["port"]
    place.until(lambda: c.agent.checks()["gone"]["Output"], "nobody answers")
    assert c.agent.checks()["gone"]["Status"] == "critical"


def check_script_is_refused_and_not_run(place):
    c = client(place)
    script = consul.Check.script(["sh", "-c", "true"], "10s")
    error = fails(consul.base.BadRequest, c.agent.check.register, "script", script)
    assert "Scripts are disabled on this agent" in str(error), error
    assert c.agent.checks() == {}


def check_maintenance(place):
    c = client(place)
    c.agent.service.register("foo", check=consul.Check.ttl("10m"))
    c.agent.check.ttl_pass("service:foo")
    place.until(lambda: ids(c.health.service("foo", passing=True)) == ["foo"], "it is well", 1)
    assert c.agent.service.maintenance("foo", "true", "because") is True
    assert c.agent.checks()["_service_maintenance:foo"]["Notes"] == "because"
    assert ids(c.health.service("foo", passing=True)) == []
    assert c.agent.service.maintenance("foo", "false") is True
    assert c.agent.maintenance("true", "because") is True
    assert c.agent.checks()["_node_maintenance"]["Status"] == "critical"
    assert ids(c.health.service("foo", passing=True)) == []
    assert c.agent.maintenance("false") is True
    assert set(c.agent.checks()) == {"service:foo"}
    assert ids(c.health.service("foo", passing=True)) == ["foo"]


def check_tag_override_is_kept(place):
    c = client(place)
    c.agent.service.register("foo", tags=["mine"], enable_tag_override=True)
    assert c.agent.services()["foo"]["EnableTagOverride"] is True
    node = c.agent.self()["Config"]["NodeName"]
    [found] = [one for one in c.catalog.nodes()[1] if one["Node"] == node]
    service = {"Service": "foo", "Tags": ["theirs"], "EnableTagOverride": True}
    assert c.catalog.register(node, found["Address"], service=service) is True
    assert c.catalog.service("foo")[1][0]["ServiceTags"] == ["theirs"]
    # The agent gives the tags that it gave before.
    c.agent.service.register("foo", tags=["mine"], enable_tag_override=True)
    assert c.catalog.service("foo")[1][0]["ServiceTags"] == ["theirs"]


def check_catalog_of_external_nodes(place):
    c = client(place)
    before = c.catalog.nodes()[1]
    fails(consul.base.ConsulException, c.catalog.register, "foo", "10.1.10.11", dc="dc2")
    check = {"name": "c1"}
    assert c.catalog.register("x1", "10.1.10.11", service={"service": "s1"}, check=check) is True
    assert c.catalog.register("x1", "10.1.10.11", service={"service": "s2"}) is True
    tagged = {"service": "s1", "tags": ["master"]}
    assert c.catalog.register("x2", "10.1.10.12", service=tagged) is True
    names = [one["Node"] for one in c.catalog.nodes()[1] if one not in before]
    assert names == ["x1", "x2"]
    assert c.catalog.services()[1] == {"consul": [], "s1": ["master"], "s2": []}
    assert set(c.catalog.node("x1")[1]["Services"]) == {"s1", "s2"}
    assert c.catalog.node("x3")[1] is None
    assert [one["Node"] for one in c.catalog.service("s1")[1]] == ["x1", "x2"]
    assert [one["Node"] for one in c.catalog.service("s1", tag="master")[1]] == ["x2"]
    fails(consul.base.ConsulException, c.catalog.deregister, "x2", dc="dc2")
    assert [one["CheckID"] for one in c.health.node("x1")[1]] == ["c1"]
    assert c.catalog.deregister("x1", check_id="c1") is True
    assert c.catalog.deregister("x2", service_id="s1") is True
    assert [one["Node"] for one in c.catalog.service("s1")[1]] == ["x1"]
    assert c.catalog.deregister("x1") is True
    assert c.catalog.deregister("x2") is True
    assert c.catalog.nodes()[1] == before


def check_catalog_is_waited_for(place):
    c = client(place)
    index, _ = c.catalog.services()
    timer = threading.Timer(0.1, lambda: client(place).agent.service.register("foo"))
    timer.start()
    later, names = c.catalog.services(index=index, wait="10s")
    timer.join()
    assert set(names) == {"consul", "foo"}
    assert int(later) > int(index)
    index, _ = c.catalog.service("foo")
    timer = threading.Timer(0.1, lambda: client(place).agent.service.deregister("foo"))
    timer.start()
    later, found = c.catalog.service("foo", index=index, wait="10s")
    timer.join()
    assert found == []
    assert int(later) > int(index)
    assert c.catalog.service("foo", index=later, wait="20ms")[0] == later


def check_health_by_state_and_node(place):
    c = client(place)
    c.agent.service.register("foo", check=consul.Check.ttl("10m"))
    assert [one["ServiceID"] for one in c.health.state("critical")[1]] == ["foo"]
    members = {one["Name"] for one in c.agent.members()}
    assert {one["Node"] for one in c.health.state("passing")[1]} == members
    assert len(c.health.state("any")[1]) == len(members) + 1
    assert c.health.state("unknown")[1] == []
    node = c.agent.self()["Config"]["NodeName"]
    checks = [one["CheckID"] for one in c.health.node(node)[1]]
    assert checks == ["serfHealth", "service:foo"], checks
    meta = {"nobody": "has this"}
    assert c.health.state("any", node_meta=meta)[1] == []
    assert ids(c.health.service("foo", node_meta=meta)) == []
    assert c.health.checks("foo", node_meta=meta)[1] == []


if __name__ == "__main__":
    main(globals())
