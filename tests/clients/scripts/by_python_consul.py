"""python-consul 1.1 and python-consul2 0.1: keys, blocking reads, sessions, locks, transactions."""

from __future__ import annotations

import base64
import threading

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


if __name__ == "__main__":
    main(globals())
