"""What is not compared, though it is of the kind that must agree, and why.

Two things are waived. What our core does on purpose everywhere is recognized where it shows
(`replay.py` and `nodes.py` say when); what follows from it in one file only is a row of the table
and nothing else. The table has both, for the files that we know: a test holds it to what a run of
them finds. What a run of any files waives is printed at its end, with its count.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS_DOWN = "a leader that is removed steps down once that is committed (thesis 4.2.2)"
LET_IN = "a leader that is being removed takes no more commands: let in past it"
NOT_TOLD = "who is removed is fed no more: a configuration is in force from its append (rule R9)"
REFUSED = "a pre-vote that a lease forbids is refused, not ignored"
OLD_VOTE = "who asks for a vote in an old term is told the new one"
OLD_LEADER = "who leads in an old term is told the new one"
POLICIES = frozenset({STEPS_DOWN, LET_IN, NOT_TOLD, REFUSED, OLD_VOTE, OLD_LEADER})
"""Recognized in any file, wherever they show. A row with another reason waives its own line."""

NEW_QUORUM = "the quorum of a removal is the new one: it commits later, and with more (rule R9)"


@dataclass(frozen=True, slots=True, order=True)
class Waiver:
    """One fact that is not compared."""

    file: str
    line: int
    reason: str


WAIVERS: tuple[Waiver, ...] = (
    Waiver("confchange_v1_remove_leader.txt", 43, LET_IN),
    Waiver("confchange_v1_remove_leader.txt", 77, LET_IN),
    Waiver("confchange_v1_remove_leader.txt", 248, STEPS_DOWN),
    Waiver("confchange_v1_remove_leader_stepdown.txt", 44, LET_IN),
    Waiver("confchange_v1_remove_leader_stepdown.txt", 78, LET_IN),
    Waiver("confchange_v1_remove_leader_stepdown.txt", 98, NEW_QUORUM),
    Waiver("confchange_v1_remove_leader_stepdown.txt", 128, NEW_QUORUM),
    Waiver("confchange_v1_remove_leader_stepdown.txt", 159, NEW_QUORUM),
    Waiver("confchange_v2_add_double_auto.txt", 306, NOT_TOLD),
    Waiver("confchange_v2_add_double_auto.txt", 321, NOT_TOLD),
    Waiver("confchange_v2_add_double_auto.txt", 370, NOT_TOLD),
    Waiver("confchange_v2_add_double_auto.txt", 379, NOT_TOLD),
    Waiver("confchange_v2_add_double_auto.txt", 382, NOT_TOLD),
    Waiver("confchange_v2_add_double_auto.txt", 391, NOT_TOLD),
    Waiver("forget_leader_prevote_checkquorum.txt", 45, REFUSED),
)
