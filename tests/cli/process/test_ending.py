"""Stop, kill and leave: what is sent to whom, and that they wait for the end."""

from __future__ import annotations

import signal

import httpx
import pytest

from hstore.cli.client.errors import Unreachable
from hstore.cli.process import ending
from hstore.cli.search.local import NamedNode
from hstore.node.errors import Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


def named(said, finder, record=None, neighbours=()):
    address = record.address if record else finder.address_of(said)
    return NamedNode(said, address, record, neighbours, finder)


def test_stop_returns_when_nothing_listens_any_more_not_when_the_node_is_only_silent(
    make_finder, cluster, clock, make
):
    cluster.set(A, "/v1/node/stop", {})
    cluster.set(A, "/v1/cluster", [make.info(), httpx.ReadTimeout(""), None])
    ending.stop(named(A, make_finder()))
    assert [method for _, method, _ in cluster.asked] == ["POST", "GET", "GET", "GET"]
    assert clock.now() > 0


def test_a_node_that_goes_on_answering_is_reported_with_the_next_step(make_finder, cluster, make):
    cluster.set(A, "/v1/node/stop", {})
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match=f"is still there after 7 s; `hstore kill -h {A}`"):
        ending.stop(named(A, make_finder()))


def test_stop_of_a_node_that_does_not_answer_is_status_3(make_finder):
    with pytest.raises(Unreachable):
        ending.stop(named(A, make_finder()))


def test_kill_need_not_be_answered(make_finder, cluster):
    cluster.set(A, "/v1/node/kill", httpx.ReadError("reset"))
    ending.kill(named(A, make_finder()))


def test_a_kill_that_did_not_help_does_not_advise_a_kill(make_finder, cluster, make):
    cluster.set(A, "/v1/node/kill", httpx.ReadTimeout(""))
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match="after 7 s; look for the process on port 8500"):
        ending.kill(named(A, make_finder()))


def test_what_is_no_hstore_node_is_not_waited_for_as_if_it_would_stop(make_finder, cluster, clock):
    cluster.strangers.add(A)
    cluster.set(A, "/v1/node/stop", {})
    with pytest.raises(Unreachable, match="not an hstore node"):
        ending.stop(named(A, make_finder()))
    assert clock.now() == 0


def test_leave_is_done_by_the_node_itself(make_finder, cluster):
    cluster.set(A, "/v1/node/leave", {})
    assert "has left" in ending.leave(named(A, make_finder()))
    assert cluster.asked[0] == (A, "POST", "/v1/node/leave")


@pytest.mark.parametrize("host", ["n2", B])
def test_a_node_that_does_not_answer_is_removed_by_another_member(make_finder, cluster, make, host):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(A, "/v1/leader/remove", {})
    assert "removed it for good" in ending.leave(named(host, make_finder([A])))
    assert cluster.asked[-1] == (A, "POST", "/v1/leader/remove")


def test_a_refused_leave_is_not_tried_through_another(make_finder, cluster, make):
    refused = httpx.Response(409, json={"error": "no live majority would remain"})
    cluster.set(A, "/v1/node/leave", refused)
    cluster.set(B, "/v1/leader/remove", {})
    with pytest.raises(Refused, match="no live majority"):
        ending.leave(named(A, make_finder([B])))
    assert len(cluster.asked) == 1


def test_leave_of_somebody_unknown_names_the_cluster_that_was_asked(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match="no member of cluster 00000000000000c1"):
        ending.leave(named("127.0.0.1:9999", make_finder([A])))


# -- on this machine --------------------------------------------------------------------------


def test_kill_ends_a_node_that_hangs_without_asking_it(make_finder, cluster, make, sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    said = ending.kill(named(A, make_finder(), make.record(pid=sleeper.pid)))
    assert said == f"n1 at {A} was killed; `hstore restart -h {A}` starts it again"
    assert sleeper.wait(30) == -signal.SIGKILL
    assert cluster.asked == []


def test_kill_of_an_address_asks_who_is_there_when_the_recorded_process_has_ended(
    make_finder, cluster, make
):
    cluster.set(A, "/v1/node/kill", {})
    ending.kill(named(A, make_finder(), make.record()))
    assert cluster.asked[0] == (A, "POST", "/v1/node/kill")


@pytest.mark.parametrize(
    ("end", "ended"), [(ending.stop, "has stopped"), (ending.kill, "was killed")]
)
def test_a_restart_is_advised_only_where_this_machine_can_start_the_node_again(
    make_finder, cluster, make, end, ended
):
    for path in ("/v1/node/stop", "/v1/node/kill"):
        cluster.set(A, path, {})
    assert end(named(A, make_finder())) == f"the node at {A} {ended}"
    # A record of another node that once ran at this address does not help, nor give it its name.
    assert end(named(A, make_finder(), make.record())) == f"the node at {A} {ended}"


def test_who_stops_as_a_voter_elsewhere_is_not_told_to_restart_it_here(make_finder, cluster):
    cluster.set(A, "/v1/node/stop", {"still_voter": "no majority"})
    with pytest.raises(Refused, match=r"no majority\nstart it again$"):
        ending.stop(named(A, make_finder()))


def test_who_stops_as_a_voter_here_is_told_the_command_that_starts_it_again(
    make_finder, cluster, make, sleeper, clock
):
    cluster.set(A, "/v1/node/stop", {"still_voter": "no majority"})
    real = clock.sleep

    def sleep(seconds):
        real(seconds)
        sleeper.kill()
        sleeper.wait()

    clock.sleep = sleep
    with pytest.raises(Refused, match=f"(?s)n1 at {A} .*: `hstore restart -h {A}`$") as caught:
        ending.stop(named(A, make_finder(), make.record(pid=sleeper.pid)))
    assert "hstore leave" not in str(caught.value), "it could not: there is no majority"


@pytest.mark.parametrize("end", [ending.stop, ending.kill])
def test_a_node_that_ended_is_not_taken_for_another_that_has_its_address_now(
    make_finder, cluster, make, end
):
    for path in ("/v1/node/stop", "/v1/node/kill"):
        cluster.set(A, path, {})
    with pytest.raises(Unreachable, match=r"n1 at .* does not run; `hstore restart -h n1`"):
        end(named("n1", make_finder(), make.record()))
    assert cluster.asked == []


def test_stop_of_a_node_that_hangs_says_how_it_is_ended(make_finder, cluster, make, sleeper):
    cluster.set(A, "/v1/node/stop", httpx.ReadTimeout(""))
    with pytest.raises(Unreachable, match=f"its process runs; `hstore kill -h {A}`"):
        ending.stop(named(A, make_finder(), make.record(pid=sleeper.pid)))


def test_stop_waits_for_the_end_of_the_process_too(make_finder, cluster, make, sleeper, clock):
    cluster.set(A, "/v1/node/stop", {})
    real = clock.sleep

    def sleep(seconds):
        real(seconds)
        if clock.now() > 1:
            sleeper.kill()
            sleeper.wait()

    clock.sleep = sleep
    said = ending.stop(named(A, make_finder(), make.record(pid=sleeper.pid)))
    assert said == f"n1 at {A} has stopped; `hstore restart -h {A}` starts it again"
    assert sleeper.poll() is not None


def test_a_dead_node_is_removed_by_a_neighbour_at_ports_that_no_search_tries(
    make_finder, cluster, make
):
    cluster.set(B, "/v1/cluster", make.info())
    cluster.set(B, "/v1/leader/remove", {})
    said = ending.leave(named(A, make_finder(), make.record(), neighbours=(C, B)))
    assert f"{B} removed it for good" in said


def test_a_dead_node_is_removed_by_its_id_where_another_has_its_name(make_finder, cluster, make):
    cluster.set(B, "/v1/cluster", make.info())
    cluster.set(B, "/v1/leader/remove", {})
    gone = make.record(node_id=f"{99:016x}")
    with pytest.raises(Unreachable):
        ending.leave(named("n1", make_finder(), gone, neighbours=(B,)))
    assert (B, "POST", "/v1/leader/remove") not in cluster.asked
