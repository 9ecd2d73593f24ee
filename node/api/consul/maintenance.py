"""Maintenance: /v1/agent/maintenance and service/maintenance, as checks that are critical while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...model.checks import (
    CHECK_ID_BYTES_MAX,
    NODE_MAINTENANCE,
    NOTES_BYTES_MAX,
    SERVICE_MAINTENANCE,
    CheckDefinition,
)
from ...model.commands import Denial
from ...model.services import SERVICE_ID_BYTES_MAX, Deregister, GivenCheck, RegisterCheck
from ..dialect import heads, queries
from ..dialect.forms import refused
from ..http.exchange import Deferred
from ..http.params import parse_query, text_from_path
from . import place
from .bodies.parts import cut, is_longer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.commands import Outcome
    from ..http.answers import HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from ..http.params import Query

_MAINTENANCE = CheckDefinition("maintenance")
_NODE_NAME, _SERVICE_NAME = "Node Maintenance Mode", "Service Maintenance Mode"


def node(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/agent/maintenance`: `?enable=`, `?reason=`, `?node=`."""
    query = parse_query(request.query)
    is_on = _is_on(query)
    notes = _notes(query, "node")
    where = place.place_of(exchange, query, makes=False)
    if is_on:
        check = GivenCheck(NODE_MAINTENANCE, _NODE_NAME, "critical", notes, definition=_MAINTENANCE)
        command = RegisterCheck(where, check)
        return place.write(exchange, request, query, command, place.denied)

    def finish(outcome: Outcome) -> bytes:
        if not outcome.ok and outcome.denial != Denial.NO_CHECK:
            raise place.denied(outcome)
        return heads.empty(exchange.keys.applied_index)

    return _off(request, query, Deregister(where, check=NODE_MAINTENANCE), finish)


def service(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/agent/service/maintenance/<id>`: `?enable=`, `?reason=`, `?node=`."""
    service_id = text_from_path(rest, "service ID")
    if not service_id:
        raise refused(400, "Missing service ID")
    query = parse_query(request.query)
    is_on = _is_on(query)
    notes = _notes(query, "service")
    if is_longer(service_id, SERVICE_ID_BYTES_MAX):
        raise _unknown(service_id)
    check_id = SERVICE_MAINTENANCE + service_id
    if is_longer(check_id, CHECK_ID_BYTES_MAX):
        most = CHECK_ID_BYTES_MAX - len(SERVICE_MAINTENANCE)
        raise refused(
            400, f"Invalid service ID: maintenance is for those of at most {most:,} bytes"
        )
    where = place.place_of(exchange, query, makes=False)

    def refusal(outcome: Outcome) -> HttpError:
        if outcome.denial in {Denial.NO_SERVICE_OF_CHECK, Denial.NO_SERVICE, Denial.NO_NODE}:
            return _unknown(service_id)
        return place.denied(outcome)

    if is_on:
        check = GivenCheck(
            check_id, _SERVICE_NAME, "critical", notes, definition=_MAINTENANCE, service=service_id
        )
        return place.write(exchange, request, query, RegisterCheck(where, check), refusal)

    def finish(outcome: Outcome) -> bytes:
        if outcome.denial == Denial.NO_CHECK:
            return heads.empty(exchange.keys.applied_index)  # It was not under maintenance.
        if not outcome.ok:
            raise refusal(outcome)
        return heads.empty(exchange.keys.applied_index)

    return _off(request, query, Deregister(where, check=check_id), finish)


def _off(
    request: Request, query: Query, command: Deregister, finish: Callable[[Outcome], bytes]
) -> Deferred:
    known_by = place.known_by(request, query, command)
    return Deferred(command, query, finish, known_by, applied_here=True)


def _is_on(query: Query) -> bool:
    """Return whether maintenance is to be on.

    Raises:
        HttpError: 400.
    """
    # Consul's agent/agent_endpoint.go, `AgentServiceMaintenance`.
    if "enable" not in query:
        raise refused(400, "Missing value for enable")
    is_on = queries.as_boolean(query["enable"])
    if is_on is None:
        shown = msgspec.json.encode(cut(query["enable"])).decode()
        raise refused(400, f"Invalid value for enable: {shown}")
    return is_on


def _notes(query: Query, of: str) -> str:
    """Return the reason, or that there is none.

    Raises:
        HttpError: 400.
    """
    reason = query.get("reason", "")
    if is_longer(reason, NOTES_BYTES_MAX):
        raise refused(400, f"Invalid reason: it has more than {NOTES_BYTES_MAX:,} bytes")
    return reason or f"Maintenance of this {of} was turned on, and no reason was given."


def _unknown(service_id: str) -> HttpError:
    return refused(
        404,
        f'Unknown service ID "{cut(service_id)}". Ensure that the service ID is passed, not the '
        "service name.",
    )
