"""One session, renewed until it has ended.

Owns the renewals. What has to happen when the session has ended or may have, is in `holding.py`.
"""

from __future__ import annotations

import contextlib

import trio

from hstore.node.errors import HstoreError

from ..client import sessions
from ..client.errors import NotFound
from .lease import Lease
from .members import Members

_LEARN_S = 60.0
"""How often it asks who the members are: while a lock is held for weeks, all of them may change."""

_ATTEMPT_S_MAX = 3.0
CREATE_S = 10.0
"""How long a creation is tried; a new leader is there after 2 s."""


class Session:
    """A session of this process.

    Attributes:
        id: Of the session.
        lease: Until when it lives for certain.
        ended: It has ended for certain, or no longer holds the lock.
        why: What is known of that; empty while it has not ended.
    """

    def __init__(self, id_: str, lease: Lease, members: Members) -> None:
        """Begin with a session that was just created."""
        self.id = id_
        self.lease = lease
        self.ended = trio.Event()
        self.why = ""
        self._members = members

    @classmethod
    async def create(cls, members: Members, asked: dict[str, object], ttl_s: float) -> Session:
        """Create one.

        Raises:
            HstoreError: The cluster refuses it, or has no leader for `CREATE_S`.
        """
        id_, sent_at = await members.ask(
            lambda client: sessions.create(client, asked), _ATTEMPT_S_MAX, CREATE_S
        )
        return cls(id_, Lease(ttl_s, sent_at), members)

    def end(self, why: str) -> None:
        """Take note that it has ended."""
        self.why = self.why or why
        self.ended.set()

    def may_be_lost(self) -> bool:
        """Tell whether a command must not go on."""
        return self.ended.is_set() or self._members.now() >= self.lease.terminate_at

    async def renew(self) -> None:
        """Renew it once; where it has ended, take note of that.

        Cancellation: the renewal may have taken place, and is not counted.
        """
        attempt_s = min(self.lease.every_s, _ATTEMPT_S_MAX)
        try:
            _, sent_at = await self._members.ask(
                lambda client: sessions.renew(client, self.id), attempt_s
            )
        except NotFound:
            self.end("its session has ended")
        except HstoreError:
            await trio.sleep(self.lease.every_s)  # not counted; only an answered one is
        else:
            self.lease.renewed(sent_at)

    async def keep(self) -> None:
        """Renew it until it has ended."""
        learned_at = self._members.now()
        while not self.ended.is_set():
            await self._members.sleep_until(self.lease.renew_at)
            await self.renew()
            if self._members.now() - learned_at >= _LEARN_S:
                learned_at = self._members.now()
                await self._learn()

    async def _learn(self) -> None:
        every_s = self.lease.every_s
        with trio.move_on_after(every_s), contextlib.suppress(HstoreError):
            info, _ = await self._members.ask(lambda client: client.cluster(), every_s)
            self._members.learn(info)
