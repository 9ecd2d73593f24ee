"""Words that travel: to the leader, which keeps the TTLs of external nodes, and to other members."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.checks import words
from hstore.node.driver.requests import NotLeading, Request
from hstore.node.errors import NoLeader, NotApplied, OutcomeUnknown, Refused
from hstore.node.model.checks import OUTPUT_BYTES_MAX, SERF_HEALTH, Word
from hstore.node.peers.wire import ForwardKind
from tests.node.checks.one_node import FAR, OWN, OneNode, running_checks, ttl


def sent(data: bytes) -> tuple[Request, list[Any]]:
    """Return a request of another member, and what it is answered."""
    answers: list[Any] = []
    deadline = trio.current_time() + 5
    request = Request(ForwardKind.WORD, data, deadline, answers.append, is_foreign=True)
    return request, answers


def a_word(number: int, check: str = "ttl", output: str = "here") -> bytes:
    return words.encode(number, check, "passing", output)


@given(st.integers(0, 2**64 - 1), st.text(max_size=50), st.text(max_size=6000))
def test_a_word_arrives_as_it_was_said_but_for_what_cannot_be_kept(number, check, output):
    data = words.encode(number, check, "warning", output)
    said = words.decode(data)
    assert (said.number, said.check, said.status) == (number, check, "warning")
    assert said.total == len(output.encode())
    assert output.startswith(said.output)
    assert said.output == output or len(said.output.encode()) >= OUTPUT_BYTES_MAX - 3
    assert len(data) < 16 * 1024


@given(st.binary(max_size=100))
def test_what_is_no_word_is_refused(data):
    with contextlib.suppress(Refused):
        words.decode(data)


async def test_a_long_note_is_cut_where_the_check_is_kept_and_counted_as_a_whole(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(60, output_max=10))
        request, answers = sent(a_word(OWN, output="x" * 100_000))
        node.runner.handle(request)
        assert answers == [Word.TAKEN]
        assert node.newest("ttl")[1] == "x" * 10 + "… (captured 10 of 100000 bytes)"


async def test_a_member_takes_words_about_its_own_checks_without_leading(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        for check, expected in (
            ("ttl", Word.TAKEN),
            ("none", Word.UNKNOWN),
            (SERF_HEALTH, Word.UNKNOWN),
        ):
            request, answers = sent(a_word(OWN, check))
            node.runner.handle(request)
            assert answers == [expected]


async def test_who_does_not_lead_says_so_of_external_nodes(autojump_clock):
    async with running_checks() as node:
        node.add_external(FAR)
        node.register("ttl", ttl(60), node=FAR)
        request, answers = sent(a_word(FAR))
        node.runner.handle(request)
        assert [type(answer) for answer in answers] == [NotLeading]


async def test_a_word_for_another_member_is_not_taken_here(autojump_clock):
    async with running_checks() as node:
        node.lead()
        request, answers = sent(a_word(2))
        node.runner.handle(request)
        assert [type(answer) for answer in answers] == [NoLeader]


async def test_a_new_leader_holds_words_until_it_knows_what_there_was(autojump_clock):
    node = OneNode()
    async with running_checks(node):
        node.facts.is_leader = True
        request, answers = sent(a_word(FAR))
        node.runner.handle(request)
        await trio.sleep(1)
        assert answers == []
        node.add_external(FAR)
        node.register("ttl", ttl(60), node=FAR)
        node.facts.is_own_term_applied = True
        await trio.sleep(0.3)
        assert answers == [Word.TAKEN]
        assert node.newest("ttl", FAR) == ("passing", "here")


async def test_a_word_that_is_held_is_answered_when_its_time_is_over_or_the_lead_is_lost(
    autojump_clock,
):
    async with running_checks() as node:
        node.facts.is_leader = True
        first, answers = sent(a_word(FAR))
        node.runner.handle(first)
        await trio.sleep(5.3)
        assert [type(answer) for answer in answers] == [NoLeader]
        second, answers = sent(a_word(FAR))
        node.runner.handle(second)
        node.follow(2)
        assert [type(answer) for answer in answers] == [NotLeading]


async def test_what_is_no_word_is_answered(autojump_clock):
    async with running_checks() as node:
        request, answers = sent(b"\xc1")
        node.runner.handle(request)
        assert [type(answer) for answer in answers] == [Refused]


async def test_a_word_about_a_check_of_its_own_does_not_travel(autojump_clock):
    async with running_checks() as node:
        node.register("ttl", ttl(60))
        deadline = trio.current_time() + 5
        taken = await node.runner.word_elsewhere(OWN, "ttl", "passing", "", deadline)
        assert taken is Word.TAKEN


async def test_a_word_may_come_before_the_check_that_another_member_has_registered(autojump_clock):
    async with running_checks() as node:
        request, answers = sent(a_word(OWN))
        node.behind = []
        node.runner.handle(request)
        assert answers == []
        node.register("ttl", ttl(60))
        node.catch_up()
        assert answers == [Word.TAKEN]
        assert node.newest("ttl") == ("passing", "here")


async def test_a_word_about_no_check_is_answered_after_a_barrier_and_not_without_a_leader(
    autojump_clock,
):
    async with running_checks() as node:
        node.behind = []
        first, answers = sent(a_word(OWN))
        node.runner.handle(first)
        node.catch_up(NoLeader("none"))
        assert [type(answer) for answer in answers] == [NoLeader]
        node.follow(0)
        second, answers = sent(a_word(OWN))
        node.runner.handle(second)
        assert answers == [Word.UNKNOWN]


async def test_a_word_for_a_member_that_is_away_is_certainly_not_taken(autojump_clock):
    async with running_checks() as node:
        node.unconnected.add(2)
        with trio.fail_after(9), pytest.raises(NoLeader, match="does not answer"):
            await node.runner.word_elsewhere(2, "ttl", "passing", "", trio.current_time() + 5)
        assert node.passed == []


async def test_a_word_that_was_passed_on_and_not_answered_may_have_been_taken(autojump_clock):
    async with running_checks() as node, trio.open_nursery() as nursery:

        async def say() -> None:
            with pytest.raises(OutcomeUnknown, match="may have been taken"):
                await node.runner.word_elsewhere(2, "ttl", "critical", "", trio.current_time() + 5)

        nursery.start_soon(say)
        await trio.testing.wait_all_tasks_blocked()
        [(member, request)] = node.passed
        assert member == 2
        request.passed_to = member
        request.finish(NotApplied("the member that keeps this check does not answer; try again"))
