"""What happens to a query that has come in: it is answered now, held, or forwarded to a recursor.

The same for UDP and TCP, which differ only in how a later reply travels (`held.Asker`). No query ends
the server: one on which our code raises gets SERVFAIL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from .aliases import AliasQuery, asked_next, followed
from .answers import TCP_LIMIT, Answers
from .held import Asker, Held
from .ip_literals import is_loopback
from .message import Query, empty_reply
from .records import Rcode
from .recursor import Recursor, may_recurse
from .view import ClusterView

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DnsStats:
    """Counts since the start.

    Attributes:
        queries: Datagrams and TCP messages taken in, good and bad.
        replies: Replies handed to the kernel.
        unsent: UDP replies that the kernel did not take.
        limited: UDP queries beyond their network's rate: dropped, or answered with TC.
        failures: Queries on which our code raised; they got SERVFAIL.
        evicted: Connections that were ended to make room for newer ones.
        unaccepted: Times that the system refused to hand over a connection.
        unheld: Queries that would have been held, but for lack of room.
    """

    queries: int = 0
    replies: int = 0
    unsent: int = 0
    limited: int = 0
    failures: int = 0
    evicted: int = 0
    unaccepted: int = 0
    unheld: int = 0


class Dispatch:
    """Decides for each query whether it is answered now, held, or forwarded.

    Args:
        answers: Makes the replies.
        recursor: Resolves names outside the zone, for clients that may ask; None: they get REFUSED.
        is_current: Tells whether the leader that a view names may still be named.

    Attributes:
        answers: As given.
        held: The questions whose names are not available yet.
        stats: Counts of the whole server.
        counts: Its replies, by kind of name, type, rcode and transport.
    """

    def __init__(
        self, answers: Answers, recursor: Recursor | None, is_current: Callable[[], bool]
    ) -> None:
        """Hold nothing yet."""
        self.answers = answers
        self.held = Held(answers.is_available, self._answer_held, self._fail_held)
        self.stats = DnsStats()
        self.counts = answers.counts
        self._recursor = recursor
        answers.follows = recursor is not None
        self._is_current = is_current
        self._view = self._without_leader = answers.view
        self._names_leader = False

    @property
    def view(self) -> ClusterView | None:
        """The cluster as it was set last; the leader in it is named only while that is current.

        Raises:
            ValueError: On setting, as for `Answers.view`.
        """
        return self._view

    @view.setter
    def view(self, view: ClusterView | None) -> None:
        has_leader = view is not None and view.leader is not None
        without_leader = replace(view, leader=None) if view is not None and has_leader else view
        names_leader = has_leader and self._is_current()
        self.answers.view = view if names_leader else without_leader
        self._view, self._without_leader = view, without_leader
        self._names_leader = names_leader
        self.held.look()

    def note_contact(self) -> None:
        """Name the view's leader from now on if it is current, else none.

        To be called before queries are answered. That it is current again answers what is held for it.
        """
        if self._view is self._without_leader:
            self.answers.note_age()
            return
        is_current = self._is_current()
        if is_current is not self._names_leader:
            self.answers.view = self._view if is_current else self._without_leader
            self._names_leader = is_current
            if is_current:
                self.held.look()
        if not is_current:
            self.answers.note_age()

    def reply(
        self,
        packet: bytes,
        asker: Callable[[], Asker],
        *,
        over_tcp: bool = False,
        is_near: bool = False,
    ) -> bytes | None:
        """Return the reply to send now; None: there is none, or the asker gets it later.

        Args:
            packet: A datagram, or a message of a TCP stream.
            asker: Returns the client and the way to it; called only if the reply comes later.
            over_tcp: Whether it came over TCP.
            is_near: Whether it came by UDP from a loopback address.
        """
        try:
            reply = self.answers.reply(packet, over_tcp=over_tcp, is_near=is_near, asker=asker)
        except Exception:  # a query that meets a bug must not end the server
            if self._count_failure():
                log.exception("dns query failed", count=self.stats.failures, query=packet.hex())
            reply = self.answers.failure(packet)
        if isinstance(reply, Query):
            reply = self._reply_later(reply, asker())
        elif reply is not None and self._recursor is not None and _is_refused(reply):
            query = self.answers.outside(packet)
            if query is not None and self._forward(query, asker()):
                return None
        if reply is not None:
            if over_tcp:
                self.counts.replied_by_tcp(packet, reply)
            else:
                self.counts.replied(packet, reply)
        return reply

    def _reply_later(self, query: Query, asker: Asker) -> bytes | None:
        """Forward or hold a query; return a reply only if neither can be done."""
        if isinstance(query, AliasQuery):
            return None if self._forward(query, asker) else query.reply
        return self._hold(query, asker)

    async def resolve(self, query: Query, limit: int) -> bytes:
        """Return a recursor's reply to a query that `Asker.forward` got.

        Args:
            query: The query.
            limit: The most bytes that the client takes.

        Cancellation: the client gets no reply.
        """
        reply = await self._resolve(query, limit)
        is_ours = isinstance(query, AliasQuery)
        over_tcp = limit == TCP_LIMIT
        self.counts.replied_later(query.question, reply, over_tcp=over_tcp, is_outside=not is_ours)
        return reply

    async def _resolve(self, query: Query, limit: int) -> bytes:
        recursor = self._recursor
        if recursor is None:
            raise RuntimeError("a query was forwarded that has no recursor")
        try:
            if isinstance(query, AliasQuery):
                return await self._resolve_alias(recursor, query, limit)
            return await recursor.resolve(query, limit)
        except Exception:  # one reply that meets a bug must not end the server
            if self._count_failure():
                log.exception("dns forwarding failed", count=self.stats.failures)
            return empty_reply(query, Rcode.SERVFAIL, ra=True)

    async def _resolve_alias(self, recursor: Recursor, query: AliasQuery, limit: int) -> bytes:
        """Return an answer of ours that ends in another name, with what that name has."""
        found = await recursor.resolve(asked_next(query), TCP_LIMIT)
        reply = followed(query, found)
        return reply if len(reply) <= limit else empty_reply(query, Rcode.NOERROR, aa=True, tc=True)

    def _forward(self, query: Query, asker: Asker) -> bool:
        """Forward a query that has got REFUSED, if a recursor may answer this client."""
        if not may_recurse(asker.host):
            return False
        asker.forward(query)
        return True

    def _hold(self, query: Query, asker: Asker) -> bytes | None:
        """Hold a query; return a reply only if it cannot be held."""
        if self.held.hold(query, asker):
            return None
        if self.held.is_stopped:
            return self.answers.unavailable(query)
        self.stats.unheld += 1
        # Silence makes a UDP client ask another server. Over TCP it would only wait.
        return self.answers.unavailable(query) if asker.over_tcp else None

    def _answer_held(self, query: Query, asker: Asker) -> bool:
        self.note_contact()
        try:
            is_near = not asker.over_tcp and is_loopback(asker.host)
            reply = self.answers.answer(
                query, over_tcp=asker.over_tcp, is_near=is_near, asker=lambda: asker
            )
        except Exception:  # as in `reply`
            if self._count_failure():
                log.exception("held dns query failed", count=self.stats.failures, name=query.name)
            reply = self.answers.unavailable(query)
        if isinstance(reply, AliasQuery):
            if not self._forward(reply, asker):
                self._send(query, asker, reply.reply)
            return True
        if isinstance(reply, Query):
            return False
        # Without a view even names outside the zone are held.
        is_outside = self._recursor is not None and _is_refused(reply)
        if not (is_outside and self.answers.is_outside(query) and self._forward(query, asker)):
            self._send(query, asker, reply)
        return True

    def _fail_held(self, query: Query, asker: Asker) -> None:
        self._send(query, asker, self.answers.unavailable(query))

    def _send(self, query: Query, asker: Asker, reply: bytes) -> None:
        """Send the reply to a query that was held."""
        self.counts.replied_later(query.question, reply, over_tcp=asker.over_tcp)
        asker.send(reply)

    def _count_failure(self) -> bool:
        """Count a failure, and tell whether to log it: the 1st, 2nd, 4th, 8th, ...

        A flood of failures must not fill the log.
        """
        self.stats.failures += 1
        return self.stats.failures & (self.stats.failures - 1) == 0


def _is_refused(reply: bytes) -> bool:
    return reply[3] & 15 == Rcode.REFUSED
