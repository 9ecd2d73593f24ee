"""Why there is no leader, and which command ends that: for clients, operators and the log.

A function of what one node knows. The same knowledge gives the same text, so a change of the text
is worth a line in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..driver.facts import Facts
from ..raft import quorum
from ..raft.quorum import VoteResult
from .health import STRANGER, Judgement

_RECOVERED = (
    "; if that other cluster was recovered from this one, `hstore join` it with an empty directory"
)


def why_no_leader(facts: Facts, seen: Mapping[int, Judgement], data_dir: str) -> str:
    """Return why no leader is elected, as far as this node knows, and what ends that.

    Args:
        facts: What the node knows.
        seen: How each member looks from here (`Health.seen_alone`).
        data_dir: The directory of this node, for the command that is named.
    """
    config = facts.config
    voters = config.all_voters()
    recover = f"`hstore recover --data-dir {data_dir or 'DIR'}`"
    if not voters:
        return "there is no leader, and this node has not heard from its cluster yet"
    health = {voter: seen[voter][0] for voter in voters}
    lost = [voter for voter in voters if health[voter] == "recovering"]
    if lost and not _has_majority(facts, [voter for voter in voters if voter not in lost]):
        if voters == (facts.id,):
            return (
                "there can be no leader: this node is the only voter, and its disk has lost log "
                f"that it had acknowledged. Stop it; {recover} shows what is left, and how to go "
                "on with that"
            )
        return (
            f"there can be no leader: {_and(_name(facts, node) for node in lost)} lost log that "
            "it had acknowledged, which takes away its vote until a leader sends that log again; "
            f"the others are no majority of {len(voters)} voters. Stop the nodes; {recover} shows "
            "what a directory holds, and how to go on with the one that holds most"
        )
    reached = [voter for voter in voters if health[voter] == "alive"]
    if not _has_majority(facts, reached):
        missing = [voter for voter in voters if health[voter] not in ("alive", "recovering")]
        missing.sort(key=lambda voter: _name(facts, voter))
        needed = len(config.voters) // 2 + 1
        but = _but_lost(facts, lost)
        described = ", ".join(_described(facts, node, seen[node][3]) for node in missing)
        strangers = any(seen[node][3] == STRANGER for node in missing)
        return (
            f"there is no leader: electing one takes {needed} of {len(config.voters)} voters, and "
            f"these are missing: {described}{but}. Start them, or mend the network to them; if "
            f"they are lost for good, {recover} shows how to go on without them"
            f"{_RECOVERED if strangers else ''}"
        )
    own = f", but this node {facts.lost_log}" if facts.lost_log else ""
    return f"there is no leader at the moment, or this node cannot reach it{own}; try again"


def _has_majority(facts: Facts, voters: list[int]) -> bool:
    config = facts.config
    votes = {voter: voter in voters for voter in config.all_voters()}
    return quorum.vote_result(config, votes) is VoteResult.WON


def _but_lost(facts: Facts, lost: list[int]) -> str:
    if not lost:
        return ""
    names = _and(_name(facts, node) for node in lost)
    return f"; {names} lost acknowledged log, and does not vote yet"


def _described(facts: Facts, node: int, reason: str) -> str:
    """Return name, address and reason of a member."""
    member = facts.members.get(node)
    where = f" at {member.address}" if member else ""
    return f"{_name(facts, node)}{where} ({reason})"


def _name(facts: Facts, node: int) -> str:
    if node == facts.id:
        return "this node"
    member = facts.members.get(node)
    return member.name if member else f"node {node:016x}"


def _and(parts: Iterable[str]) -> str:
    """Join words as a list."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
