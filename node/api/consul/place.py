"""Where something is registered, by `?node=`; and what is answered where the log refuses it.

Without `?node=` the place is the member that is asked. With it, it is another member, or an external
node, which the first registration on it makes (contract of services, section 3.3). Used by the handlers
of `services`, `agent_checks`, `maintenance` and `catalog_writes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from hstore.dns.ip_literals import is_ip

from ...errors import NoLeader, Unavailable
from ...model.checks import CHECK_ID_BYTES_MAX
from ...model.commands import Denial
from ...model.services import (
    SERVICE_ID_BYTES_MAX,
    Deregister,
    Place,
    RegisterCheck,
    RegisterService,
)
from ...state.catalog.records import fold
from ..dialect import heads
from ..dialect.forms import refused
from ..dialect.heads import Mode
from ..http.exchange import NO_OUTCOME, Deferred
from ..http.idempotency import IDEMPOTENCY_KEY
from ..http.params import parse_query, timeout_s
from .bodies.catalog_body import check_node_name
from .bodies.parts import cut, is_longer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.commands import Outcome
    from ...model.services import Registration
    from ...state.catalog.reader import CatalogNode
    from ..http.answers import Answer, HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from ..http.params import Query
    from ..http.waiting import Wait

PARAMS = "node node-address"
"""The query parameters that say where."""

_NOT_THERE = frozenset({Denial.NO_SERVICE, Denial.NO_CHECK, Denial.NO_NODE, Denial.PROTECTED})

FRESH_S = 1.0
"""How long a read of an agent's path waits for the leader."""


def place_of(exchange: Exchange, query: Query, *, makes: bool) -> Place:
    """Return the place that a query asks for.

    Args:
        exchange: Of the connection.
        query: Of the request.
        makes: An external node that there is not yet is made.

    Raises:
        HttpError: 400.
        NoLeader: This node does not know yet which member it is.
    """
    name = query.get("node")
    if not name:
        number = exchange.backend.catalog.own_number
        if not number:
            raise NoLeader("this node does not know yet that it is a member")
        return Place(number)
    address = query.get("node-address", "")
    if address and not is_ip(address):
        raise refused(400, f"Invalid node-address: '{cut(address)}' is no IP address")
    node = find(exchange, name)
    if node is not None and node.is_member:
        return Place(node.number)
    name = name if node is None else node.name
    check_node_name(name)
    if not makes:
        return Place(0, name)
    # It may be gone when this takes effect, and is then made anew.
    address = address or (exchange.client_host() if node is None else node.address)
    if not address:
        raise refused(400, "Missing node-address")
    return Place(0, name, address)


def find(exchange: Exchange, name: str) -> CatalogNode | None:
    """Return the node of the catalog with this name or UUID, as this node's copy has it."""
    reader = exchange.keys.view()
    try:
        return reader.catalog_node(name)
    finally:
        reader.close()


async def freshen(exchange: Exchange, query: Query) -> Mode:
    """Have this node's copy show all that any member answered before this request, if a leader can say so.

    What an agent knows of itself is shown without a leader too (section 9.4), so a leader that does not
    answer soon is not waited for. `?stale` asks nobody.

    Returns:
        How consistent what is read next is.

    Raises:
        HttpError: 400 for a bad query.
    """
    if "stale" in query or not exchange.backend.process.knows_leader:
        timeout_s(query)  # Refused also where it is not needed.
        return Mode.STALE
    if not exchange.is_fresh:
        deadline = await exchange.begin_wait(query)
        try:
            await exchange.keys.read_barrier(min(deadline, trio.current_time() + FRESH_S))
        except Unavailable:
            return Mode.STALE
        exchange.is_fresh = True
        if exchange.turn.bytes_left <= 0:
            await exchange.turn.small()  # The node tells thousands of outcomes at once.
    return Mode.LEADER


def number_of(exchange: Exchange, query: Query) -> int | None:
    """Return the catalog number of the node that a query asks for; None: there is no such node here."""
    name = query.get("node")
    if not name:
        return exchange.backend.catalog.own_number or None
    node = find(exchange, name)
    return None if node is None else node.number


def runs_here(exchange: Exchange, place: Place) -> bool:
    """Whether the checks of a place are run by this node."""
    return place.number != 0 and place.number == exchange.backend.catalog.own_number


def write(
    exchange: Exchange,
    request: Request,
    query: Query,
    command: RegisterService | RegisterCheck | Deregister,
    refusal: Callable[[Outcome], HttpError],
) -> Found:
    """Have a command of an agent's path take effect; the answer has no body.

    For a registration of what is so already nothing is committed.

    Args:
        exchange: Of the connection.
        request: The request.
        query: Of the request.
        command: What it asks for.
        refusal: Returns the error for an outcome that is not ok.
    """

    def finish(outcome: Outcome) -> bytes:
        if not outcome.ok:
            raise refusal(outcome)
        return heads.empty(exchange.keys.applied_index)

    known = known_by(request, query, command)
    if isinstance(command, Deregister):
        return Deferred(command, query, finish, known, applied_here=True)
    return unless_so(exchange, request, query, command, finish, known_by=known)


def unless_so(
    exchange: Exchange,
    request: Request,
    query: Query,
    command: Registration,
    finish: Callable[[Outcome], bytes],
    *,
    known_by: Registration | Deregister | None = None,
) -> Found:
    """Have a registration take effect, unless this node's copy says that it is so already.

    Args:
        exchange: Of the connection.
        request: The request.
        query: Of the request.
        command: The registration.
        finish: Makes the answer from its outcome.
        known_by: As in `Deferred`.
    """
    deferred = Deferred(command, query, finish, known_by, applied_here=True)
    # What is answered under a key has to be in the log.
    if IDEMPOTENCY_KEY in request.headers or not exchange.backend.catalog.is_so(command):
        return deferred

    async def confirm() -> Answer | Wait:
        # The copy may be old.
        await exchange.barrier(query)
        if exchange.backend.catalog.is_so(command):
            return finish(NO_OUTCOME)
        return await exchange.settle(deferred, request)

    return confirm()


def deregister(
    exchange: Exchange,
    request: Request,
    unknown: HttpError,
    *,
    service: str | None = None,
    check: str | None = None,
) -> Found:
    """Remove a service with its checks, or a check, from the place that the query asks for.

    Args:
        exchange: Of the connection.
        request: The request.
        unknown: The error where there is no such thing, or where it is the member's own.
        service: The ID of the service; None: it is about a check.
        check: The ID of the check; None: it is about a service.

    Raises:
        HttpError: `unknown`, where the ID is one that nothing has; 400.
        NoLeader: As of `place_of`.
    """
    if not (service or check) or is_longer(service or "", SERVICE_ID_BYTES_MAX):
        raise unknown
    if is_longer(check or "", CHECK_ID_BYTES_MAX):
        raise unknown
    query = parse_query(request.query)
    where = place_of(exchange, query, makes=False)

    def refusal(outcome: Outcome) -> HttpError:
        return unknown if outcome.denial in _NOT_THERE else denied(outcome)

    return write(exchange, request, query, Deregister(where, service, check), refusal)


def known_by(
    request: Request, query: Query, command: RegisterService | RegisterCheck | Deregister
) -> RegisterService | RegisterCheck | Deregister | None:
    """Return what tells a request from another one under its `Idempotency-Key` (`Deferred.known_by`)."""
    if IDEMPOTENCY_KEY not in request.headers:
        return None
    if not query.get("node"):
        # The command names the member that was asked: the client may ask another one next.
        return replace(command, place=Place(0))
    where = command.place
    if where.number:
        return None
    # The command has the name as the node is shown; there may be no such node when this is sent again.
    address = where.address if "node-address" in query else ""
    return replace(command, place=Place(0, fold(where.name).decode(), address))


def denied(outcome: Outcome) -> HttpError:
    """Return the error for an outcome that is not ok, as far as all paths say the same of it."""
    if outcome.denial == Denial.LIMIT:
        return refused(400, outcome.text)
    if outcome.denial == Denial.NO_SERVICE_OF_CHECK:
        return refused(500, "Missing service registration")
    if outcome.denial == Denial.MEMBER and outcome.text:
        return refused(500, outcome.text)
    if outcome.denial == Denial.PROTECTED and outcome.text:  # No repetition mends it.
        return refused(400, f"Invalid registration: {outcome.text}")
    return refused(500, "Missing node registration")
