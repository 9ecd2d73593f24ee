"""Events that users fire: named notes to everybody, kept in the log, told in one order."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .numbers import Unsigned

EVENTS_MAX = 256
"""Events that are kept; the oldest goes."""
PAYLOAD_BYTES_MAX = 4096
EVENT_TEXT_BYTES_MAX = 4096
"""Of the name and the filters of an event together."""

EventId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class UserEvent(msgspec.Struct, frozen=True, gc=False):
    """An event.

    Attributes:
        id: Its UUID, as 16 bytes.
        name: Not empty; does not begin with `_`.
        payload: As its sender gave it.
        node, service, tag: Filters that its sender gave, for receivers to look at.
        index: The Raft index at which it was fired; it is its `LTime` as well.
    """

    id: EventId
    name: str
    payload: bytes
    node: str = ""
    service: str = ""
    tag: str = ""
    index: Unsigned = 0


class FireEvent(msgspec.Struct, frozen=True, array_like=True, tag="e", gc=False):
    """Tell everybody; `event.index` is set when it takes effect."""

    event: UserEvent
