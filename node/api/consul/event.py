"""Events of users: /v1/event/fire and /v1/event/list.

Owns their shapes. They are in the log, so all members tell the same ones in the same order; Consul's
travel by gossip.
"""

from __future__ import annotations

import base64
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from ...config.command_limits import event_fault
from ...filter.patterns import PATTERN_BYTES_MAX
from ...model.user_events import PAYLOAD_BYTES_MAX, FireEvent, UserEvent
from ...model.values import uuid_text
from ...state.watching.changes import EVENTS
from ..dialect import filters, heads
from ..dialect.forms import refused
from ..dialect.questions import Question, Target, ask, ask_checked
from ..http.answers import too_large
from ..http.exchange import Deferred
from ..http.params import parse_query, text_from_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...model.commands import Outcome
    from ...state.machine import Reader
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from ..http.params import Query

WHOLE_BYTES_MAX = 64 * 1024
"""Of the payloads of a list that is made in one go."""

_FILTERS = ("node", "service", "tag")

_encode = msgspec.json.encode


def fire(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/event/fire/<name>`: `?node=`, `?service=`, `?tag=`; the body is the payload."""
    query, payload = parse_query(request.query), request.body
    name = text_from_path(rest, "name of the event")
    if not name:
        raise refused(400, "Missing name")
    if name.startswith("_"):
        raise refused(400, "Invalid name: one that begins with _ is not for users")
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise too_large("the payload is too large", len(payload), PAYLOAD_BYTES_MAX)
    for each in _FILTERS:
        size = len(query.get(each, "").encode())
        if size > PATTERN_BYTES_MAX:
            text = f"its {each} has {size:,} bytes: at most {PATTERN_BYTES_MAX} are taken"
            raise refused(400, f"Invalid event: {text}")
    node, service, tag = (query.get(each, "") for each in _FILTERS)
    event = UserEvent(uuid.uuid4().bytes, name, bytes(payload), node, service, tag)
    fault = event_fault(event)
    if fault:
        raise refused(400, f"Invalid event: {fault} is too large")

    def finish(outcome: Outcome) -> bytes:
        # Of a request that is sent again, the answer is that of the first time.
        fired = msgspec.structs.replace(
            event, id=uuid.UUID(outcome.text).bytes, index=outcome.revision
        )
        return heads.done(exchange.keys.applied_index, _encode(_shown(fired)))

    return Deferred(FireEvent(event), query, finish)


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/event/list`: `?name=`, and `?node=`, `?service=`, `?tag=`, which are patterns."""
    query = parse_query(request.query)
    name = query.get("name")
    has_patterns = any(query.get(each) for each in _FILTERS)

    def render(reader: Reader) -> bytes | Iterator[bytes | None]:
        named = (event for event in reader.events() if not name or event.name == name)
        if has_patterns:
            return _fitting(query, named)
        found = list(named)
        if sum(len(event.payload) for event in found) > WHOLE_BYTES_MAX:
            return (_encode(_shown(event)) for event in found)
        return _encode([_shown(event) for event in found])

    on = (Target(EVENTS, b""),)
    question = Question(on, lambda reader: reader.events_index(), render)
    if has_patterns:
        question = question._replace(per_slice=filters.PER_SLICE)
        check = partial(filters.patterns, query, *_FILTERS)
        return ask_checked(exchange, request, check, question)
    return ask(exchange, request, question)


def _fitting(query: Query, events: Iterator[UserEvent]) -> Iterator[bytes | None]:
    """Iterate over events: as JSON, or None for one that is for others."""
    node, service, tag = filters.patterns(query, *_FILTERS)
    for event in events:
        # An event without a filter is for everybody.
        fits = (
            (not event.node or node(event.node))
            and (not event.service or service(event.service))
            and (not event.tag or tag(event.tag))
        )
        yield _encode(_shown(event)) if fits else None


def _shown(event: UserEvent) -> dict[str, Any]:
    return {
        "ID": uuid_text(event.id),
        "Name": event.name,
        "Payload": base64.b64encode(event.payload).decode() if event.payload else None,
        "NodeFilter": event.node,
        "ServiceFilter": event.service,
        "TagFilter": event.tag,
        "Version": 1,
        "LTime": event.index,
    }
