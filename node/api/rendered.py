"""What requests to one node share: bodies of answers, kept until what they show has changed, and waits.

Owns how many bodies are kept, and for how long each is good. What is in a body, the handlers know.

Theory of operation. The index of a result moves with whatever changes the result, so it is the version
of the body: a body is good exactly while the index of its service is the one that it was made at, and
nothing has to be dropped when the state changes. The settings have to be the same as well, since the
datacenter is in the body. A body is kept when it is made for the second time: of thousands of clients
that each wait for a service of their own, most bodies are wanted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model.commands import ClusterSettings
    from .backend import Backend

BYTES_MAX = 16 * 1024 * 1024
"""Of all bodies with their keys: beyond it, the older half goes."""
BODY_BYTES_MAX = 64 * 1024
KEY_BYTES_MAX = 1024
_OVERHEAD_BYTES = 400
"""What an entry takes beside its body and the parts of its key."""
_ASKED_MAX = 16_384

Key = tuple[bytes, bytes, bytes]
"""What is shown, the end of the path, and what narrows the result in the query, as they were sent."""


class Hot:
    """A body.

    Attributes:
        folded: The folded name of the service.
        index: Of the result.
        body: JSON.
    """

    __slots__ = ("_settings", "body", "folded", "index")

    def __init__(self, folded: bytes, index: int, settings: ClusterSettings, body: bytes) -> None:
        self.folded = folded
        self.index = index
        self._settings = settings
        self.body = body

    def is_good(self, backend: Backend) -> bool:
        """Whether the body is what would be made now."""
        return (
            backend.catalog.service_index(self.folded) == self.index
            and backend.settings.cluster_settings is self._settings
        )


class Latest:
    """What all streams of one kind send at the same time, made once for all of them."""

    __slots__ = ("_content", "_mark")

    def __init__(self) -> None:
        self._mark: tuple[int, ...] = ()
        self._content = b""

    def content(self, mark: tuple[int, ...], make: Callable[[], bytes]) -> bytes:
        """Return what was made with the same mark, or make it.

        Args:
            mark: Not empty; another one when it has to be made anew.
            make: Makes it.
        """
        if mark != self._mark:
            self._content = make()
            self._mark = mark
        return self._content


class Rendered:
    """The bodies of a server.

    Args:
        backend: The node, whose local copy they are made from.

    Attributes:
        names: The body with the names of all services, after the index that it was made at.
        crowds: By the folded name of a service that is on many nodes, who waits for it
            (`dialect/crowds.py`).
        cluster: What streams of the cluster's events send.
        dashboard: What streams of the dashboard send.
    """

    __slots__ = (
        "_asked", "_backend", "_bodies", "_size", "cluster", "crowds", "dashboard", "names",
    )  # fmt: skip

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._bodies: dict[Key, Hot] = {}
        self._size = 0
        self.names: tuple[int, bytes] | None = None
        self.crowds: dict[bytes, Any] = {}
        self.cluster, self.dashboard = Latest(), Latest()
        # By their hashes, keys whose bodies were made once: one that is wrong for a key of the same
        # hash keeps a body too many, and that is all.
        self._asked: set[int] = set()

    def __contains__(self, key: Key) -> bool:
        """Whether there is a body, good or not: a request with this key has been answered before."""
        return key in self._bodies

    def get(self, key: Key) -> Hot | None:
        """Return the body if it is good."""
        hot = self._bodies.get(key)
        return hot if hot is not None and hot.is_good(self._backend) else None

    def put(self, key: Key, folded: bytes, index: int, body: bytes) -> None:
        """Keep a body that was made just now, unless it is too large or was never asked for before.

        Args:
            key: What was asked.
            folded: The folded name of the service, which has an instance.
            index: Of the result.
            body: JSON.
        """
        if len(body) > BODY_BYTES_MAX or len(key[1]) + len(key[2]) > KEY_BYTES_MAX:
            return
        before = self._bodies.pop(key, None)
        if before is not None:
            self._size -= _size(key, before)
        elif not self._was_asked(key):
            return
        hot = Hot(folded, index, self._backend.settings.cluster_settings, body)
        self._bodies[key] = hot
        self._size += _size(key, hot)
        if self._size > BYTES_MAX:
            self._forget_half()

    def _was_asked(self, key: Key) -> bool:
        mark = hash(key)
        if mark in self._asked:
            return True
        if len(self._asked) >= _ASKED_MAX:
            self._asked.clear()
        self._asked.add(mark)
        return False

    def _forget_half(self) -> None:
        for key in list(self._bodies):
            if self._size <= BYTES_MAX // 2:
                return
            self._size -= _size(key, self._bodies.pop(key))


def _size(key: Key, hot: Hot) -> int:
    return len(key[1]) + len(key[2]) + len(hot.body) + _OVERHEAD_BYTES
