"""The node that a shell talks to, and the next node when that one dies.

Owns the rule which requests may go to another node: a read always, a write only when it certainly
was not sent. It prints nothing itself; it calls `tell`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from ..client.api import REQUEST_TIMEOUT_S
from ..client.errors import NotConnected, Unreachable
from ..search.find import Found, live_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hstore.node.model.cluster_info import ClusterInfo

    from ..client.api import NodeClient
    from ..client.replies import Seen
    from ..search.find import Finder

T = TypeVar("T")
Ask = Callable[["NodeClient"], T]

# For the next node, which may be dead too.
_PROBE_S = 1.0

GIVE_UP_S = 30.0
"""How long a watch goes on without any node that answers, in seconds: all may be restarting."""

_PAUSE_S = 0.2


class Connection:
    """A client of a cluster. Closes: its connection, at the end of `with`.

    Attributes:
        host: As it was given.

    Args:
        finder: Finds the cluster, and makes clients.
        host: `ADDR|NAME` of a node; None: any node of the cluster that is found.
        tell: Called with a line for the user when the node changes.
        is_brief: It is for one command. Then no further request finds out first whether the node
            answers and which others there are, and so none of them is asked when it does not.
    """

    def __init__(
        self,
        finder: Finder,
        host: str | None,
        tell: Callable[[str], None],
        *,
        is_brief: bool = False,
    ) -> None:
        self.finder = finder
        self.host = host
        self._is_brief = is_brief
        self._tell = tell
        self._client: NodeClient | None = None
        self._known: list[str] = []
        self._cluster_id = ""

    def __enter__(self) -> Self:
        """Return itself. It connects at the first request."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._leave()

    @property
    def address(self) -> str:
        """Of the node it talks to; empty before the first request."""
        return self._client.address if self._client else ""

    def connect(self) -> Found:
        """Find the first node.

        Raises:
            HstoreError: As `Finder.find_at` says.
        """
        found = self.finder.find_at(self.host)
        self._take(found)
        return found

    def begin(self) -> Found:
        """Return the cluster as its node sees it now; make sure that the node answers."""
        return self.connect() if self._client is None else self.found()

    def addresses(self) -> list[str]:
        """Return the addresses of nodes for a watch of the cluster, the best first."""
        if self._client is None:
            self.connect()
        return list(dict.fromkeys([self.address, *self._known]))

    def found(self) -> Found:
        """Return the cluster as its node sees it now."""
        info = self.read(lambda client: client.cluster())
        self._learn(info)
        return Found(self.address, info)

    def read(self, ask: Ask[T]) -> T:
        """Send a request that changes nothing; to another node when this one does not answer.

        Raises:
            HstoreError: As the client's; Unreachable when no node answers.
        """
        return self._ask(ask, Unreachable)

    def write(self, ask: Ask[T]) -> T:
        """Send a request that changes something; to another node only if it was not sent to this one.

        Raises:
            OutcomeUnknown: It may have taken effect, so it was not sent again.
            HstoreError: As the client's; Unreachable when no node can be reached.
        """
        return self._ask(ask, NotConnected)

    def watch(self, prefix: str) -> Iterator[Seen]:
        """Yield the changes under a prefix from now on, from one node after another, without end.

        Raises:
            Compacted: The next node no longer has the changes after the last one seen.
            Unreachable: No node has answered for `GIVE_UP_S`.
        """
        after: int | None = None
        clock = self.finder.clock
        if not self._known:
            self.connect()
        heard_at = clock.now()
        while True:
            client = self._current()
            failure: Unreachable
            try:
                for seen in client.watch(prefix, after):
                    heard_at = clock.now()
                    after = seen.position if seen.position is not None else after
                    if seen.key is not None:
                        yield seen
            except Unreachable as error:
                failure = error
            if clock.now() - heard_at > GIVE_UP_S:
                raise failure
            if not self._move(failure, {client.address}):
                clock.sleep(_PAUSE_S)

    def _ask(self, ask: Ask[T], elsewhere: type[Unreachable]) -> T:
        tried: set[str] = set()
        while True:
            client = self._current()
            try:
                return ask(client)
            except elsewhere as error:
                tried.add(client.address)
                if not self._move(error, tried):
                    raise

    def _current(self) -> NodeClient:
        if self._client is None:
            if self._is_brief:
                address = self.finder.address_at(self.host)
                self._client = self.finder.connect(address, REQUEST_TIMEOUT_S)
                return self._client
            return self._take(self.finder.find_at(self.host))
        return self._client

    def _move(self, failure: Unreachable, tried: set[str]) -> bool:
        """Connect to another node that answers; return whether there is one."""
        for address in list(self._known):
            if address in tried:
                continue
            try:
                with self.finder.connect(address, _PROBE_S) as client:
                    found = Found(address, client.cluster())
            except Unreachable:
                tried.add(address)
                continue
            if found.info.cluster_id != self._cluster_id:
                tried.add(address)  # another cluster has the address now
                continue
            self._take(found)
            reason = str(failure).partition("; ")[0]
            self._tell(f"{reason}: now at {address}")
            return True
        return False

    def _take(self, found: Found) -> NodeClient:
        self._leave()
        client = self._client = self.finder.connect(found.address, REQUEST_TIMEOUT_S)
        self._learn(found.info)
        return client

    def _learn(self, info: ClusterInfo) -> None:
        self._cluster_id = info.cluster_id
        rest = [node.address for node in info.nodes]
        self._known = list(dict.fromkeys([*live_addresses(info), *rest, self.address]))

    def _leave(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None
