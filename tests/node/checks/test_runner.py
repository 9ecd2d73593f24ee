"""What runs on a node, and when, as the log has it; in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from hstore.node.checks import runs as module
from hstore.node.checks.verdict import Verdict
from hstore.node.model.checks import CheckDefinition, Word
from tests.node.checks.one_node import FAR, OWN, OneNode, http, running_checks, ttl


async def hang() -> Verdict:
    await trio.sleep_forever()
    raise AssertionError


def slow(seconds: float, status="passing"):
    async def say() -> Verdict:
        await trio.sleep(seconds)
        return Verdict(status, "slow")

    return say


# --- runs ---------------------------------------------------------------------------------------


async def test_the_first_run_is_at_once_and_the_others_an_interval_apart(autojump_clock):
    async with running_checks() as node:
        start = trio.current_time()
        node.register("web", http(10))
        await trio.sleep(35)
        assert node.began("web")[0] - start < 0.1
        assert node.began("web") == pytest.approx(
            [start, start + 10, start + 20, start + 30], abs=0.06
        )
        assert node.status("web") == "passing"


async def test_what_was_registered_before_the_start_runs_at_once_too_where_it_is_little(
    autojump_clock,
):
    node = OneNode()
    for number in range(20):
        node.register(f"c{number}", http(10))
    async with running_checks(node):
        start = trio.current_time()
        await trio.sleep(0.1)
        assert len(node.runs) == 20
        assert all(run.began - start < 0.1 for run in node.runs)


async def test_with_more_than_twenty_at_a_start_the_first_runs_are_spread_over_the_interval(
    autojump_clock,
):
    node = OneNode()
    for number in range(100):
        node.register(f"c{number:03}", http(10))
    async with running_checks(node):
        start = trio.current_time()
        await trio.sleep(9.99)
        began = [run.began - start for run in node.runs]
        assert began == pytest.approx([number / 10 for number in range(100)], abs=0.06)
        await trio.sleep(10)
        assert len(node.runs) == 200
        node.register("later", http(10))
        now = trio.current_time()
        await trio.sleep(0.1)
        assert node.began("later") == pytest.approx([now], abs=0.1)


async def test_a_run_ends_before_the_next_begins_and_missed_ones_are_left_out(autojump_clock):
    node = OneNode()
    node.targets["web"] = slow(25)
    async with running_checks(node):
        start = trio.current_time()
        node.register("web", http(10, timeout_ns=60 * 10**9))
        await trio.sleep(100)
        began = [at - start for at in node.began("web")]
        assert began == pytest.approx([0, 30, 60, 90], abs=0.06)
        for one, following in pairwise(node.runs):
            assert one.ended is not None
            assert one.ended <= following.began


async def test_a_check_that_becomes_due_while_the_node_ends_does_no_harm(autojump_clock):
    # Trio draws the order of tasks: the nursery of the runs may be closed by the time of that check.
    for _ in range(50):
        async with running_checks() as node:
            node.register("web", http(10))


async def test_a_probe_that_never_ends_is_given_up_and_is_critical(autojump_clock):
    node = OneNode()
    node.targets["web"] = hang
    async with running_checks(node):
        node.register("web", http(10, timeout_ns=10**9), status="passing")
        await trio.sleep(5)
        assert node.status("web") == "critical"
        assert node.runs[0].ended is not None


async def test_a_probe_that_raises_fails_its_check_and_nothing_else(autojump_clock):
    async def broken() -> Verdict:
        raise RuntimeError("a mistake in a probe")

    node = OneNode()
    node.targets["web"] = broken
    async with running_checks(node):
        node.register("web", http(10), status="passing")
        node.register("db", http(10))
        await trio.sleep(1)
        assert node.newest("web") == ("critical", "the check could not be run: RuntimeError")
        assert node.status("db") == "passing"


async def test_no_more_runs_are_under_way_than_may_be_and_late_ones_are_counted(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(module, "RUNS_MAX", 10)
    node = OneNode()
    for number in range(20):
        node.targets[f"c{number}"] = slow(3)
        node.register(f"c{number}", http(30))
    most = 0
    async with running_checks(node):
        for _ in range(100):
            await trio.sleep(0.1)
            most = max(most, sum(run.ended is None for run in node.runs))
        assert most == 10
        assert len(node.runs) == 20, "the others began when the first had ended"
        assert node.runner.late_total == 10


async def test_scripts_have_room_of_their_own(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "SCRIPTS_MAX", 2)
    node = OneNode()
    node.targets[""] = slow(3)
    for number in range(6):
        script = CheckDefinition(kind="script", args=("x",), interval_ns=30 * 10**9)
        node.register(f"s{number}", script)
    most = 0
    async with running_checks(node):
        node.register("web", http(1))
        for _ in range(100):
            await trio.sleep(0.1)
            most = max(most, sum(run.ended is None for run in node.runs if not run.url))
        assert most == 2
        assert len(node.began("")) == 6
        assert len(node.began("web")) == 10
        assert node.runner.late_total == 4


async def test_five_thousand_checks_run_on_time_and_the_loop_is_not_held(autojump_clock):
    node = OneNode()
    for number in range(5000):
        node.register(f"c{number}", http(10))
    async with running_checks(node):
        start = trio.current_time()
        await trio.sleep(20.1)
        began: dict[str, list[float]] = {}
        for run in node.runs:
            began.setdefault(run.url, []).append(run.began - start)
        assert len(began) == 5000
        for times in began.values():
            assert times[0] <= 10.06
            assert all(9.9 < b - a < 10.1 for a, b in pairwise(times))
        assert node.runner.late_total == 0


# --- following the log ----------------------------------------------------------------------------


async def test_a_check_that_goes_is_stopped_and_its_run_with_it(autojump_clock):
    node = OneNode()
    node.targets["web"] = hang
    async with running_checks(node):
        node.register("web", http(10))
        await trio.sleep(1)
        node.deregister("web")
        await trio.sleep(0.01)
        assert node.runs[0].ended is not None
        await trio.sleep(60)
        assert len(node.runs) == 1
        assert len(node.runner) == 0
        assert node.proposals == []


async def test_a_new_definition_runs_at_once_after_the_run_by_the_old_one_has_ended(autojump_clock):
    ended: list[float] = []

    async def ends_slowly() -> Verdict:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(2, shield=True):
                await trio.sleep(1.5)
            ended.append(trio.current_time())
        raise AssertionError

    node = OneNode()
    node.targets["old"] = ends_slowly
    async with running_checks(node):
        node.register("web", http(10, "old"))
        await trio.sleep(1)
        node.register("web", http(10, "new"))
        await trio.sleep(5)
        assert node.began("new")[0] >= ended[0]
        assert node.began("new")[0] == pytest.approx(ended[0], abs=0.1)
        assert node.newest("web") == ("passing", "it is passing")


async def test_a_result_that_was_found_by_an_old_definition_does_not_count(autojump_clock):
    node = OneNode()
    node.targets["old"] = slow(2, "critical")
    node.targets["new"] = slow(3)
    async with running_checks(node):
        node.register("web", http(10, "old"), status="passing")
        await trio.sleep(1)
        node.register("web", http(10, "new"))
        await trio.sleep(1.5)
        assert node.newest("web")[0] == "passing"
        assert node.proposals == []


async def test_registering_the_same_again_changes_no_run(autojump_clock):
    async with running_checks() as node:
        start = trio.current_time()
        node.register("web", http(10))
        await trio.sleep(5)
        node.register("web", http(10))
        await trio.sleep(6)
        assert node.began("web") == pytest.approx([start, start + 10], abs=0.06)


async def test_a_status_that_a_registration_gives_is_taken_over(autojump_clock):
    node = OneNode()
    node.targets["web"] = "critical"
    async with running_checks(node):
        node.register("web", http(10, failures_critical=3))
        await trio.sleep(1)
        node.register("web", http(10, failures_critical=3), status="passing")
        assert node.newest("web")[0] == "passing"
        await trio.sleep(12)
        assert node.newest("web")[0] == "passing", "two failures in a row, of three"
        await trio.sleep(10)
        assert node.status("web") == "critical"


async def test_after_a_restart_thresholds_count_on_from_the_status_in_the_log(autojump_clock):
    node = OneNode()
    async with running_checks(node):
        node.register("web", http(10, failures_critical=3))
        await trio.sleep(1)
    assert node.status("web") == "passing"
    again = OneNode()
    again.records = node.records
    again.targets["web"] = "critical"
    async with running_checks(again):
        await trio.sleep(15)
        assert again.newest("web")[0] == "passing"
        await trio.sleep(10)
        assert again.status("web") == "critical"


async def test_a_snapshot_is_followed_and_what_stays_goes_on(autojump_clock):
    node = OneNode()
    node.targets["stays"] = slow(5)
    async with running_checks(node):
        start = trio.current_time()
        for name in ("stays", "goes", "changes"):
            node.register(name, http(10))
        await trio.sleep(1)
        del node.records[OWN, "goes"]
        node.register("changes", http(10, "changed"), wakes=False)
        node.register("comes", http(10), wakes=False)
        node.snapshot()
        await trio.sleep(1)
        assert {url: len(node.began(url)) for url in ("stays", "goes", "comes", "changed")} == {
            "stays": 1,
            "goes": 1,
            "comes": 1,
            "changed": 1,
        }
        await trio.sleep(9)
        assert node.began("stays") == pytest.approx([start, start + 10], abs=0.06)
        assert len(node.began("goes")) == 1


@pytest.mark.parametrize(
    "definition",
    [
        CheckDefinition(),
        CheckDefinition(kind="maintenance"),
        CheckDefinition(kind="http", http="x"),
        CheckDefinition(kind="ttl"),
    ],
)
async def test_what_nobody_runs_is_left_alone(autojump_clock, definition):
    node = OneNode()
    async with running_checks(node):
        node.register("x", definition)
        await trio.sleep(100)
        assert (len(node.runner), node.runs, node.proposals) == (0, [], [])


async def test_checks_of_other_members_do_not_run_here(autojump_clock):
    async with running_checks() as node:
        node.register("web", http(10), node=2)
        node.register("ttl", ttl(10), node=2)
        await trio.sleep(30)
        assert (len(node.runner), node.runs) == (0, [])
        assert node.runner.word(2, "ttl", "passing", "") is Word.UNKNOWN


async def test_a_member_that_learns_its_number_late_runs_its_checks_then(autojump_clock):
    node = OneNode()
    node.own_number = 0
    node.register("web", http(10))
    async with running_checks(node):
        await trio.sleep(1)
        assert node.runs == []
        node.own_number = OWN
        await trio.sleep(1)
        assert len(node.runs) == 1


# --- external nodes ---------------------------------------------------------------------------------


async def test_checks_of_an_external_node_are_run_by_its_owner(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR)
        node.register("web", http(10), node=FAR)
        await trio.sleep(1)
        assert node.runs == []
        node.assign(FAR, OWN)
        await trio.sleep(1)
        assert node.status("web", FAR) == "passing"
        node.assign(FAR, 2)
        await trio.sleep(30)
        assert len(node.runs) == 1
        assert len(node.runner) == 0


async def test_a_definition_of_the_catalog_is_run_only_where_its_node_has_the_mark(autojump_clock):
    shown = http(1, is_shown=True)
    async with running_checks() as node:
        node.add_external(FAR, OWN)
        node.register("catalog", shown, node=FAR)
        node.register("agent", http(10, "other"), node=FAR)  # By `?node=`, on the same node.
        await trio.sleep(5)
        assert (node.status("catalog", FAR), len(node.runner)) == ("critical", 1)
        node.mark(FAR)
        await trio.sleep(1)
        assert (node.status("catalog", FAR), len(node.runner)) == ("passing", 2)
        node.mark(FAR, is_marked=False)
        await trio.sleep(1)
        assert len(node.runner) == 1


async def test_a_script_of_an_external_node_is_run_by_nobody(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR, OWN)
        script = CheckDefinition(kind="script", args=("true",), interval_ns=10**9)
        node.register("x", script, node=FAR)
        await trio.sleep(5)
        assert node.runs == []


async def test_an_external_node_that_goes_takes_its_checks_along(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR, OWN)
        node.register("web", http(10), node=FAR)
        await trio.sleep(1)
        node.remove_external(FAR)
        await trio.sleep(30)
        assert len(node.runs) == 1
        assert len(node.runner) == 0


async def test_an_owner_that_starts_runs_what_it_owned(autojump_clock):
    node = OneNode()
    for number in range(30):
        node.add_external(FAR + number, OWN)
        node.register("web", http(10, f"c{number}"), node=FAR + number)
    async with running_checks(node):
        start = trio.current_time()
        await trio.sleep(9.9)
        began = [run.began - start for run in node.runs]
        assert began == pytest.approx([number / 3 for number in range(30)], abs=0.06)


async def test_the_leader_keeps_the_ttls_of_external_nodes_and_begins_them_anew(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR)
        node.register("ttl", ttl(10), node=FAR, status="passing")
        await trio.sleep(30)
        assert node.status("ttl", FAR) == "passing", "another member leads"
        node.lead()
        await trio.sleep(9.9)
        assert node.status("ttl", FAR) == "passing"
        assert node.runner.word(FAR, "ttl", "passing", "") is Word.TAKEN
        await trio.sleep(9.9)
        assert node.status("ttl", FAR) == "passing"
        await trio.sleep(0.3)
        assert node.status("ttl", FAR) == "critical"


async def test_what_a_leader_decided_of_an_external_node_does_not_reach_the_next(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR)
        node.lead()
        node.register("ttl", ttl(10), node=FAR, status="passing")
        await trio.sleep(5)
        node.follow(2)
        await trio.sleep(60)
        assert node.status("ttl", FAR) == "passing"
        assert len(node.runner) == 0


async def test_a_word_to_a_new_leader_counts_before_it_has_looked_at_all_nodes(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR)
        node.register("ttl", ttl(10), node=FAR)
        node.lead()
        assert node.runner.word(FAR, "ttl", "passing", "here") is Word.TAKEN
        assert node.newest("ttl", FAR) == ("passing", "here")


# --- words and TTLs -----------------------------------------------------------------------------------


async def test_a_ttl_is_critical_after_its_time_and_not_before(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(1))
        assert node.runner.word(OWN, "ttl", "passing", "fine") is Word.TAKEN
        await trio.sleep(0.99)
        assert node.status("ttl") == "passing"
        await trio.sleep(0.2)
        assert node.status("ttl") == "critical"
        expected = "TTL expired (last output before timeout follows): fine"
        assert node.records[OWN, "ttl"].output == expected


async def test_reads_of_the_agent_are_right_to_the_moment(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(0.1))
        node.runner.word(OWN, "ttl", "passing", "")
        await trio.sleep(0.0999)
        assert node.newest("ttl")[0] == "passing"
        await trio.sleep(0.0002)
        assert node.newest("ttl") == ("critical", "TTL expired")


async def test_a_word_is_taken_in_the_turn_in_which_its_check_was_registered(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(10))
        assert node.runner.word(OWN, "ttl", "warning", "x") is Word.TAKEN
        assert node.newest("ttl") == ("warning", "x")


async def test_words_that_change_nothing_propose_nothing_and_keep_it_alive(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(10), status="passing")
        node.runner.word(OWN, "ttl", "passing", "")
        await trio.sleep(0.01)
        for _ in range(100):
            await trio.sleep(5)
            assert node.runner.word(OWN, "ttl", "passing", "") is Word.TAKEN
        assert node.proposals == []
        assert node.status("ttl") == "passing"


async def test_a_word_ends_what_was_expired_and_its_time_starts_again(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(10), status="passing")
        await trio.sleep(11)
        assert node.status("ttl") == "critical"
        node.runner.word(OWN, "ttl", "passing", "back")
        await trio.sleep(9.9)
        assert node.status("ttl") == "passing"
        await trio.sleep(0.3)
        assert node.status("ttl") == "critical"


async def test_a_registration_starts_a_ttl_again_only_with_another_ttl_or_a_status(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(10), status="passing")
        await trio.sleep(9)
        node.register("ttl", ttl(10))
        node.register("ttl", ttl(10, deregister_after_ms=60_000))
        await trio.sleep(1.2)
        assert node.status("ttl") == "critical"
        node.register("ttl", ttl(10), status="passing")
        await trio.sleep(9.9)
        assert node.status("ttl") == "passing"
        node.register("ttl", ttl(20))
        await trio.sleep(19.9)
        assert node.status("ttl") == "passing"
        await trio.sleep(0.3)
        assert node.status("ttl") == "critical"


async def test_a_restart_begins_ttls_anew_in_full(autojump_clock):
    node = OneNode()
    node.register("ttl", ttl(10), status="passing")
    async with running_checks(node):
        await trio.sleep(9)
    again = OneNode()
    again.records = node.records
    async with running_checks(again):
        await trio.sleep(9.9)
        assert again.status("ttl") == "passing"
        await trio.sleep(0.3)
        assert again.status("ttl") == "critical"


async def test_words_about_other_checks_say_why_they_are_not_taken(autojump_clock):
    async with running_checks() as node:
        node.register("web", http(10))
        node.register("maintenance", CheckDefinition(kind="maintenance"))
        word = node.runner.word
        assert word(OWN, "web", "passing", "") is Word.NOT_TTL
        assert word(OWN, "maintenance", "passing", "") is Word.NOT_TTL
        assert word(OWN, "none", "passing", "") is Word.UNKNOWN
        assert word(2, "web", "passing", "") is Word.UNKNOWN


async def test_ten_thousand_ttls_that_end_together_are_committed_in_batches(autojump_clock):
    node = OneNode()
    for number in range(10_000):
        node.register(f"c{number}", ttl(10), status="passing")
    async with running_checks(node):
        await trio.sleep(10.2)
        assert {check.status for check in node.records.values()} == {"critical"}
        assert max(len(one.results) for one in node.proposals) <= 256
        assert len(node.proposals) < 200
