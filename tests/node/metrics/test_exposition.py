"""What scrapers get of a node: which series there are, how many bytes, and that nothing is walked over."""

from __future__ import annotations

import json
import os
import re
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hstore.node.cluster.alarms import ALARMS
from hstore.node.driver import key_counting
from hstore.node.errors import HstoreError, NoLeader, OutcomeUnknown, StorageError
from hstore.node.measure.answered import Answered, Tally
from hstore.node.metrics import series
from hstore.node.metrics.figures import open_files
from hstore.node.peers.link import LinkFigures
from hstore.node.state.catalog.index import CatalogIndex, Name
from hstore.node.state.kv import key_count

from ..memory_cluster import running

OF_THE_CONTRACT = [
    "hstore_build_info",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "hstore_start_time_seconds",
    "hstore_raft_term",
    "hstore_raft_commit_index",
    "hstore_raft_applied_index",
    "hstore_raft_last_index",
    "hstore_raft_is_leader",
    "hstore_raft_has_leader",
    "hstore_raft_leader_changes_total",
    "hstore_raft_elections_total",
    "hstore_raft_pre_votes_refused_total",
    "hstore_raft_proposals_total",
    "hstore_raft_pending_proposals",
    "hstore_raft_snapshots_sent_total",
    "hstore_raft_snapshot_seconds",
    "hstore_raft_peer_lag_entries",
    "hstore_raft_peer_last_contact_seconds",
    "hstore_raft_peer_rtt_seconds",
    "hstore_raft_peer_sent_bytes_total",
    "hstore_raft_peer_dropped_total",
    "hstore_raft_commit_seconds",
    "hstore_quorum_margin",
    "hstore_wal_fsync_seconds",
    "hstore_apply_seconds",
    "hstore_disk_free_bytes",
    "hstore_disk_needed_bytes",
    "hstore_rocksdb_sst_bytes",
    "hstore_rocksdb_memtable_bytes",
    "hstore_rocksdb_pending_compaction_bytes",
    "hstore_rocksdb_stall_seconds_total",
    "hstore_rocksdb_block_cache_hits_total",
    "hstore_rocksdb_block_cache_misses_total",
    "hstore_http_requests_total",
    "hstore_http_request_seconds",
    "hstore_http_connections",
    "hstore_blocking_queries",
    "hstore_watches",
    "hstore_http_shed_total",
    "hstore_dns_queries_total",
    "hstore_dns_query_seconds",
    "hstore_dns_truncated_total",
    "hstore_dns_held",
    "hstore_dns_rate_limited_total",
    "hstore_keys",
    "hstore_services",
    "hstore_service_instances",
    "hstore_checks",
    "hstore_check_runs_total",
    "hstore_check_late_seconds",
    "hstore_sessions",
    "hstore_locks_held",
    "hstore_session_expirations_total",
    "hstore_event_loop_lag_seconds",
    "hstore_log_lines_dropped_total",
    "hstore_descriptors",
    "hstore_alarm",
]

HISTOGRAMS = {name for name in OF_THE_CONTRACT if name.endswith("_seconds")} - {
    "hstore_start_time_seconds",
    "hstore_raft_peer_last_contact_seconds",
    "hstore_raft_peer_rtt_seconds",
}


def scrape(node: Any) -> dict[str, float]:
    """The samples of a node, by name and labels as they are written."""
    content_type, body = node.backend.metrics.text("")
    assert content_type.startswith("text/plain; version=0.0.4")
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


async def test_every_series_of_the_contract_is_there_and_has_its_type(autojump_clock):
    async with running(3) as cluster:
        _, body = cluster[1].node.backend.metrics.text("")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body.decode(), re.MULTILINE))
    assert set(OF_THE_CONTRACT) - set(types) == set()
    for name, kind in types.items():
        if name in HISTOGRAMS:
            assert kind == "histogram", name
        else:
            assert kind == ("counter" if name.endswith("_total") else "gauge"), name
    assert b"_created" not in body


async def test_a_scraper_gets_openmetrics_when_it_accepts_that(autojump_clock):
    async with running(1) as cluster:
        content_type, body = cluster[1].node.backend.metrics.text("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert b"_created" not in body


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "text/plain;version=abc",
        "application/openmetrics-text;version=1.x",
        "text/plain;version=" + "9" * 5000,
        "application/openmetrics-text;version=\xa01.0.0",
    ],
)
async def test_a_version_that_is_none_gets_plain_text(autojump_clock, accept):
    async with running(1) as cluster:
        content_type, body = cluster[1].node.backend.metrics.text(accept)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"hstore_build_info" in body


async def test_the_process_is_shown_as_every_client_of_prometheus_shows_it(autojump_clock):
    async with running(1) as cluster:
        node = cluster[1].node
        found = scrape(node)
        _, body = node.backend.metrics.text("")
    theirs = CollectorRegistry()
    ProcessCollector(registry=theirs)
    lines = generate_latest(theirs).decode().splitlines()
    about = {line for line in lines if line.startswith("#")}
    assert about <= set(body.decode().splitlines())
    for name in ("process_max_fds", "process_start_time_seconds"):
        assert found[name] == theirs.get_sample_value(name)
    for name in ("process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"):
        assert found[name] == pytest.approx(theirs.get_sample_value(name), rel=0.5)


async def test_descriptors_are_counted_without_a_list_of_them(autojump_clock, monkeypatch):
    """Of 20,000 a list takes 15 to 50 ms, and keeps everybody waiting for that long."""
    if not open_files():
        pytest.skip("this system does not tell their number, which Linux does since 6.2")
    async with running(1) as cluster:
        monkeypatch.setattr(os, "listdir", _raise)
        found = scrape(cluster[1].node)
    assert found["process_open_fds"] > 0


async def test_each_node_shows_its_own_figures(autojump_clock):
    async with running(3) as cluster:
        await cluster.write(2, "k", "v")
        leader, follower = scrape(cluster[1].node), scrape(cluster[2].node)
    assert (leader["hstore_raft_is_leader"], follower["hstore_raft_is_leader"]) == (1, 0)
    assert leader["hstore_raft_has_leader"] == follower["hstore_raft_has_leader"] == 1
    assert leader['hstore_raft_proposals_total{outcome="committed"}'] > 0
    assert follower['hstore_raft_proposals_total{outcome="forwarded"}'] > 0
    assert leader["hstore_raft_commit_seconds_count"] > 0
    assert follower["hstore_raft_commit_seconds_count"] == 0
    assert leader["hstore_apply_seconds_count"] > 0
    assert leader['hstore_raft_peer_sent_bytes_total{peer="n2"}'] >= 0
    assert leader['hstore_raft_peer_lag_entries{peer="n2"}'] == 0
    assert 'hstore_raft_peer_lag_entries{peer="n1"}' not in follower


async def test_the_keys_of_users_are_counted_exactly_on_every_node(autojump_clock, monkeypatch):
    monkeypatch.setattr(key_count, "AT_ONCE_PAIRS", 3)
    monkeypatch.setattr(key_counting, "_SLICE_PAIRS", 1)
    async with running(3) as cluster:
        for number in range(8):
            await cluster.write(1, f"k{number % 5}", "v")
        nodes = [cluster[n].node for n in (1, 2, 3)]
        await cluster.until(lambda: all(scrape(node)["hstore_keys"] == 5 for node in nodes))
        await cluster[3].stop()
        await cluster.write(1, "k9", "v")
        await cluster[3].start()
        assert "hstore_keys" not in scrape(cluster[3].node)
        await cluster.until(lambda: scrape(cluster[3].node).get("hstore_keys") == 6)
        assert cluster[3].node.figures.totals().keys == 6


async def test_writes_count_by_what_became_of_them(autojump_clock):
    def outcomes(member) -> dict[str, float]:
        named = 'hstore_raft_proposals_total{outcome="'
        found = scrape(member.node)
        return {name[len(named) : -2]: v for name, v in found.items() if name.startswith(named)}

    def more(member, before) -> dict[str, float]:
        return {name: v - before[name] for name, v in outcomes(member).items() if v > before[name]}

    async with running(3) as cluster:
        leader, follower = cluster[1], cluster[2]
        before = outcomes(follower)
        await cluster.write(2, "k", "v")
        assert more(follower, before) == {"forwarded": 1}
        cluster[3].crash()
        before = outcomes(follower)
        cluster.silence(1, of=(2,))  # It is forwarded, and nobody answers.
        with pytest.raises(OutcomeUnknown):
            await cluster.write(2, "k", "v", 1.0)
        assert more(follower, before)["unknown"] == 1
        cluster[2].crash()
        before = outcomes(leader)
        with pytest.raises(HstoreError):
            await cluster.write(1, "k", "v", 0.2)
        assert more(leader, before) == {"unknown": 1}
        await cluster.until(lambda: not leader.is_leader)
        before = outcomes(leader)
        with pytest.raises(NoLeader):
            await cluster.write(1, "k", "v", 1.0)
        # Others are the leader's own, of members that have failed.
        assert more(leader, before)["refused"] >= 1


async def test_pre_votes_that_are_refused_are_counted(autojump_clock):
    refused = "hstore_raft_pre_votes_refused_total"
    async with running(3) as cluster:
        before = scrape(cluster[3].node)
        cluster.silence(2, of=(1,))  # It does not hear the leader, which the third one does.
        await cluster.until(lambda: scrape(cluster[3].node)[refused] > before[refused])
        assert cluster[1].is_leader


async def test_elections_and_leaders_are_counted(autojump_clock):
    async with running(3) as cluster:
        before = scrape(cluster[2].node)
        cluster[1].crash()
        await cluster.until(lambda: cluster[2].is_leader or cluster[3].is_leader)
        await cluster.until(cluster.agrees)
        after = [scrape(cluster[n].node) for n in (2, 3)]
    changes = "hstore_raft_leader_changes_total"
    assert after[0][changes] > before[changes]
    assert sum(found["hstore_raft_elections_total"] for found in after) >= 1


async def test_a_new_leader_tells_no_lag_of_a_peer_that_it_has_not_heard(autojump_clock):
    """It would be the whole log, of a member that may lack one entry."""
    lag = "hstore_raft_peer_lag_entries"
    async with running(3) as cluster:
        await cluster.write(1, "k", "v")
        await cluster.until(lambda: scrape(cluster[1].node)[f'{lag}{{peer="n3"}}'] == 0)
        cluster[1].crash()
        await cluster.until(lambda: cluster[2].is_leader or cluster[3].is_leader)
        await cluster.write(2, "k", "w")
        other = "n2" if cluster[3].is_leader else "n3"
        found = scrape(cluster.leader.node)
        assert found[f'{lag}{{peer="{other}"}}'] <= 1
        assert f'{lag}{{peer="n1"}}' not in found
        await cluster[1].start()
        await cluster.until(lambda: scrape(cluster.leader.node).get(f'{lag}{{peer="n1"}}') == 0)


async def test_every_alarm_is_there_and_holds_while_its_cause_lasts(autojump_clock):
    async with running(3) as cluster:
        node = cluster[1].node

        def alarms() -> dict[str, float]:
            return {
                kind: value
                for name, value in scrape(node).items()
                if (kind := name.removeprefix('hstore_alarm{kind="')[:-2]) in ALARMS
            }

        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == 1)
        assert alarms() == dict.fromkeys(ALARMS, 0)
        node.alarms.sound("term_jump", "somebody")
        assert [kind for kind, value in alarms().items() if value] == ["term_jump"]
        await trio.sleep(61)
        assert sum(alarms().values()) == 0

        await cluster[3].stop()
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == 0)
        assert alarms()["no_quorum_margin"] == 1


async def test_a_node_that_is_left_without_a_majority_shows_a_margin_below_zero(autojump_clock):
    """The leader that said so before cannot say it any more."""
    async with running(3) as cluster:
        node = cluster[3].node
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == 1)
        cluster[1].crash()
        cluster[2].crash()
        await cluster.until(lambda: scrape(node)["hstore_raft_has_leader"] == 0)
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == -1)
        assert scrape(node)['hstore_alarm{kind="no_quorum_margin"}'] == 1
        await cluster[1].start()
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == 0)


async def test_a_leader_that_is_cut_off_shows_a_margin_below_zero_while_it_leads_and_after(
    autojump_clock,
):
    async with running(3) as cluster:
        node = cluster[1].node
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == 1)
        cluster.silence(2, of=(1,))
        cluster.silence(1, of=(2, 3))
        cluster.silence(3, of=(1,))
        await cluster.until(lambda: scrape(node)["hstore_raft_is_leader"] == 0)
        await cluster.until(lambda: scrape(node)["hstore_quorum_margin"] == -1)


async def test_a_cluster_of_one_has_no_margin_and_no_alarm(autojump_clock):
    async with running(1) as cluster:
        found = scrape(cluster[1].node)
    assert found["hstore_quorum_margin"] == 0
    assert found['hstore_alarm{kind="no_quorum_margin"}'] == 0


async def test_a_disk_that_fails_leaves_out_its_figures_and_nothing_else(
    autojump_clock, monkeypatch
):
    async with running(1) as cluster:
        node = cluster[1].node
        before = scrape(node)
        monkeypatch.setattr(node.replica.storage, "figures", _raise)
        after = scrape(node)
    gone = {name for name in before if name not in after}
    assert "hstore_rocksdb_sst_bytes" in gone
    assert all("rocksdb" in name or name in _OF_THE_DISK for name in gone)


_OF_THE_DISK = {"hstore_disk_used_bytes"}


def _raise() -> None:
    raise StorageError("the disk has failed")


async def test_consuls_form(autojump_clock):
    async with running(1) as cluster:
        await cluster.write(1, "k", "v")
        found = json.loads(cluster[1].node.backend.metrics.consul())
    assert list(found) == ["Timestamp", "Gauges", "Points", "Counters", "Samples"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC", found["Timestamp"])
    gauges = {gauge["Name"]: gauge["Value"] for gauge in found["Gauges"]}
    assert gauges["hstore_raft_is_leader"] == 1
    counters = [one for one in found["Counters"] if one["Name"] == "hstore_raft_proposals_total"]
    assert {one["Labels"]["outcome"] for one in counters} >= {"committed", "unknown"}
    commits = next(one for one in found["Samples"] if one["Name"] == "hstore_raft_commit_seconds")
    assert set(commits) == {
        *("Name", "Count", "Rate", "Sum", "Min", "Max", "Mean", "Stddev", "Labels")
    }
    assert commits["Count"] > 0


# --- how much ---------------------------------------------------------------------------------


class Walked(dict[Any, Any]):
    """A table that must not be walked over."""

    def __iter__(self) -> Any:
        raise AssertionError("the whole catalog is walked over")

    def items(self) -> Any:
        return iter(self)

    def values(self) -> Any:
        return iter(self)

    def keys(self) -> Any:
        return iter(self)


class Families(Collector):
    def __init__(self, *families: Any) -> None:
        self.families = families

    def collect(self) -> Any:
        for family in self.families:
            yield from family


def large_catalog() -> CatalogIndex:
    """10,000 services of two instances; node 7 has 100 critical checks, and node 8 one that warns."""
    catalog = CatalogIndex()
    for number in range(1, 101):
        services = {f"s{number}-{n}": None for n in range(200)}
        catalog.services_of[number] = services
        catalog.checks_of[number] = {f"c{service}": service for service in services}
    catalog.checks_of[8]["own"] = ""
    catalog.critical_of[7] = {f"cs7-{n}": None for n in range(100)}
    catalog.warning_of[8] = {"own": None}
    catalog.names = Walked((b"%d" % n, Name(b"%d" % n, str(n), 1)) for n in range(10_000))
    catalog.by_instance = Walked((b"%d" % n, None) for n in range(20_000))
    return catalog


async def test_a_large_cluster_costs_few_bytes_and_no_walk_over_its_services(autojump_clock):
    async with running(1) as cluster:
        node = cluster[1].node
        figures = node.figures
        peers = {n: SimpleNamespace(name=f"member-number-{n}") for n in range(2, 102)}
        now = trio.current_time()
        facts = SimpleNamespace(
            members=peers,
            peers=[*peers],
            lag_of=lambda _peer: 10**9,
            catalog=large_catalog(),
            session_count=10_000,
            lock_count=10_000,
        )
        links = [LinkFigures(peer, True, 10**12, 10**6, 0.012345) for peer in peers]
        of: Any = SimpleNamespace(
            replica=SimpleNamespace(facts=facts, heard=dict.fromkeys(peers, now - 1.234567)),
            links=SimpleNamespace(figures=lambda: links),
            checks=node.checks,
            sessions=node.sessions,
        )
        tallies = [Tally(f"/v1/agent/some/route/{n}/{{key}}", "GET") for n in range(40)]
        for tally in tallies:
            tally.answered(b"HTTP/1.1 200 OK", 1.0, 1.1)
            tally.answered(b"HTTP/1.1 503 No", 1.0, 1.1)
        usual = node.backend.metrics.text("")[1]
        whole = Families(series.peers(of), series.services(of), series.http(Answered(tallies)))
        more = generate_latest(whole)
    assert len(usual) + len(more) < 200_000
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(more.decode())
        for sample in family.samples
    }
    assert found["hstore_services",] == 10_000
    statuses = [found["hstore_service_instances", s] for s in ("passing", "warning", "critical")]
    assert statuses == [19_700, 200, 100]
    assert len([name for name, *_ in found if name.startswith("hstore_raft_peer_")]) == 500
    assert figures.http.requests == 0
