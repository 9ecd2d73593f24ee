"""Words of clients about TTL checks that another member keeps: how they get there, and what it answers.

The check of an external node is kept by the leader, that of a member by the member (`runner.py`). Owns
the bytes of a word between members, and those that have to wait for a new leader.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import NotLeading, Request
from ..errors import HstoreError, NoLeader, NotApplied, OutcomeUnknown, Overloaded, Refused
from ..model.checks import OUTPUT_BYTES_MAX, CheckStatus, Word
from ..model.commands import Outcome
from ..model.numbers import Unsigned
from ..peers.wire import ForwardKind

HELD_MAX = 4096
"""Words that wait for a new leader; one more is refused as overload."""


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is said of which check.

    Attributes:
        number: Of the node in the catalog.
        check: The ID of the check.
        status, output: What it says from now on; the beginning of a note that is too long.
        total: How many bytes the whole note has.
    """

    number: Unsigned
    check: str
    status: CheckStatus
    output: str
    total: Unsigned = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Said)


def encode(number: int, check: str, status: CheckStatus, output: str) -> bytes:
    """Return the `data` of a `Forward` of kind WORD; no more of a note travels than can be kept."""
    whole = output.encode("utf-8", "replace")
    kept = whole[:OUTPUT_BYTES_MAX].decode("utf-8", "ignore")
    return _encoder.encode(Said(number, check, status, kept, len(whole)))


def decode(data: bytes) -> Said:
    """Return what such `data` says.

    Raises:
        Refused: It is not that.
    """
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise Refused(f"the word is not understood: {error}") from None


def _silent() -> NoLeader:
    return NoLeader("the member that keeps this check does not answer; try again")


class Keeper(Protocol):
    """Keeps the TTLs of this node, as `PassedWords` uses it."""

    def word(
        self, number: int, check: str, status: CheckStatus, output: str, total: int = 0
    ) -> Word:
        """Take a word about a check that is kept here."""
        ...

    def look(self) -> None:
        """Notice who leads."""
        ...


class PassedWords:
    """Passes words on, and takes those that others pass here."""

    def __init__(self, replica: Replica, keys: Keys, keeper: Keeper) -> None:
        self._replica = replica
        self._facts = replica.facts
        self._keys = keys
        self._keeper = keeper
        # Until this leader has applied what it took over: it may not know a check before that.
        self._held: list[Request] = []

    async def say(
        self, number: int, check: str, status: CheckStatus, output: str, deadline: float
    ) -> Word:
        """Have a word taken where the check is kept: by the leader, or the member whose node it is.

        Args:
            number: Of the node of the check.
            check: Its ID.
            status: What it says from now on.
            output: Why.
            deadline: Until when.

        Raises:
            NoLeader, Overloaded: It was certainly not taken.
            OutcomeUnknown: Perhaps it was taken.

        Cancellation: perhaps it was taken.
        """
        keeper = self._keys.member_of(number)
        if keeper == self._facts.id:
            return self._keeper.word(number, check, status, output)
        data = encode(number, check, status, output)
        request = Request(ForwardKind.WORD, data, deadline)
        if not keeper:
            self._replica.submit(request)  # Here too, if this node leads: `handle` gets it.
        elif self._replica.is_connected(keeper):
            self._replica.intake.forward_to(keeper, request)
        else:
            raise _silent()
        try:
            taken: Word = await request.wait()
        except (NoLeader, NotApplied) as error:
            if request.passed_to:
                raise OutcomeUnknown(f"{error}; the word may have been taken") from None
            raise
        return taken

    def handle(self, request: Request) -> None:
        """Take a word that another member has passed here, or that waited here for a leader."""
        try:
            said = decode(request.data)
        except Refused as error:
            request.finish(error)
            return
        facts, is_own = self._facts, said.number == self._keys.own_number
        if not is_own and self._keys.member_of(said.number):
            request.finish(_silent())
        elif not is_own and not facts.is_leader:
            request.finish(NotLeading())
        elif not is_own and not facts.is_own_term_applied:
            self._hold(request)
        else:
            self._keeper.look()
            word = self._word(said)
            if word is Word.UNKNOWN and is_own and facts.leader and not facts.is_leader:
                self._look_later(request, said)
            else:
                request.finish(word)

    def _word(self, said: Said) -> Word:
        return self._keeper.word(said.number, said.check, said.status, said.output, said.total)

    def _look_later(self, request: Request, said: Said) -> None:
        """Take a word after a barrier: another member may have answered the registration first."""

        def caught_up(result: Outcome | HstoreError | None) -> None:
            request.finish(result if isinstance(result, HstoreError) else self._word(said))

        try:
            if self._keys.begin_read(request.deadline, caught_up) is None:
                request.finish(Word.UNKNOWN)
        except Overloaded as error:
            request.finish(error)

    def look(self) -> None:
        """Who leads may have changed, or time has passed: answer what can be answered now."""
        held, self._held = self._held, []
        for request in held:
            if request.deadline <= trio.current_time():
                request.finish(NoLeader("no majority has confirmed the leader in time; try again"))
            elif not request.is_done:
                self.handle(request)

    def _hold(self, request: Request) -> None:
        if len(self._held) >= HELD_MAX:
            request.finish(Overloaded("too many wait for a new leader; try again in a moment"))
        else:
            self._held.append(request)
