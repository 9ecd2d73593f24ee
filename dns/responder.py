"""A node's side of multicast DNS: it announces itself, answers, and says goodbye (RFC 6762).

Owns which query gets which reply, how often, and when. The records are in `multicast.py`, which also
says what is left out.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import structlog
import trio

from .message import MalformedError
from .multicast import (
    PACKET_MAX,
    PORT,
    SERVICE,
    TOP_BIT,
    TTL_S,
    Announced,
    Offer,
    offers,
    pack_response,
)
from .records import CLASS_IN, Name, Record, RRType
from .wire import parse_multicast_query

# RFC 6762 section 6.7: the TTL for a legacy querier, which gets no later corrections.
_LEGACY_TTL_S = 10
# A query for all records of a node has two. Of a longer query only the first ones are answered.
_QUESTIONS_MAX = 8

# RFC 6762 section 6: the least time between two multicasts of a record, and the random delay of a
# reply that other hosts may send too.
_MULTICAST_PAUSE_S = 1.0
_DELAY_S = (0.020, 0.120)
# Unicast replies a second. A search sends five queries, so this serves a hundred searches at once.
UNICAST_PER_S = 500
# RFC 6762 section 8.3: at least two, one second apart.
_ANNOUNCEMENTS = 2
_ANNOUNCE_PAUSE_S = 1.0
# After an error of the network, which may last.
_ERROR_PAUSE_S = 1.0

_ANY_CLASS = 255

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, and whether it goes to the querier or to the group."""

    packet: bytes
    is_unicast: bool


class Responder:
    """Answers for one node on its network.

    Args:
        announced: Returns the present facts; None: the node has no cluster yet.
        link: A socket of `multicast_sockets.open_responder`.
        group: Address and port of the group.
        rng: For the delays.

    Closes:
        The socket, when `run` ends.
    """

    def __init__(
        self,
        announced: Callable[[], Announced | None],
        link: socket.socket,
        group: tuple[str | int, ...],
        rng: Random,
    ) -> None:
        self._announced = announced
        self._link = link
        self._group = group
        self._rng = rng
        self._sent_at: dict[Record, float] = {}
        self._second, self._unicasts = 0, 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce and answer until cancelled, and then say goodbye."""
        with contextlib.closing(self._link):
            self._link.setblocking(False)
            task_status.started()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._announce)
                    nursery.start_soon(self._serve)
            finally:
                now = self._announced()
                if now is not None:
                    # RFC 6762 section 10.1: a TTL of 0 withdraws a record.
                    self._multicast(pack_response(offers(now), ttl_s_max=0))

    def reply(self, packet: bytes, port: int, now: float) -> Reply | None:
        """Return the reply to a packet; None: there is none.

        Args:
            packet: The packet.
            port: Its source port, which tells a legacy querier.
            now: The time, in seconds.
        """
        announced = self._announced()
        try:
            query = parse_multicast_query(packet)
        except MalformedError:
            return None
        if announced is None:
            return None
        questions = query.questions[:_QUESTIONS_MAX]
        known = {(r.owner, r.rdata) for r in query.known if 2 * r.ttl_s >= TTL_S}
        everything = offers(announced)
        answers = [
            one
            for one in everything
            if any(_answers(one.record, question) for question in questions)
            and (one.record.owner, one.record.rdata) not in known
        ]
        is_legacy = port != PORT
        is_unicast = is_legacy or all(rclass & TOP_BIT for _, _, rclass in questions)
        if not is_unicast:
            answers = [one for one in answers if self._is_due(one.record, now)]
        if not answers or (is_unicast and not self._may_send(now)):
            return None
        more = _additional(answers, everything)
        if is_legacy:
            # RFC 6762 section 6.7: as from an ordinary server.
            head = [(name, rtype) for name, rtype, _ in questions]
            return Reply(
                pack_response(
                    answers, more, ident=query.ident, legacy=head, ttl_s_max=_LEGACY_TTL_S
                ),
                is_unicast,
            )
        if not is_unicast:
            self._sent_at = {
                r: at for r, at in self._sent_at.items() if now - at < _MULTICAST_PAUSE_S
            }
            self._sent_at.update((one.record, now) for one in answers)
        return Reply(pack_response(answers, more), is_unicast)

    def _is_due(self, record: Record, now: float) -> bool:
        return now - self._sent_at.get(record, -_MULTICAST_PAUSE_S) >= _MULTICAST_PAUSE_S

    def _may_send(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._unicasts = int(now), 0
        self._unicasts += 1
        return self._unicasts <= UNICAST_PER_S

    async def _announce(self) -> None:
        """Announce the records whenever they change."""
        said: list[Offer] = []
        while True:
            announced = self._announced()
            # Names in the zone have a TTL of about a second, so their changes are not announced.
            everything = [] if announced is None else offers(announced)
            new = [one for one in everything if one.record.ttl_s >= TTL_S]
            if new != said:
                said = new
                for _ in range(_ANNOUNCEMENTS):
                    self._multicast(pack_response(said))
                    await trio.sleep(_ANNOUNCE_PAUSE_S)
            else:
                await trio.sleep(_ANNOUNCE_PAUSE_S)

    async def _serve(self) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(self._link)
                packet, address = self._link.recvfrom(PACKET_MAX)
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("multicast DNS", error=str(error))
                await trio.sleep(_ERROR_PAUSE_S)
                continue
            reply = self.reply(packet, address[1], trio.current_time())
            if reply is None:
                await trio.lowlevel.checkpoint()
            elif reply.is_unicast:
                self._send(reply.packet, address)
            else:
                await trio.sleep(self._rng.uniform(*_DELAY_S))
                self._multicast(reply.packet)

    def _multicast(self, packet: bytes) -> None:
        self._send(packet, self._group)

    def _send(self, packet: bytes, address: tuple[str | int, ...]) -> None:
        # Without waiting: for a reply that the kernel does not take, the querier asks again.
        with contextlib.suppress(OSError):
            self._link.sendto(packet, address)


def _answers(record: Record, question: tuple[Name, int, int]) -> bool:
    name, rtype, rclass = question
    return (
        record.owner == name
        and rtype in {record.rtype, RRType.ANY}
        and rclass & ~TOP_BIT in {CLASS_IN, _ANY_CLASS}
    )


def _additional(answers: Sequence[Offer], everything: Iterable[Offer]) -> list[Offer]:
    """Return the records that the querier needs next (RFC 6763 section 12): the instance's."""
    if not any(one.record.owner[-len(SERVICE) :] == SERVICE for one in answers):
        return []
    return [one for one in everything if one.is_unique and one not in answers]
