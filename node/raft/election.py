"""Elections: which node may lead, and when a node asks for votes.

Sections 5.2 and 5.4.1, thesis section 9.6 (PreVote), and the end of section 6 (CheckQuorum). The
rules that keep two leaders out of one term:

Rule 1: a node votes at most once per term, and its answer leaves only once the vote is durable.
Rule 2: a candidate asks only once its term and its log are durable (see `become_candidate`).
Rule 3: a candidate leads only once its own vote is durable (see `_tally`).
Rule 4: answers are kept by voter, so a repeated or late answer counts once or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import quorum, replication
from .entry import EntryKind
from .errors import CoreBug
from .events import PeerUnreachable
from .messages import PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse
from .quorum import VoteResult
from .roles import Role

if TYPE_CHECKING:
    from .core import Core
    from .events import EarlyElection, PeerDown

# Thousandths of a tick: each node that lost the link to its leader waits a random part of this
# before it calls an election. Long against a ballot (a round trip and a flush, about 3 ms), so that
# two nodes rarely ask at once; short against an election timeout, which it replaces.
_EARLY_DELAY = 500

# After so many early elections without a winner for one dead leader, the ordinary timeout is used.
_EARLY_ATTEMPTS = 20


def adopt_timeout(core: Core, election_ticks: int) -> None:
    """Use another election timeout from now on, and begin counting its ticks anew.

    The ticks counted so far may have been of another length. Safety does not depend on it, because
    no vote and no read trusts a clock (rule D18): a silent leader or follower is noticed at most
    one timeout later, once, and a node that still has the old setting asks too early, which PreVote
    makes harmless.
    """
    if election_ticks != core.options.election_ticks:
        core.options = replace(core.options, election_ticks=election_ticks)
        core.elapsed = 0
        core.randomize_timeout()


def tick_leader(core: Core) -> None:
    """Send heartbeats; once per election timeout, check that a majority still answers."""
    # What this leader cannot make durable it cannot apply, so its clients would get no answers
    # while its heartbeats keep the others from electing a leader that can write
    # (hashicorp/raft#503).
    if core.is_disk_stuck:
        core.become_follower(core.term, 0)
        return
    # Thesis section 6.2: "a leader in Raft steps down if an election timeout elapses without a
    # successful round of heartbeats to a majority of its cluster".
    if core.elapsed >= core.options.election_ticks:
        core.elapsed = 0
        if core.options.check_quorum and not _is_quorum_active(core):
            core.become_follower(core.term, 0)
            return
    replication.broadcast_heartbeat(core)


def tick_follower(core: Core) -> None:
    """Call an election after a timeout without a leader; at once if this node is the only voter."""
    is_alone = core.role is Role.FOLLOWER and core.config.all_voters() == (core.id,)
    may_ask = (
        core.is_promotable() if is_alone else core.elapsed >= core.timeout and core.may_stand()
    )
    if not may_ask:
        # `elapsed` goes on growing in a node that may not ask: if it began anew, so would its
        # lease.
        return
    core.elapsed = 0
    core.randomize_timeout()
    campaign(core)


def campaign(core: Core) -> None:
    """Ask for votes; with PreVote, first ask whether an election could be won."""
    if not core.options.pre_vote:
        become_candidate(core)
        return
    # Thesis section 9.6: "a candidate only increments its term if it first learns from a majority
    # of the cluster that they would be willing to grant the candidate their votes".
    core.role = Role.PRE_CANDIDATE
    # A node that calls an election no longer counts on its leader, so it must not refuse other
    # pre-candidates on behalf of that leader's lease.
    core.leader = 0
    core.votes = _opening_votes(core)
    core.votes[core.id] = True
    for peer in core.config.all_voters():
        if peer != core.id:
            log = core.log
            core.send(PreVoteRequest(core.id, peer, core.term + 1, log.last_index, log.last_term))
    _tally(core)


def schedule_early(core: Core) -> None:
    """The leader is gone: ask the driver for an `EarlyElection` event after a short random time."""
    if core.may_stand() and core.early_attempts < _EARLY_ATTEMPTS:
        core.early_attempts += 1
        core.early_token += 1
        # A longer interval after each attempt without a winner: ballots may be slow on this
        # machine.
        delay = _EARLY_DELAY * min(core.early_attempts, 4)
        core.update.early_election = (core.early_token, core.rng.randrange(delay))


def is_in_lease(core: Core) -> bool:
    """Whether this node hears a leader, and therefore refuses its vote to others.

    Not when this node's own link to the leader is down as well: a leader whose port refuses several
    nodes at once has died, and waiting for the end of its lease would only cost time.
    """
    return (
        core.options.check_quorum
        and core.leader != 0
        and not core.leader_gone
        and core.elapsed < core.options.election_ticks
    )


def record_vote(core: Core, voter: int, *, granted: bool) -> None:
    """Count one answer to the ballot of this node; the first answer of each voter stands."""
    # Kept by voter: a counter would count a repeated or late answer again (PySyncObj and raftos
    # do).
    core.votes.setdefault(voter, granted)
    _tally(core)


def _is_ill_formed(core: Core, message: PreVoteRequest | VoteRequest) -> bool:
    """Whether no candidate can have sent this: its log is of a term after the one it asks about."""
    if message.last_term <= message.term:
        return False
    core.update.refused.append((message.frm, "a candidate's log is newer than its term"))
    return True


def on_pre_vote_request(core: Core, message: PreVoteRequest) -> None:
    """Answer whether this node would vote, without changing anything (thesis section 9.6).

    A refusal shows this node's own term, so that a pre-candidate behind in term catches up (R4b).
    """
    if _is_ill_formed(core, message):
        return
    granted = (
        message.term > core.term
        and not core.is_recovering
        and not is_in_lease(core)
        and core.log.is_up_to_date(message.last_index, message.last_term)
    )
    term = message.term if granted else core.term
    core.pre_votes_refused += not granted
    core.send_durably(PreVoteResponse(core.id, message.frm, term, granted))


def on_pre_vote_response(core: Core, message: PreVoteResponse) -> None:
    """Count the answer if it belongs to the pre-vote that this node is asking for now."""
    # A grant repeats the term asked about. A refusal of a higher term made this node a follower of
    # it (`terms.on_receive`), so a refusal that comes here has the present term.
    asked = core.term + 1 if message.granted else core.term
    if core.role is Role.PRE_CANDIDATE and message.term == asked:
        record_vote(core, message.frm, granted=message.granted)


def on_vote_request(core: Core, message: VoteRequest) -> None:
    """Grant at most one vote per term, to a log at least as up-to-date (sections 5.2, 5.4.1)."""
    if _is_ill_formed(core, message):
        return
    # Figure 2, RequestVote, receiver: "If votedFor is null or candidateId, and candidate's log is
    # at least as up-to-date as receiver's log, grant vote". Whether this node is a voter in its own
    # configuration does not matter: the candidate may have a newer one in which it is (etcd#10998).
    is_free = core.vote == message.frm or (core.vote == 0 and core.leader == 0)
    granted = (
        is_free
        and not core.is_recovering
        and core.log.is_up_to_date(message.last_index, message.last_term)
    )
    if granted:
        core.vote = message.frm
        # Figure 2, followers: an election begins after a timeout without a message of the leader
        # "or granting vote to candidate".
        core.elapsed = 0
        # Cancel an early election of this node: the candidate that got the vote needs time to win.
        core.early_token += 1
    core.send_durably(VoteResponse(core.id, message.frm, core.term, granted))


def on_vote_response(core: Core, message: VoteResponse) -> None:
    """Count the answer if this node is still a candidate; `terms.py` has compared the terms."""
    if core.role is Role.CANDIDATE:
        record_vote(core, message.frm, granted=message.granted)


def _opening_votes(core: Core) -> dict[int, bool]:
    """Return the votes with which a ballot begins: a dead leader is counted as a refusal."""
    # So a split vote among the others is lost at once and held again soon, instead of waiting an
    # election timeout for an answer that never comes.
    return {core.gone: False} if core.gone else {}


def become_candidate(core: Core, *, is_transfer: bool = False) -> None:
    """Begin an election: raise the term, vote for this node, ask all other voters (section 5.2).

    Args:
        core: The core.
        is_transfer: The leader asked for this election, so the voters ignore its lease.
    """
    # Section 5.2: "To begin an election, a follower increments its current term and transitions to
    # candidate state. It then votes for itself and issues RequestVote RPCs in parallel to each of
    # the other servers in the cluster."
    core.role = Role.CANDIDATE
    core.term += 1
    core.vote = core.id
    core.leader = 0
    core.votes = _opening_votes(core)
    # The flush of an earlier term's vote may still be running: its end says nothing of this vote.
    core.own_vote_seq = 0
    core.elapsed = 0
    core.randomize_timeout()
    log = core.log
    for peer in core.config.all_voters():
        if peer != core.id:
            # Not before this term and this log are durable. After a crash the node would else ask
            # in the same term again with a shorter log, and votes granted to its longer log would
            # elect it. etcd-raft/raft.go `send` does not gate its MsgVote on durability; rule D2
            # here does.
            last = log.last_index, log.last_term
            core.send_durably(VoteRequest(core.id, peer, core.term, *last, is_transfer))


def _tally(core: Core) -> None:
    result = quorum.vote_result(core.config, core.votes)
    if result is VoteResult.LOST:
        # The paper's candidate waits for its timeout after a split vote. Here, as in etcd-raft's
        # stepCandidate, one that can no longer win becomes a follower at once.
        core.become_follower(core.term, 0)
    elif result is VoteResult.WON:
        if core.role is Role.PRE_CANDIDATE:
            become_candidate(core)
        elif core.votes.get(core.id):
            # Not before the own vote is durable, even when the others suffice: this node could
            # crash, forget that it led this term, and be elected in it again with another log.
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
    # Section 8: "Raft handles this by having each leader commit a blank no-op entry into the log at
    # the start of its term."
    core.noop_index = core.append_as_leader(EntryKind.NOOP, [b""])


def _is_quorum_active(core: Core) -> bool:
    """Whether a majority has answered since the last call."""
    # As `QuorumActive` in etcd-raft's tracker: answers since the last check, not the age of each,
    # so no clock is needed. Learners are in `progress` too, and do not count (`majority_vote`).
    heard = {core.id: True}
    for peer, progress in core.progress.items():
        heard[peer] = progress.active
        progress.active = False
    return quorum.vote_result(core.config, heard) is VoteResult.WON


def on_peer_down(core: Core, event: PeerDown) -> None:
    """Ignore the lease of a leader whose port is dead, and prepare an election."""
    replication.on_peer_unreachable(core, PeerUnreachable(event.peer))
    if event.peer == core.leader:
        core.gone = event.peer
        core.early_attempts = 0
        schedule_early(core)


def on_early_election(core: Core, event: EarlyElection) -> None:
    """Call the election that waited for a short random time."""
    # An older token is of an election that was given up since, e.g. because this node has voted.
    is_due = event.token == core.early_token and core.gone and core.role is Role.FOLLOWER
    if is_due and core.may_stand():
        campaign(core)
