"""Elections: who may lead, and when to ask (sections 5.2 and 5.4.1, thesis sections 6 and 9.6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import quorum, replication
from .entry import EntryKind
from .errors import CoreBug
from .messages import PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse
from .quorum import VoteResult
from .roles import Role

if TYPE_CHECKING:
    from .core import Core

_EARLY_DELAY = 500
"""Thousandths of a tick: survivors of a dead leader wait a random part of this before they ask.

Long against a ballot (a round trip and a flush, about 3 ms), so that two rarely ask at once; short
against an election timeout, which is what it replaces.
"""

_EARLY_ATTEMPTS = 20
"""After so many early elections in vain for one dead leader, the ordinary timeout takes over."""


def adopt_timeout(core: Core, election_ticks: int) -> None:
    """Have another election timeout from now on, as if the leader (a majority) had just been heard.

    What has been counted so far, perhaps in ticks of another length, says nothing any more. No
    safety hangs on it, for no vote and no read trusts a clock: who fell silent is missed a timeout
    later, once, and who still keeps to other settings asks too early, which PreVote makes harmless.
    """
    if election_ticks != core.options.election_ticks:
        core.options = replace(core.options, election_ticks=election_ticks)
        core.elapsed = 0
        core.randomize_timeout()


def tick_leader(core: Core) -> None:
    """Send heartbeats; once per election timeout, see whether a majority still answers.

    Section 6 (thesis 6.2): "a leader steps down if an election timeout elapses without a
    successful round of heartbeats to a majority of its cluster". A leader whose disk is stuck
    steps down, too: what it cannot make durable it cannot apply, so nobody would ever get an
    answer while its heartbeats kept the others from electing one that can (hashicorp/raft#503).
    """
    if core.is_disk_stuck:
        core.become_follower(core.term, 0)
        return
    if core.elapsed >= core.options.election_ticks:
        core.elapsed = 0
        if core.options.check_quorum and not _is_quorum_active(core):
            core.become_follower(core.term, 0)
            return
    replication.broadcast_heartbeat(core)


def tick_follower(core: Core) -> None:
    """Call an election when nobody has led for a timeout; at once when nobody else votes."""
    is_alone = core.role is Role.FOLLOWER and core.config.all_voters() == (core.id,)
    if (core.elapsed < core.timeout and not is_alone) or not core.is_promotable():
        # Who may not ask goes on counting: a lease that ran out must not begin anew by itself.
        return
    core.elapsed = 0
    core.randomize_timeout()
    campaign(core)


def campaign(core: Core) -> None:
    """Ask for votes, or first whether asking makes sense."""
    if not core.options.pre_vote:
        become_candidate(core)
        return
    core.role = Role.PRE_CANDIDATE
    # Who asks has given up on its leader, and must not hold a lease against others who ask.
    core.leader = 0
    core.votes = _without_the_gone(core)
    core.votes[core.id] = True
    for peer in core.config.all_voters():
        if peer != core.id:
            log = core.log
            core.send(PreVoteRequest(core.id, peer, core.term + 1, log.last_index, log.last_term))
    _tally(core)


def schedule_early(core: Core) -> None:
    """Ask to be woken for an election soon: the leader is gone, there is nothing to wait for."""
    if core.is_promotable() and core.early_attempts < _EARLY_ATTEMPTS:
        core.early_attempts += 1
        core.early_token += 1
        # Wider with each attempt in vain: the ballots themselves may be slow on this machine.
        delay = _EARLY_DELAY * min(core.early_attempts, 4)
        core.update.early_election = (core.early_token, core.rng.randrange(delay))


def is_in_lease(core: Core) -> bool:
    """Whether this node hears a leader, and therefore helps nobody to depose it.

    The lease is waived when this node's own link to the leader is down as well: a leader whose
    port refuses several nodes at once has died, and waiting out its lease would only cost time.
    """
    return (
        core.options.check_quorum
        and core.leader != 0
        and not core.leader_gone
        and core.elapsed < core.options.election_ticks
    )


def record_vote(core: Core, voter: int, *, granted: bool) -> None:
    """Count an answer to the ballot under way; the first answer of each voter stands."""
    core.votes.setdefault(voter, granted)
    _tally(core)


def on_pre_vote_request(core: Core, message: PreVoteRequest) -> None:
    """Answer whether this node would vote, without changing anything (thesis section 9.6).

    A refusal shows this node's own term, so that a candidate that is behind can catch up (R4b).
    """
    granted = (
        message.term > core.term
        and not core.is_recovering
        and not is_in_lease(core)
        and core.log.is_up_to_date(message.last_index, message.last_term)
    )
    term = message.term if granted else core.term
    core.send_durably(PreVoteResponse(core.id, message.frm, term, granted))


def on_pre_vote_response(core: Core, message: PreVoteResponse) -> None:
    """Count it if it answers the question under way."""
    asked = core.term + 1 if message.granted else core.term
    if core.role is Role.PRE_CANDIDATE and message.term == asked:
        record_vote(core, message.frm, granted=message.granted)


def on_vote_request(core: Core, message: VoteRequest) -> None:
    """Grant at most one vote per term, to a log at least as up-to-date (5.2, 5.4.1).

    A learner votes too when asked: the candidate's newer configuration may know it as a voter
    (etcd#10998).
    """
    is_free = core.vote == message.frm or (core.vote == 0 and core.leader == 0)
    granted = (
        is_free
        and not core.is_recovering
        and core.log.is_up_to_date(message.last_index, message.last_term)
    )
    if granted:
        core.vote = message.frm
        core.elapsed = 0
        # Whoever got the vote gets the time to use it.
        core.early_token += 1
    core.send_durably(VoteResponse(core.id, message.frm, core.term, granted))


def on_vote_response(core: Core, message: VoteResponse) -> None:
    """Count it if this node still stands in that term (terms are equal here)."""
    if core.role is Role.CANDIDATE:
        record_vote(core, message.frm, granted=message.granted)


def _without_the_gone(core: Core) -> dict[int, bool]:
    """Return the votes of a ballot that begins: a dead leader will not answer it.

    So a split vote among the survivors is seen as lost, and held again soon, in place of waiting
    an election timeout for a vote that never comes.
    """
    return {core.gone: False} if core.gone else {}


def become_candidate(core: Core, *, is_transfer: bool = False) -> None:
    """Section 5.2: increment the term, vote for oneself, ask everyone else.

    The own vote is counted when it is durable, see `_tally`. `is_transfer`: the leader wishes it.
    """
    core.role = Role.CANDIDATE
    core.term += 1
    core.vote = core.id
    core.leader = 0
    core.votes = _without_the_gone(core)
    # The flush of an earlier term's vote may be on its way still, and says nothing of this one's.
    core.own_vote_seq = 0
    core.elapsed = 0
    core.randomize_timeout()
    log = core.log
    for peer in core.config.all_voters():
        if peer != core.id:
            # Not before the term and the log it speaks of are durable: after a crash this node
            # would ask in the same term once more, and the votes that its longer log had won the
            # first time would elect it with a shorter one.
            last = log.last_index, log.last_term
            core.send_durably(VoteRequest(core.id, peer, core.term, *last, is_transfer))


def _tally(core: Core) -> None:
    result = quorum.vote_result(core.config, core.votes)
    if result is VoteResult.LOST:
        core.become_follower(core.term, 0)
    elif result is VoteResult.WON:
        if core.role is Role.PRE_CANDIDATE:
            become_candidate(core)
        elif core.votes.get(core.id):
            # Never before the own vote is durable, even when the others suffice: this node could
            # crash, forget that it led this term, and be elected in it once more with another log.
            _become_leader(core)


def _become_leader(core: Core) -> None:
    if core.role is not Role.CANDIDATE:
        raise CoreBug(f"{core.role} wins an election")
    core.role = Role.LEADER
    core.leader = core.id
    core.gone = 0
    core.elapsed = 0
    core.round = 0
    core.votes = {}
    replication.start_leading(core)
    core.noop_index = core.append_as_leader(EntryKind.NOOP, [b""])


def _is_quorum_active(core: Core) -> bool:
    """Whether a majority was heard since the last call."""
    heard = {core.id: True}
    for peer, progress in core.progress.items():
        heard[peer] = progress.active
        progress.active = False
    return quorum.vote_result(core.config, heard) is VoteResult.WON
