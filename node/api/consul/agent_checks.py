"""Checks of one node, as an agent of Consul keeps them: /v1/agent/checks and check/….

A word about a TTL check (`pass`, `warn`, `fail`, `update`) is taken by the node that runs the check, in
its memory: only a change of status comes into the log. It comes thousands of times a second, so it is
answered without a task and without a barrier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...model.checks import SERF_HEALTH, Word
from ...model.commands import Denial
from ...model.services import RegisterCheck
from ..dialect import filters, heads
from ..dialect.forms import refused
from ..http.exchange import Deferred
from ..http.params import parse_query, text_from_path
from . import by_id, place, shown
from .bodies import check_body
from .bodies.parts import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...model.checks import CheckStatus
    from ...model.commands import Outcome
    from ...model.services import Service
    from ...state.reader import Reader
    from ..http.answers import Answer, HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from ..http.params import Query
    from .shown import Shown

_NO_QUERY: Query = {}


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/agent/checks`: `?node=`, `?filter=`. Each with its newest output; without `serfHealth`."""
    query = parse_query(request.query)
    newest = exchange.backend.checks.newest

    def entries(reader: Reader) -> Iterator[tuple[str, Shown]]:
        number = place.number_of(exchange, query)
        node = None if number is None else reader.node_by_number(number)
        if node is None:
            return
        service: Service | None = None
        for check in reader.checks(node.number):
            if check.id == SERF_HEALTH and node.is_member:
                continue
            if not check.service:
                of = None
            else:  # Most checks of a service come one after the other.
                if service is None or service.id != check.service:
                    service = reader.service(node.number, check.service)
                of = service
            yield check.id, shown.check(newest(check), node.name, of)

    return by_id.show(exchange, query, filters.Choice(query, shown.CHECK_FIELDS), entries)


def register(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/agent/check/register`: `?node=`."""
    query = parse_query(request.query)
    where = place.place_of(exchange, query, makes=True)
    is_here = place.runs_here(exchange, where)
    check = check_body.decode_register(exchange, request.body, runs_here=is_here)
    if where.number and check.id == SERF_HEALTH:
        raise refused(400, f"Invalid check: {SERF_HEALTH} is the check of the member itself")

    def refusal(outcome: Outcome) -> HttpError:
        # A service that is to be there makes no node.
        is_no_node = outcome.denial == Denial.NO_NODE and check.service and not where.number
        if is_no_node or outcome.denial == Denial.NO_SERVICE_OF_CHECK:
            return check_body.not_there(check.service)
        return place.denied(outcome)

    return place.write(exchange, request, query, RegisterCheck(where, check), refusal)


def deregister(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/agent/check/deregister/<id>`: `?node=`."""
    check_id = text_from_path(rest, "check ID")
    return place.deregister(exchange, request, _unknown(check_id), check=check_id)


def word_of(status: CheckStatus) -> Callable[[Exchange, Request, bytes], Found]:
    """Return the handler of `PUT /v1/agent/check/<pass|warn|fail>/<id>`: `?note=`, `?node=`."""

    def word(exchange: Exchange, request: Request, rest: bytes) -> Found:
        query = parse_query(request.query) if request.query else _NO_QUERY
        return _take(exchange, query, rest, status, query.get("note", ""))

    return word


def update(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/agent/check/update/<id>`: `?node=`."""
    status, output = check_body.decode_update(exchange, request.body)
    return _take(exchange, parse_query(request.query), rest, status, output)


def _take(exchange: Exchange, query: Query, rest: bytes, status: CheckStatus, output: str) -> Found:
    check_id = text_from_path(rest, "check ID")
    if query.get("node"):
        return _take_elsewhere(exchange, query, check_id, status, output)
    backend = exchange.backend
    word = backend.checks.word(backend.catalog.own_number, check_id, status, output)
    if word is Word.TAKEN:
        return heads.empty(exchange.keys.applied_index)
    if word is Word.UNKNOWN and backend.process.knows_leader:
        return _take_later(exchange, query, check_id, status, output)
    return _answer(exchange, check_id, word)


def _take_later(
    exchange: Exchange, query: Query, check_id: str, status: CheckStatus, output: str
) -> Deferred:
    """Take a word after a barrier: the check may be registered through another member, and not be here yet."""

    def finish(_: Outcome) -> bytes:
        backend = exchange.backend
        word = backend.checks.word(backend.catalog.own_number, check_id, status, output)
        return _answer(exchange, check_id, word)

    return Deferred(None, query, finish)


async def _take_elsewhere(
    exchange: Exchange, query: Query, check_id: str, status: CheckStatus, output: str
) -> Answer:
    """Have the node that runs the checks of `?node=` take a word."""
    checks = exchange.backend.checks
    number = place.number_of(exchange, query)
    if number is None:
        await exchange.barrier(query)
        number = place.number_of(exchange, query)
    if number is None:
        raise _unknown(check_id)
    if number == exchange.backend.catalog.own_number:
        word = checks.word(number, check_id, status, output)
        if word is Word.UNKNOWN:
            await exchange.barrier(query)
            word = checks.word(number, check_id, status, output)
    else:
        deadline = await exchange.begin_wait(query)
        word = await checks.word_elsewhere(number, check_id, status, output, deadline)
    return _answer(exchange, check_id, word)


def _answer(exchange: Exchange, check_id: str, word: Word) -> bytes:
    if word is Word.TAKEN:
        return heads.empty(exchange.keys.applied_index)
    if word is Word.NOT_TTL:
        raise refused(500, f'CheckID "{cut(check_id)}" does not have associated TTL')
    raise _unknown(check_id)


def _unknown(check_id: str) -> HttpError:
    return refused(
        404,
        f'Unknown check ID "{cut(check_id)}". Ensure that the check ID is passed, not the check name.',
    )
