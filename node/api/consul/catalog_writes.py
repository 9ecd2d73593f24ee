"""Writes of the catalog itself: /v1/catalog/register and deregister.

They are about nodes that are no members: what belongs to a member is registered through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config.command_limits import is_catalog_name
from ...model.checks import CHECK_ID_BYTES_MAX, SERF_HEALTH
from ...model.commands import Denial
from ...model.services import CONSUL, SERVICE_ID_BYTES_MAX, Deregister, Place
from ..dialect import heads
from ..dialect.forms import refused
from ..http.exchange import Deferred
from ..http.params import parse_query
from . import place
from .bodies import catalog_body
from .bodies.parts import is_longer

if TYPE_CHECKING:
    from ...model.commands import Outcome
    from ..http.answers import HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found


def register(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/catalog/register`: `true`."""
    command = catalog_body.decode_register(exchange, request.body)

    def finish(outcome: Outcome) -> bytes:
        if not outcome.ok:
            raise place.denied(outcome)
        return heads.done(exchange.keys.applied_index, b"true")

    return place.unless_so(exchange, request, parse_query(request.query), command, finish)


def deregister(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/catalog/deregister`: `true`, also where there was nothing."""
    name, service_id, check_id = catalog_body.decode_deregister(exchange, request.body)
    if not _can_be(name, service_id, check_id):
        return heads.done(exchange.keys.applied_index, b"true")
    node = place.find(exchange, name)
    number = node.number if node is not None and node.is_member else 0
    where = Place(number, "" if number else name)
    shown = name if node is None else node.name

    def finish(outcome: Outcome) -> bytes:
        if not outcome.ok and outcome.denial != Denial.NO_NODE:
            raise _refusal(outcome, shown, service_id, check_id)
        return heads.done(exchange.keys.applied_index, b"true")

    command = Deregister(where, service_id, check_id, is_catalog=True)
    return Deferred(command, parse_query(request.query), finish, applied_here=True)


def _can_be(name: str, service_id: str | None, check_id: str | None) -> bool:
    """Whether there can be such a thing at all."""
    return (
        is_catalog_name(name)
        and not is_longer(service_id or "", SERVICE_ID_BYTES_MAX)
        and not is_longer(check_id or "", CHECK_ID_BYTES_MAX)
    )


def _refusal(
    outcome: Outcome, name: str, service_id: str | None, check_id: str | None
) -> HttpError:
    if outcome.denial != Denial.PROTECTED:
        return place.denied(outcome)
    if service_id is not None:
        return refused(500, f"the service {CONSUL} of a member cannot be removed")
    if check_id is not None:
        return refused(500, f"{SERF_HEALTH} of a member cannot be removed")
    return refused(500, f"{name} is a member: use leave")
