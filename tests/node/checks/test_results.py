"""What of the results is committed, when, and how what got lost is mended; in virtual time."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
import trio
import trio.testing

from hstore.node.checks.verdict import Verdict
from hstore.node.errors import NoLeader, Overloaded
from hstore.node.model.checks import Word
from hstore.node.model.commands import ClusterSettings
from tests.node.checks.one_node import OWN, OneNode, http, running_checks, ttl


def counted():
    """A target whose output is another at each run."""
    count = 0

    async def say() -> Verdict:
        nonlocal count
        count += 1
        return Verdict("passing", f"run {count}")

    return say


async def settle() -> None:
    await trio.sleep(0.01)


async def test_a_change_of_status_is_committed_at_once(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        for status in ("passing", "warning", "critical"):
            node.runner.word(OWN, "ttl", status, "x")
            await trio.testing.wait_all_tasks_blocked()
            assert node.status("ttl") == status
        assert len(node.proposals) == 3


async def test_the_results_of_one_moment_go_together(autojump_clock):
    async with running_checks() as node:
        for number in range(600):
            node.register(f"c{number}", ttl(60))
        for number in range(600):
            node.runner.word(OWN, f"c{number}", "passing", "")
        await settle()
        assert [len(one.results) for one in node.proposals] == [256, 256, 88]


async def test_large_outputs_make_smaller_batches(autojump_clock):
    async with running_checks() as node:
        for number in range(256):
            node.register(f"c{number}", ttl(60))
            node.runner.word(OWN, f"c{number}", "passing", "x" * 4096)
        await settle()
        for one in node.proposals:
            assert sum(len(result.output) for result in one.results) <= 256 * 1024 + 4096
        assert len(node.proposals) == 4


async def test_an_output_alone_is_shown_at_once_and_committed_within_the_interval(autojump_clock):
    node = OneNode()
    node.targets["web"] = counted()
    async with running_checks(node):
        node.register("web", http(10))
        await trio.sleep(1)
        assert node.records[OWN, "web"].output == "run 1"
        committed: list[tuple[float, str]] = []
        start = trio.current_time()
        for _ in range(200):
            await trio.sleep(10)
            assert (
                node.newest("web")[1] != node.records[OWN, "web"].output or len(node.proposals) > 1
            )
            output = node.records[OWN, "web"].output
            if not committed or committed[-1][1] != output:
                committed.append((trio.current_time() - start, output))
        between = [b[0] - a[0] for a, b in pairwise(committed[1:])]
        assert between
        assert all(150 <= one <= 470 for one in between)


async def test_the_first_reason_of_a_check_that_fails_is_committed_at_once(autojump_clock):
    """It is critical before its first run, so only its output changes."""
    node = OneNode()

    async def refuse() -> Verdict:
        return Verdict("critical", f"refused {trio.current_time():.0f}")

    node.targets["web"] = refuse
    async with running_checks(node):
        node.register("web", http(10))
        await settle()
        assert node.records[OWN, "web"].status == "critical"
        assert node.records[OWN, "web"].output.startswith("refused")
        await trio.sleep(140)
        assert len(node.proposals) == 1, "each later output has its time"


async def test_a_first_reason_does_not_wait_for_an_earlier_output(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(3600), status="passing")
        node.runner.word(OWN, "ttl", "passing", "x")
        node.register("ttl", ttl(3600), status="critical")
        node.runner.word(OWN, "ttl", "critical", "the disk is full")
        await settle()
        assert node.records[OWN, "ttl"].output == "the disk is full"


async def test_a_ttl_that_ends_before_its_first_word_says_so_at_once(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(10))
        await trio.sleep(11)
        assert node.records[OWN, "ttl"].output == "TTL expired"


async def test_with_an_interval_of_zero_each_output_is_committed(autojump_clock):
    node = OneNode()
    node.targets["web"] = counted()
    node.facts.settings = ClusterSettings(check_update_interval_ms=0)
    async with running_checks(node):
        node.register("web", http(10))
        await trio.sleep(95)
        assert node.records[OWN, "web"].output == "run 10"
        assert len(node.proposals) == 10


async def test_an_output_that_is_as_before_again_is_not_committed(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(3600), status="passing")
        node.runner.word(OWN, "ttl", "passing", "x")
        node.runner.word(OWN, "ttl", "passing", "")
        await trio.sleep(1000)
        assert node.proposals == []


async def test_one_proposal_of_a_check_is_under_way_at_a_time_and_the_next_has_the_newest(
    autojump_clock,
):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        node.held = []
        for status in ("passing", "warning", "passing", "warning"):
            node.runner.word(OWN, "ttl", status, status)
            await settle()
        assert [one.results[0].status for one in node.proposals] == ["passing"]
        node.release()
        await settle()
        assert [one.results[0].status for one in node.proposals] == ["passing", "warning"]
        assert node.status("ttl") == "warning"


async def test_what_was_said_while_another_definition_was_on_its_way_is_committed(autojump_clock):
    """The result names the definition that was known then: it has no effect, and differs still."""
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        node.held = []
        node.runner.word(OWN, "ttl", "warning", "low")
        await settle()
        node.register("ttl", msgspec.structs.replace(ttl(60), output_max=100))
        node.release()
        await settle()
        assert node.newest("ttl") == ("warning", "low")
        assert node.status("ttl") == "warning"


@pytest.mark.parametrize("error", [NoLeader("none"), Overloaded("full")])
async def test_what_failed_is_proposed_again_with_what_is_newest_then(autojump_clock, error):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        node.error = error
        node.runner.word(OWN, "ttl", "passing", "first")
        await settle()
        node.runner.word(OWN, "ttl", "passing", "second")
        await trio.sleep(1)
        assert 4 <= len(node.proposals) <= 6, "every 0.2 s"
        node.error = None
        await trio.sleep(0.3)
        assert (node.status("ttl"), node.records[OWN, "ttl"].output) == ("passing", "second")


async def test_who_is_cut_off_takes_words_and_runs_checks_and_what_differs_is_committed_later(
    autojump_clock,
):
    node = OneNode()
    async with running_checks(node):
        for name in ("fails", "flaps"):
            node.register(name, http(10), status="passing")
        node.register("ttl", ttl(60), status="passing")
        await trio.sleep(1)
        before = len(node.proposals)
        node.is_current = False
        node.targets["fails"] = node.targets["flaps"] = "critical"
        assert node.runner.word(OWN, "ttl", "warning", "low") is Word.TAKEN
        await trio.sleep(20)
        node.targets["flaps"] = "passing"
        await trio.sleep(20)
        assert len(node.proposals) == before
        assert [node.newest(one)[0] for one in ("fails", "flaps", "ttl")] == [
            "critical",
            "passing",
            "warning",
        ]
        node.is_current = True
        await trio.sleep(0.5)
        assert [node.status(one) for one in ("fails", "flaps", "ttl")] == [
            "critical",
            "passing",
            "warning",
        ]
        named = {result.id for one in node.proposals[before:] for result in one.results}
        assert named == {"fails", "ttl"}, "what flapped is what the log says"


async def test_a_result_that_was_lost_with_its_leader_is_mended_when_another_leads(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(600), status="passing")
        await settle()
        node.runner.word(OWN, "ttl", "critical", "down")
        await settle()
        # The leader had answered, and nobody else has the entry.
        node.records[OWN, "ttl"] = msgspec.structs.replace(
            node.records[OWN, "ttl"], status="passing", output=""
        )
        node.follow(3)
        await trio.sleep(0.3)
        assert node.status("ttl") == "critical"


async def test_what_nobody_noticed_is_mended_within_a_minute(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(600), status="passing")
        await trio.sleep(1)
        node.records[OWN, "ttl"] = msgspec.structs.replace(
            node.records[OWN, "ttl"], status="critical"
        )
        await trio.sleep(61)
        assert node.status("ttl") == "passing"


async def test_a_check_that_goes_while_its_result_is_under_way_is_forgotten(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        node.held = []
        node.runner.word(OWN, "ttl", "passing", "")
        await settle()
        node.deregister("ttl")
        node.error = NoLeader("none")
        node.release()
        await trio.sleep(5)
        assert len(node.proposals) == 1
        assert len(node.runner._results) == 0


async def test_a_lead_that_is_lost_and_won_costs_nothing_while_nothing_differs(autojump_clock):
    async with running_checks() as node:
        for number in range(1000):
            node.register(f"c{number}", ttl(600), status="passing")
        for leader in range(2, 30):
            node.follow(leader)
            await trio.sleep(1)
        assert node.proposals == []
