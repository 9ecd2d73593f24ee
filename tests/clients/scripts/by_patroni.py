"""Patroni 4.1's layer for Consul, driven directly as its loop drives it: two members, no PostgreSQL."""

from __future__ import annotations

import json
import logging
import threading
import time

from harness import main
from patroni.dcs.consul import Consul
from patroni.postgresql.mpp import get_mpp

logging.disable(logging.CRITICAL)

MEMBER = {"conn_url": "postgres://127.0.0.1:5432/postgres", "state": "running", "role": "replica"}


def member(place, name, **more):
    config = {
        "scope": "batman",
        "name": name,
        "host": place.address,
        "ttl": 30,
        "loop_wait": 10,
        "retry_timeout": 10,
        **more,
    }
    dcs = Consul(config, get_mpp({}))
    dcs._set_loop_wait(config["loop_wait"])
    # Since its TTL has changed, its first watch returns at once without asking.
    assert dcs.watch(1, 0) is True
    return dcs


def both(place):
    return member(place, "one"), member(place, "two")


def check_initialize_is_won_once(place):
    one, two = both(place)
    assert one.initialize() is True
    assert two.initialize() is False
    assert one.initialize(create_new=False, sysid="4711") is True
    assert two.get_cluster().initialize == "4711"
    assert one.cancel_initialization() is True
    assert two.get_cluster().initialize is None


def check_members_have_their_sessions(place):
    one, two = both(place)
    assert one.touch_member(MEMBER) is True
    assert two.touch_member(MEMBER) is True
    cluster = one.get_cluster()
    found = {each.name: each.session for each in cluster.members}
    assert found == {"one": one._session, "two": two._session}, found
    # A second touch of the same data writes nothing.
    before = place.ask("GET", "/v1/kv/service/batman/members/one")[0]["ModifyIndex"]
    one.get_cluster()
    assert one.touch_member(MEMBER) is True
    assert place.ask("GET", "/v1/kv/service/batman/members/one")[0]["ModifyIndex"] == before


def check_one_leads(place):
    one, two = both(place)
    assert one.attempt_to_acquire_leader() is True
    assert two.attempt_to_acquire_leader() is False
    cluster = two.get_cluster()
    assert cluster.leader_name == "one"
    assert cluster.leader.session == one._session


def check_the_leader_renews(place):
    one, _ = both(place)
    assert one.attempt_to_acquire_leader() is True
    cluster = one.get_cluster()
    version = cluster.leader.version
    assert one.update_leader(cluster, 12345, {"slot": 1}) is True
    cluster = one.get_cluster()
    assert cluster.status.last_lsn == 12345
    assert cluster.leader.version == version


def check_release_and_take_over(place):
    one, two = both(place)
    assert one.attempt_to_acquire_leader() is True
    assert one.delete_leader(one.get_cluster().leader, 1) is True
    assert two.get_cluster().leader_name is None
    assert two.attempt_to_acquire_leader() is True
    assert one.get_cluster().leader_name == "two"


def check_end_of_a_session_frees_leader_and_member(place):
    one, two = both(place)
    one.touch_member(MEMBER)
    assert one.attempt_to_acquire_leader() is True
    place.ask("PUT", f"/v1/session/destroy/{one._session}")
    cluster = two.get_cluster()
    assert cluster.leader_name is None
    assert [each.name for each in cluster.members] == []
    # Its delay is one millisecond.
    assert two.attempt_to_acquire_leader() is True


def check_a_lost_session_is_made_anew(place):
    one, _ = both(place)
    lost = one._session
    place.ask("PUT", f"/v1/session/destroy/{lost}")
    assert one.attempt_to_acquire_leader() is True
    assert one._session != lost
    # While it holds the key, the next loss is met by `update_leader`.
    place.ask("PUT", f"/v1/session/destroy/{one._session}")
    cluster = one.get_cluster()
    assert cluster.leader_name is None


def check_unknown_session_is_named_so(place):
    one, _ = both(place)
    one._session = "11111111-1111-1111-1111-111111111111"
    one._last_session_refresh = time.time()
    # It meets `invalid session` in a 500, makes a session and tries again.
    assert one.attempt_to_acquire_leader() is True
    assert one._session != "11111111-1111-1111-1111-111111111111"


def check_watch_waits_in_vain(place):
    one, two = both(place)
    assert one.attempt_to_acquire_leader() is True
    leader = two.get_cluster().leader
    one.write_leader_optime(99)
    one.touch_member(MEMBER)
    begun = time.monotonic()
    assert two.watch(leader.version, 1.5) is False
    took = time.monotonic() - begun
    assert 1.5 <= took < 2.5, took


def check_watch_wakes_when_the_leader_goes(place):
    one, two = both(place)
    assert one.attempt_to_acquire_leader() is True
    leader = two.get_cluster().leader
    timer = threading.Timer(0.3, lambda: one.delete_leader(leader))
    timer.start()
    begun = time.monotonic()
    assert two.watch(leader.version, 10) is True
    timer.join()
    assert time.monotonic() - begun < 3


def check_values_with_versions(place):
    one, two = both(place)
    assert one.set_config_value("{}") is True
    version = two.get_cluster().config.modify_version
    assert two.set_config_value('{"ttl":20}', version) is True
    assert one.set_config_value("{}", version) is False
    assert one.manual_failover("one", "two") is True
    cluster = one.get_cluster()
    assert cluster.failover.candidate == "two"
    assert one.manual_failover("", "", version=cluster.failover.version) is True
    assert one.set_history_value(json.dumps([[1, 2, "reason"]])) is True
    assert one.get_cluster().history.lines[0][0] == 1


def check_sync_state(place):
    one, _ = both(place)
    state = one.write_sync_state("one", ["two"], 0, version=0)
    assert state is not None
    assert one.get_cluster().sync.version == state.version
    assert one.write_sync_state("one", [], 0, version=1) is None
    assert one.delete_sync_state(version=1) is False
    assert one.delete_sync_state(version=state.version) is True
    assert one.get_cluster().sync.is_empty


def check_failsafe(place):
    one, _ = both(place)
    one.write_failsafe({"one": "http://127.0.0.1:8008/patroni"})
    assert one.get_cluster().failsafe == {"one": "http://127.0.0.1:8008/patroni"}


def check_a_small_ttl_is_adjusted(place):
    # A TTL of 4 s is below the least: it is refused in words that Patroni knows, and it reads the
    # least one from agent/self.
    found = []
    made = threading.Timer(0, lambda: found.append(member(place, "one", ttl=8)))
    made.start()
    made.join(9)
    assert found, "no session within 9 s"
    assert found[0].ttl == 20, found[0].ttl


def check_its_service_has_the_role_as_tag(place):
    one = member(place, "one", register_service=True)
    data = {
        "conn_url": "postgres://10.9.8.7:5432/postgres",
        "api_url": "http://127.0.0.1:9/patroni",
        "state": "running",
        "role": "replica",
    }

    def tags():
        found, _ = place.read("/v1/health/service/batman")
        services = [each["Service"] for each in found]
        assert {(each["ID"], each["Address"], each["Port"]) for each in services} <= {
            ("batman/one", "10.9.8.7", 5432)
        }, services
        return [each["Tags"] for each in services]

    for state, role, expected in (
        ("running", "replica", [["replica"]]),
        ("running", "primary", [["primary", "master"]]),
        # Nothing is registered while it is neither, and what is there stays.
        ("starting", "replica", [["primary", "master"]]),
        ("running", "replica", [["replica"]]),
        ("stopped", "replica", []),
    ):
        assert one.touch_member({**data, "state": state, "role": role}) is True
        assert tags() == expected, (state, role, tags())
        one.get_cluster()
    # A second time it is not there any more; that is no error.
    assert one.deregister_service("batman/one") is False


def check_delete_cluster(place):
    one, _ = both(place)
    one.touch_member(MEMBER)
    one.set_config_value("{}")
    assert one.delete_cluster() is True
    assert one.get_cluster().members == []


if __name__ == "__main__":
    main(globals())
