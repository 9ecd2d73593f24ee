"""`hstore lock`: who runs when, and that nobody runs when the lock may be another's."""

from __future__ import annotations

import signal

import pytest
import trio

from hstore.cli.client import sessions
from hstore.cli.lock.holding import EXIT_LOST
from hstore.node.errors import HstoreError, Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))
TTL = 15.0


async def test_the_command_gets_the_lock_and_its_status_is_ours(
    autojump_clock, locks, run, nursery
):
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    held = locks.keys["k"]
    assert one.command.env["HSTORE_LOCK_KEY"] == "k"
    assert one.command.env["HSTORE_LOCK_INDEX"] == str(held["LockIndex"]) == "1"
    assert one.command.env["HSTORE_LOCK_SESSION"] == held["Session"]
    (session,) = locks.sessions.values()
    assert session["NodeChecks"] == []
    assert session["TTL"] == "15s"
    await trio.sleep(300)  # twenty TTLs: it is renewed for as long as the command runs
    assert locks.holder("k") == held["Session"] != ""
    one.command.exits(7)
    await one.ended.wait()
    assert one.status == 7
    assert locks.holder("k") == ""
    assert locks.sessions == {}
    assert locks.delays == {}  # it was released, and not only ended
    assert one.command.is_buried
    assert one.said == one.noted == []


async def test_two_take_turns_and_the_token_grows(autojump_clock, locks, run, nursery):
    one, two = run(), run(name="two")
    nursery.start_soon(one.go)
    await one.started.wait()
    nursery.start_soon(two.go)
    await trio.sleep(100)
    assert not two.started.is_set()
    assert two.noted == ["waiting for the lock k: one holds it"]
    one.command.exits(0)
    with trio.fail_after(0.1):  # it was woken: no time is over
        await two.started.wait()
    assert one.command.status == 0
    assert int(two.command.env["HSTORE_LOCK_INDEX"]) > int(one.command.env["HSTORE_LOCK_INDEX"])
    two.command.exits(0)
    await two.ended.wait()
    assert two.status == 0


async def test_the_command_ends_before_the_lock_may_be_lost(autojump_clock, locks, run, nursery):
    """By the time of the last renewal that was sent and answered."""
    one = run().prepared(lambda command: command.ignores.add(signal.SIGTERM))
    nursery.start_soon(one.go)
    await one.started.wait()
    await trio.sleep(20)
    last = locks.times("/renew/")[-1]
    locks.down |= {A, B, C}
    await one.ended.wait()
    (terminated, term), (killed, kill) = one.command.got[:2]
    assert (term, kill) == (signal.SIGTERM, signal.SIGKILL)
    assert last + TTL / 2 < terminated
    assert terminated + 2 < killed < last + TTL - 0.4
    assert one.status == EXIT_LOST
    assert any("may be lost: no renewal has succeeded" in line for line in one.said)
    assert "the lock k could not be freed; it will be free in 45 s" in one.said[-1]


async def test_a_renewal_counts_from_when_it_was_sent(autojump_clock, locks, run, nursery):
    """Its answer may come much later, and the leader's clock began when it arrived."""
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    locks.delay_s = 6.0  # each answer is so late
    before = len(locks.times("/renew/"))
    await locks.until(lambda: len(locks.times("/renew/")) > before)
    sent = locks.times("/renew/")[before]
    locks.down |= {A, B, C}
    await one.ended.wait()
    assert one.command.got[0][0] < sent + TTL - TTL / 4 + 0.5


async def test_while_a_machine_is_suspended_time_passes(autojump_clock, locks, run, nursery):
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    await trio.sleep(5)
    locks.down |= {A, B, C}
    asleep_at = trio.current_time()
    locks.skip += 3600
    await one.ended.wait()
    assert one.command.got[0][0] - asleep_at < 0.3
    assert one.status == EXIT_LOST


async def test_a_command_that_ends_at_sigterm_is_not_waited_for_longer(
    autojump_clock, locks, run, nursery
):
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    locks.down |= {A, B, C}
    await one.ended.wait()
    assert [number for _, number in one.command.got] == [signal.SIGTERM, signal.SIGKILL]
    assert one.command.got[1][0] - one.command.got[0][0] < 0.3  # who is left of its group
    assert one.status == EXIT_LOST


@pytest.mark.parametrize("how", ["down", "leaderless"])
async def test_when_a_member_fails_the_others_are_asked(autojump_clock, locks, run, nursery, how):
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    getattr(locks, how).update({A, B})
    await trio.sleep(200)
    assert one.command.status is None
    assert locks.asked[-1][1] == C
    assert one.said == []
    one.command.exits(0)
    await one.ended.wait()
    assert (one.status, locks.holder("k")) == (0, "")


async def test_a_cluster_without_any_leader_for_a_while_costs_nobody_the_lock(
    autojump_clock, locks, run, nursery
):
    one, two = run(), run(name="two")
    nursery.start_soon(one.go)
    await one.started.wait()
    nursery.start_soon(two.go)
    for _ in range(10):
        locks.leaderless |= {A, B, C}
        await trio.sleep(4)
        locks.leaderless.clear()
        await trio.sleep(4)
    assert one.command.status is None
    assert not two.started.is_set()
    assert "No cluster leader: trying again, at all members" in two.said


@pytest.mark.parametrize("what", ["session", "key"])
async def test_who_has_lost_the_lock_for_certain_ends_at_once(
    autojump_clock, locks, run, nursery, what
):
    one = run().prepared(lambda command: command.ignores.add(signal.SIGTERM))
    nursery.start_soon(one.go)
    await one.started.wait()
    await trio.sleep(5)
    if what == "session":
        locks.end(locks.holder("k"))
    else:
        locks.delete("k")
    lost_at = trio.current_time()
    await one.ended.wait()
    assert one.command.got[0][0] - lost_at < 0.5
    # The lock delay of 15 s keeps others out for as long as the command has to end.
    assert 2 < one.command.got[1][0] - lost_at < 5
    assert one.status == EXIT_LOST


async def test_who_sees_another_holder_ends_and_does_not_say_that_it_waits(
    autojump_clock, locks, run, nursery
):
    """Locks are advisory: an operator may have released this one by hand for the next one."""
    one, two = run(), run(name="two")
    nursery.start_soon(one.go)
    await one.started.wait()
    nursery.start_soon(two.go)
    await trio.sleep(5)
    locks.delete("k")
    await one.ended.wait()
    await two.started.wait()
    assert one.noted == []
    assert "may be lost: its key was" in one.said[0]
    assert one.status == EXIT_LOST


async def test_without_a_lock_delay_there_is_no_time_to_end(autojump_clock, locks, run, nursery):
    one = run(delay_s=0.0).prepared(lambda command: command.ignores.add(signal.SIGTERM))
    nursery.start_soon(one.go)
    await one.started.wait()
    locks.end(locks.holder("k"))
    await one.ended.wait()
    assert one.command.got[1][0] - one.command.got[0][0] < 0.1


async def test_one_try_says_who_holds_it_and_leaves_nothing(autojump_clock, locks, run, nursery):
    one, two = run(), run(name="two", wait_s=0.0)
    nursery.start_soon(one.go)
    await one.started.wait()
    await two.go()
    assert isinstance(two.error, Refused)
    assert str(two.error) == "the lock k was not free: one holds it"
    assert two.noted == []
    assert len(locks.sessions) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_one_try_ends_where_there_is_no_leader(autojump_clock, locks, run, when):
    one = run(wait_s=0.0)
    create = locks._create

    def created(body):
        locks.leaderless |= {A, B, C}
        return create(body)

    locks._create = created
    if when == "before":
        locks.leaderless |= {A, B, C}
    await one.go()
    assert isinstance(one.error, HstoreError)
    assert "No cluster leader" in str(one.error)


async def test_a_wait_is_over_in_time(autojump_clock, locks, run, nursery):
    one, two = run(), run(name="two", wait_s=30.0)
    nursery.start_soon(one.go)
    await one.started.wait()
    begun_at = trio.current_time()
    await two.go()
    assert str(two.error) == "the lock k was not free within 30 s: one holds it"
    assert trio.current_time() - begun_at < 31
    assert len(locks.sessions) == 1


@pytest.mark.parametrize("how", ["down", "leaderless"])
async def test_a_wait_without_any_answer_does_not_say_that_the_lock_was_held(
    autojump_clock, locks, run, nursery, how
):
    getattr(locks, how).update({A, B, C})
    one = run(wait_s=2.0)
    await one.go()
    assert str(one.error) == (
        "the lock k was not taken within 2 s: no member answered for the cluster; "
        "`hstore list` shows why"
    )
    assert not one.started.is_set()


async def test_the_end_of_a_lock_delay_is_waited_for_although_it_wakes_nobody(
    autojump_clock, locks, run, nursery
):
    one, two = run(), run(name="two", wait_s=0.0)
    nursery.start_soon(one.go)
    await one.started.wait()
    locks.end(locks.holder("k"))
    await two.go()
    assert str(two.error) == "the lock k was not free: its lock delay is not over"
    lost_at = trio.current_time()
    three = run(name="three")
    nursery.start_soon(three.go)
    await three.started.wait()
    assert 14 < trio.current_time() - lost_at < 17
    assert len(locks.times("acquire")) < 30


async def test_an_interruption_ends_the_waiting_and_leaves_nothing(
    autojump_clock, locks, run, nursery
):
    one, two = run(), run(name="two")
    nursery.start_soon(one.go)
    await one.started.wait()
    nursery.start_soon(two.go)
    await trio.sleep(10)
    two.signal(signal.SIGTERM)
    await two.ended.wait()
    assert two.status == 128 + signal.SIGTERM
    assert len(locks.sessions) == 1


async def test_who_is_interrupted_in_the_moment_of_success_frees_the_lock(
    autojump_clock, locks, run, nursery
):
    """The request was carried out, and its answer came too late: no lock delay for the next one."""
    one = run()
    locks.delay_s = 2.0
    nursery.start_soon(one.go)
    await locks.until(lambda: locks.holder("k"))
    one.signal(signal.SIGINT)
    await one.ended.wait()
    assert one.status == 130
    assert not one.started.is_set()
    assert locks.holder("k") == ""
    assert locks.delays == {}


async def test_signals_are_passed_on_and_the_command_decides(autojump_clock, locks, run, nursery):
    one = run().prepared(lambda command: command.ignores.add(signal.SIGHUP))
    nursery.start_soon(one.go)
    await one.started.wait()
    one.signal(signal.SIGHUP)
    await trio.sleep(10)
    assert one.command.status is None
    one.signal(signal.SIGTERM)
    await one.ended.wait()
    assert one.status == 143
    assert locks.holder("k") == ""


async def test_a_session_that_ends_while_it_waits_is_replaced(autojump_clock, locks, run, nursery):
    one, two = run(), run(name="two")
    nursery.start_soon(one.go)
    await one.started.wait()
    nursery.start_soon(two.go)
    await trio.sleep(20)
    (waiting,) = set(locks.sessions) - {locks.holder("k")}
    locks.end(waiting)
    await trio.sleep(20)
    one.command.exits(0)
    await two.started.wait()
    assert locks.holder("k") not in {waiting, ""}


async def test_a_lock_that_was_taken_long_ago_is_renewed_before_the_command_begins(
    autojump_clock, locks, run, nursery
):
    """Between the taking and the beginning a machine may have been suspended."""
    one = run()

    def look(client, key, *rest):
        sight = real(client, key, *rest)
        if not locks.skip:
            locks.skip += 3600
            locks.end(locks.holder(key), has_delay=False)
        return sight

    real = sessions.look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "look", look)
        nursery.start_soon(one.go)
        await one.started.wait()
    assert locks.skip
    assert locks.holder("k") == one.command.env["HSTORE_LOCK_SESSION"] != ""


@pytest.mark.parametrize("seconds", [1, 3600])
async def test_what_was_stopped_goes_on_only_while_it_holds_the_lock(
    autojump_clock, locks, run, nursery, seconds
):
    """After Ctrl-Z and `fg`."""

    def sleeps(command):
        def stop_with_it():
            command.story.append("stopped")
            locks.skip += seconds  # nothing runs, no session is renewed

        command.stop_with_it = stop_with_it

    one = run().prepared(sleeps)
    nursery.start_soon(one.go)
    await one.started.wait()
    one.command.stopping = True
    one.signal(signal.SIGCHLD)
    await trio.sleep(1)
    if seconds == 1:
        assert one.command.story == ["stopped", "goes on"]
        assert one.command.got == []
    else:
        await one.ended.wait()
        assert one.command.story == ["stopped"]
        assert one.status == EXIT_LOST


async def test_an_answer_that_no_renewal_has_is_not_counted_and_ends_nothing(
    autojump_clock, locks, run, nursery
):
    one = run()
    nursery.start_soon(one.go)
    await one.started.wait()
    real = locks._renew
    locks._renew = lambda _id: locks._answer("something else", 500)
    await trio.sleep(4)
    locks._renew = real
    await trio.sleep(100)
    assert one.command.status is None
    locks._renew = lambda _id: locks._answer("something else", 500)
    await one.ended.wait()
    assert one.status == EXIT_LOST


async def test_a_refused_session_is_an_error_that_names_the_reason(autojump_clock, locks, run):
    one = run(ttl_s=1.0)
    said = "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]"
    locks._create = lambda _body: locks._answer(said, 500)
    await one.go()
    assert isinstance(one.error, Refused)
    assert str(one.error) == (
        "the TTL 1s is not allowed; allowed: 10s (the setting session_ttl_min) to 24h0m0s"
    )
