"""Stop, kill and leave: what is sent to whom, and that they wait for the end."""

from __future__ import annotations

import httpx
import pytest

from hstore.cli import ending
from hstore.cli.client import Unreachable
from hstore.node.errors import Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


def test_stop_returns_when_nothing_listens_any_more_not_when_the_node_is_only_silent(
    make_finder, cluster, clock, make
):
    cluster.set(A, "/v1/node/stop", {})
    cluster.set(A, "/v1/cluster", [make.info(), httpx.ReadTimeout(""), None])
    ending.stop(A, make_finder())
    assert [method for _, method, _ in cluster.asked] == ["POST", "GET", "GET", "GET"]
    assert clock.now() > 0


def test_a_node_that_goes_on_answering_is_reported_with_the_next_step(make_finder, cluster, make):
    cluster.set(A, "/v1/node/stop", {})
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match=f"is still there after 7 s; `hstore kill -h {A}`"):
        ending.stop(A, make_finder())


def test_stop_of_a_node_that_does_not_answer_is_status_3(make_finder):
    with pytest.raises(Unreachable):
        ending.stop(A, make_finder())


def test_kill_need_not_be_answered(make_finder, cluster):
    cluster.set(A, "/v1/node/kill", httpx.ReadError("reset"))
    ending.kill(A, make_finder())


def test_a_kill_that_did_not_help_does_not_advise_a_kill(make_finder, cluster, make):
    cluster.set(A, "/v1/node/kill", httpx.ReadTimeout(""))
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match="after 7 s; look for the process on port 8500"):
        ending.kill(A, make_finder())


def test_what_is_no_hstore_node_is_not_waited_for_as_if_it_would_stop(make_finder, cluster, clock):
    cluster.strangers.add(A)
    cluster.set(A, "/v1/node/stop", {})
    with pytest.raises(Unreachable, match="not an hstore node"):
        ending.stop(A, make_finder())
    assert clock.now() == 0


def test_leave_is_done_by_the_node_itself(make_finder, cluster):
    cluster.set(A, "/v1/node/leave", {})
    assert "has left" in ending.leave(A, make_finder())
    assert cluster.asked[0] == (A, "POST", "/v1/node/leave")


@pytest.mark.parametrize("host", ["n2", B])
def test_a_node_that_does_not_answer_is_removed_by_another_member(make_finder, cluster, make, host):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(A, "/v1/leader/remove", {})
    assert "removed it for good" in ending.leave(host, make_finder([A]))
    assert cluster.asked[-1] == (A, "POST", "/v1/leader/remove")


def test_a_refused_leave_is_not_tried_through_another(make_finder, cluster, make):
    refused = httpx.Response(409, json={"error": "no live majority would remain"})
    cluster.set(A, "/v1/node/leave", refused)
    cluster.set(B, "/v1/leader/remove", {})
    with pytest.raises(Refused, match="no live majority"):
        ending.leave(A, make_finder([B]))
    assert len(cluster.asked) == 1


def test_leave_of_somebody_unknown_names_the_cluster_that_was_asked(make_finder, cluster, make):
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(Refused, match="no member of cluster 00000000000000c1"):
        ending.leave("127.0.0.1:9999", make_finder([A]))
