"""consulate 0.6: keys as a dictionary, sessions, locks, events, status.

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


if __name__ == "__main__":
    main(globals())
