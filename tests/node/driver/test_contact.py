"""When a node is in contact: which proof counts, how old it may be, and what follows a pause."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from hstore.node.driver.contact import Contact, seconds_asleep
from hstore.node.raft.membership import Configuration
from hstore.node.raft.progress import Progress
from hstore.node.raft.roles import Role
from tests.node.memory_cluster import running

LEASE_S = 1.0
LEADER, OTHER, OWN = 1, 2, 3


@dataclass
class FakeCore:
    """What `Contact` reads of a core."""

    id: int = OWN
    term: int = 5
    leader: int = LEADER
    leader_gone: bool = False
    role: Role = Role.FOLLOWER
    round: int = 0
    config: Configuration = field(default_factory=lambda: Configuration((LEADER, OTHER, OWN)))
    progress: dict[int, Progress] = field(default_factory=dict)

    def lead(self):
        self.role, self.leader, self.term, self.round = Role.LEADER, OWN, self.term + 1, 0
        self.progress = {LEADER: Progress(1), OTHER: Progress(1)}


class Subject:
    """A contact in virtual time, what it has asked for, and how long the machine has slept."""

    def __init__(self):
        self.core = FakeCore()
        self.slept = 0.0
        self.doubts = self.regained = 0
        self.contact = Contact(self.core, lambda: LEASE_S, lambda: self.slept)  # type: ignore[arg-type]  # a stand-in
        self.contact.on_doubt = self._doubt
        self.contact.on_regained = self._regain

    def _doubt(self):
        self.doubts += 1

    def _regain(self):
        self.regained += 1

    def hear(self, peer=LEADER):
        self.contact.heard(peer, trio.current_time())

    async def follow(self, seconds=2.0):
        """Be proven by a read index, and hear the leader each fifth of a lease."""
        self.hear()
        self.contact.answered(trio.current_time())
        for _ in range(round(seconds / 0.2)):
            await trio.sleep(0.2)
            self.hear()

    @property
    def is_current(self):
        return self.contact.is_current()


# A follower


async def test_a_follower_hears_its_leader_for_as_long_as_it_likes(autojump_clock):
    subject = Subject()
    await subject.follow(20)
    assert subject.is_current
    assert subject.doubts <= 1


async def test_frames_alone_prove_nothing_before_the_first_read_index(autojump_clock):
    subject = Subject()
    for _ in range(10):
        subject.hear()
        await trio.sleep(0.1)
        assert not subject.is_current
    assert subject.doubts == 10
    asked_at = trio.current_time()
    await trio.sleep(0.05)
    subject.contact.answered(asked_at)
    assert (subject.is_current, subject.regained) == (True, 1)


async def test_contact_lapses_a_lease_after_what_was_proven(autojump_clock):
    subject = Subject()
    await subject.follow(2)
    # The last frame came now, and may have come since the one before it was read.
    await trio.sleep(LEASE_S - 0.2 - 0.01)
    assert subject.is_current
    await trio.sleep(0.02)
    assert not subject.is_current


@pytest.mark.parametrize("pause_s", [0.55, 0.9, 3.0, 100.0])
async def test_after_a_pause_what_waited_in_the_buffers_proves_nothing(autojump_clock, pause_s):
    subject = Subject()
    await subject.follow(2)
    before, stopped_at = subject.doubts, trio.current_time()
    await trio.sleep(pause_s)
    for _ in range(50):  # in one piece or in several
        subject.hear()
        await trio.sleep(0.005)
    assert subject.doubts > before
    # Answered is a read index of before the pause.
    subject.contact.answered(stopped_at)
    while trio.current_time() < stopped_at + pause_s + 5:
        await trio.sleep(0.1)
        subject.hear()
        assert subject.is_current == (trio.current_time() <= stopped_at + LEASE_S)
    subject.contact.answered(trio.current_time() - 0.01)
    assert (subject.is_current, subject.regained) == (True, 2)
    await trio.sleep(0.1)
    subject.hear()
    assert subject.is_current


async def test_a_pause_in_which_the_machine_slept_is_noticed_though_no_time_has_passed(
    autojump_clock,
):
    subject = Subject()
    await subject.follow(2)
    assert subject.is_current
    subject.slept += 60
    assert not subject.is_current
    subject.hear()
    assert not subject.is_current
    subject.contact.answered(trio.current_time())
    assert subject.is_current


async def test_another_leader_is_named_at_once_while_the_last_proof_is_young(autojump_clock):
    """Who is elected after a proof was not yet replaced at that time."""
    subject = Subject()
    await subject.follow(2)
    subject.core.leader, subject.core.term = 0, 6
    assert not subject.is_current
    subject.core.leader = OTHER
    doubts = subject.doubts
    subject.contact.led_by(OTHER)
    assert subject.doubts == doubts + 1
    assert subject.is_current
    await trio.sleep(LEASE_S + 0.01)
    subject.hear(OTHER)
    assert not subject.is_current
    subject.contact.answered(trio.current_time())
    assert subject.is_current


async def test_only_the_leaders_frames_count_and_only_over_a_link_that_is_up(autojump_clock):
    subject = Subject()
    await subject.follow(2)
    subject.core.leader_gone = True
    assert not subject.is_current
    subject.core.leader_gone = False
    assert subject.is_current
    for _ in range(10):
        subject.hear(OTHER)
        await trio.sleep(0.1)
    assert not subject.is_current


# A leader


async def test_a_new_leaders_proof_is_from_when_it_began_to_ask_for_votes(autojump_clock):
    subject = Subject()
    core, contact = subject.core, subject.contact
    core.lead()
    contact.stood()
    await trio.sleep(LEASE_S - 0.01)
    assert subject.is_current
    await trio.sleep(0.02)
    assert not subject.is_current


async def lead(subject, seconds, answering):
    """Send rounds, to which voters answer before the next."""
    for _ in range(round(seconds / 0.2)):
        subject.contact.ticks()
        subject.core.round += 1
        await trio.sleep(0.2)
        for voter in answering:
            subject.core.progress[voter].round = subject.core.round


async def test_a_leader_is_in_contact_as_long_as_a_majority_answers_its_rounds(autojump_clock):
    subject = Subject()
    subject.core.lead()
    await lead(subject, 5, [OTHER])
    assert subject.is_current
    await lead(subject, LEASE_S - 0.4, [])
    assert subject.is_current
    await lead(subject, 0.4, [])
    assert not subject.is_current


async def test_late_answers_to_old_rounds_prove_no_more_than_when_these_were_sent(autojump_clock):
    subject = Subject()
    subject.core.lead()
    await lead(subject, 2, [OTHER])
    old = subject.core.round
    await trio.sleep(3)  # stopped
    subject.core.progress[OTHER].round = subject.core.progress[LEADER].round = old
    assert not subject.is_current
    subject.contact.ticks()
    subject.core.round += 1
    assert not subject.is_current
    await trio.sleep(0.01)
    subject.core.progress[OTHER].round = subject.core.round
    assert subject.is_current


async def test_a_leader_of_one_needs_nobody(autojump_clock):
    subject = Subject()
    subject.core.config = Configuration((OWN,))
    subject.core.lead()
    await lead(subject, 5, [])
    assert subject.is_current


def test_the_time_that_the_machine_slept_is_read_from_the_kernel():
    assert seconds_asleep() >= -0.001
    assert abs(seconds_asleep() - seconds_asleep()) < 0.05


# Whole nodes


async def test_old_heartbeats_that_arrive_late_put_nobody_in_contact(autojump_clock):
    """A node that was stopped reads them when it goes on, and the leader was replaced meanwhile."""
    async with running(5) as cluster:
        await trio.sleep(2)
        stopped, network = cluster[5], cluster.network
        for number in (1, 2, 3, 4):
            network.ways[number, 5].hold()
        await trio.sleep(0.3)
        cluster.silence(1, of=(2, 3, 4))
        await cluster.until(lambda: any(cluster[n].is_leader for n in (2, 3, 4)))
        await trio.sleep(1.0)
        assert not stopped.node.status.in_contact()
        network.ways[1, 5].release()
        for _ in range(100):
            await trio.sleep(0.02)
            assert stopped.node.administration.cluster().leader != "n1"
            assert stopped.node.process.unhealthy()
        for number in (2, 3, 4):
            network.ways[number, 5].release()
        new = next(cluster[n] for n in (2, 3, 4) if cluster[n].is_leader)
        took = await cluster.until(
            lambda: stopped.node.administration.cluster().leader == new.node.process.name
        )
        assert took < 0.5


async def test_contact_with_a_new_leader_takes_a_round_trip_and_costs_one_read(autojump_clock):
    async with running(3) as cluster:
        await trio.sleep(2)
        for way in [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b]:
            cluster.network.ways[way].delay_s = 0.01
        asked = {m.id: m.node.replica.intake.reads_asked for m in cluster.up}
        cluster.silence(1)
        await cluster.until(lambda: any(cluster[n].is_leader for n in (2, 3)))
        follower = next(cluster[n] for n in (2, 3) if not cluster[n].is_leader)
        took = await cluster.until(follower.node.status.in_contact)
        # The entry with which it begins, the index, and the round that confirms it.
        assert took <= 0.07
        assert follower.node.replica.intake.reads_asked - asked[follower.id] <= 3


async def test_in_steady_state_nothing_is_asked_but_once_a_second(autojump_clock):
    async with running(3) as cluster:
        await trio.sleep(3)
        before = {m.id: m.node.replica.intake.reads_asked for m in cluster.up}
        await trio.sleep(20)
        for member in cluster.up:
            assert member.node.replica.intake.reads_asked - before[member.id] <= 21
