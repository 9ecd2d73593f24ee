"""What Consul's own Go client sends (api/*.go), which is in most software that speaks with Consul.

Its locks and semaphores as in api/lock.go and api/semaphore.go; registrations as its structs become
JSON: members that nobody has set are sent all the same, as null, "", 0 or "0s".
"""

from __future__ import annotations

import base64
import json
import urllib.error

from harness import fails, main

LOCK_FLAGS = 0x2DDCCBC058A50C18
SEMAPHORE_FLAGS = 0xE0F69A2BAA414DE0
LIMIT = 2


def put(place, path, body=None):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return place.ask("PUT", path, data)


def session(place, **more):
    made = put(place, "/v1/session/create", {"Name": "Consul API Lock", "TTL": "15s", **more})
    return made["ID"]


def pair(place, key, query=""):
    """Read one key as `KV.Get`; return it, None where there is none, and the index."""
    try:
        [found], index = place.read(f"/v1/kv/{key}{query}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None, int(error.headers["X-Consul-Index"])
    return found, index


def check_a_lock_is_taken_waited_for_and_handed_over(place):
    one, two = session(place), session(place)
    acquire = f"/v1/kv/go-lock?flags={LOCK_FLAGS}&acquire="
    assert pair(place, "go-lock", "?wait=15000ms")[0] is None
    assert put(place, acquire + one, b"one") is True
    held, index = pair(place, "go-lock", "?wait=15000ms")
    assert (held["Flags"], held["Session"]) == (LOCK_FLAGS, one)
    # The other waits with its index until nobody holds it.
    assert put(place, acquire + two, b"two") is False
    path = f"/v1/kv/go-lock?index={index}&wait=15000ms"
    release = f"/v1/kv/go-lock?flags={LOCK_FLAGS}&release={one}"
    [free], _ = place.woken(path, lambda: put(place, release, b"one"))
    assert "Session" not in free, free
    assert put(place, acquire + two, b"two") is True
    # The holder looks on with consistent reads, and learns that it has lost it.
    _, index = pair(place, "go-lock", "?consistent=")
    path = f"/v1/kv/go-lock?consistent=&index={index}"
    [lost], _ = place.woken(path, lambda: put(place, f"/v1/session/destroy/{two}"))
    assert "Session" not in lost, lost
    # Its delay is 15 s.
    assert put(place, acquire + one, b"one") is False


def check_a_lock_is_destroyed_by_its_index(place):
    one = session(place, LockDelay="1ms")
    put(place, f"/v1/kv/another?flags={LOCK_FLAGS}&acquire={one}", b"")
    held, _ = pair(place, "another")
    put(place, f"/v1/kv/another?flags={LOCK_FLAGS}&release={one}", b"")
    assert place.ask("DELETE", f"/v1/kv/another?cas={held['ModifyIndex']}") is False
    free, _ = pair(place, "another")
    assert place.ask("DELETE", f"/v1/kv/another?cas={free['ModifyIndex']}") is True


def check_a_session_is_renewed_until_it_is_gone(place):
    one = session(place)
    [found] = put(place, f"/v1/session/renew/{one}")
    assert (found["ID"], found["TTL"]) == (one, "15s")
    put(place, f"/v1/session/destroy/{one}")
    assert fails(urllib.error.HTTPError, put, place, f"/v1/session/renew/{one}").code == 404


def contend(place, made, query=""):
    """One round of `Semaphore.Acquire`: read the prefix, forget the dead, and take a place if there is one."""
    pairs, index = place.read(f"/v1/kv/sem?recurse=&wait=15000ms{query}")
    by_key = {one["Key"]: one for one in pairs}
    lock = by_key.get("sem/.lock")
    state = json.loads(base64.b64decode(lock["Value"]) if lock else b'{"Holders": {}}')
    alive = {one["Session"] for one in pairs if one.get("Session")}
    holders = {one: True for one in state["Holders"] if one in alive}
    if len(holders) >= LIMIT:
        return False, index
    text = json.dumps({"Limit": LIMIT, "Holders": {**holders, made: True}}).encode()
    version = lock["ModifyIndex"] if lock else 0
    return put(place, f"/v1/kv/sem/.lock?cas={version}&flags={SEMAPHORE_FLAGS}", text), index


def check_a_semaphore_has_places_for_so_many(place):
    sessions = [session(place, Behavior="delete") for _ in range(3)]
    for made in sessions:
        path = f"/v1/kv/sem/{made}?flags={SEMAPHORE_FLAGS}&acquire={made}"
        assert put(place, path, b"") is True
    first, second, third = sessions
    assert contend(place, first)[0] is True
    assert contend(place, second)[0] is True
    is_in, index = contend(place, third)
    assert is_in is False
    # The end of a session deletes its key, which ends the wait.
    path = f"/v1/kv/sem?recurse=&index={index}&wait=15000ms"
    place.woken(path, lambda: put(place, f"/v1/session/destroy/{first}"))
    assert contend(place, third)[0] is True


def check_a_registration_with_what_nobody_has_set(place):
    # `Check` and `Checks` are always sent.
    body = {"ID": "web-1", "Name": "web", "Port": 80, "Check": None, "Checks": None}
    put(place, "/v1/agent/service/register", body)
    check = {"TTL": "10m", "DeregisterCriticalServiceAfter": "90m"}
    body = {"Name": "api", "Tags": ["a"], "Weights": {"Passing": 3, "Warning": 1}, "Check": check}
    put(place, "/v1/agent/service/register?replace-existing-checks=true", {**body, "Checks": None})
    services = place.ask("GET", "/v1/agent/services")
    assert set(services) == {"web-1", "api"}
    assert services["api"]["Weights"] == {"Passing": 3, "Warning": 1}


def check_update_of_a_ttl_check(place):
    put(place, "/v1/agent/check/register", {"ID": "disk", "Name": "disk", "TTL": "10m"})
    update = {"Status": "passing", "Output": "all is well"}
    put(place, "/v1/agent/check/update/disk", update)
    shown = place.ask("GET", "/v1/agent/checks")["disk"]
    assert (shown["Status"], shown["Output"]) == ("passing", "all is well")
    fails(urllib.error.HTTPError, put, place, "/v1/agent/check/update/disk", {"Status": "fine"})


ZERO_DEFINITION = {
    **dict.fromkeys(("Interval", "Timeout", "DeregisterCriticalServiceAfter"), "0s"),
    **dict.fromkeys(("HTTP", "Method", "Body", "TLSServerName", "TCP", "UDP", "GRPC"), ""),
    "Header": None,
    "OSService": "",
    "TLSSkipVerify": False,
    "TCPUseTLS": False,
    "GRPCUseTLS": False,
}


def registered(**more):
    """Return a `CatalogRegistration` with a service of which only what is needed is set."""
    service = {
        "ID": "web-x",
        "Service": "web",
        "Tags": None,
        "Meta": None,
        "Port": 80,
        "Address": "",
        "Weights": {"Passing": 0, "Warning": 0},
        "EnableTagOverride": False,
    }
    check = {
        "Node": "x1",
        "CheckID": "alive",
        "Name": "alive",
        "Status": "passing",
        "Notes": "",
        "Output": "",
        "ServiceID": "web-x",
        "ServiceName": "",
        "Type": "",
        "ExposedPort": 0,
        "Definition": ZERO_DEFINITION,
    }
    head = {
        "ID": "",
        "Node": "x1",
        "Address": "10.1.10.11",
        "TaggedAddresses": None,
        "NodeMeta": None,
        "Datacenter": "",
        "SkipNodeUpdate": False,
    }
    return {**head, "Service": service, "Check": check, "Checks": None, **more}


def check_the_catalog_is_told_with_what_nobody_has_set(place):
    assert put(place, "/v1/catalog/register", registered()) is True
    [one], _ = place.read("/v1/health/service/web?passing=1")
    # Nobody asks for weights of 0.
    assert one["Service"]["Weights"] == {"Passing": 1, "Warning": 1}, one["Service"]
    [check] = one["Checks"]
    assert check["Definition"] == {}, check
    gone = {"Node": "x1", "Datacenter": "", "ServiceID": "web-x", "CheckID": ""}
    assert put(place, "/v1/catalog/deregister", gone) is True
    assert place.read("/v1/health/service/web")[0] == []


def check_the_catalog_takes_back_what_it_has_shown(place):
    # As consul-esm and mirrors do: what was read is written, with all that the server adds.
    definition = {**ZERO_DEFINITION, "TCP": "10.1.10.11:80", "Interval": "10s", "Timeout": "1s"}
    first = registered()
    first["Check"]["Definition"] = definition
    put(place, "/v1/catalog/register", first)
    [one], index = place.read("/v1/health/service/web")
    again = registered(Service=one["Service"], Check=None, Checks=one["Checks"])
    assert put(place, "/v1/catalog/register", again) is True
    [same], later = place.read("/v1/health/service/web")
    assert (same, later) == (one, index)


if __name__ == "__main__":
    main(globals())
