"""Sessions: /v1/session/create, renew, destroy, info, node, list.

Owns their shapes. Their clocks, and what ends with a session, are the node's.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from ...config.command_limits import session_fault
from ...model import durations
from ...model.checks import SERF_HEALTH
from ...model.commands import Denial
from ...model.locks import LOCK_DELAY_NS, LOCK_DELAY_NS_MAX, CreateSession, EndSession, Session
from ...model.values import uuid_text
from ...state.watching.changes import NODE_SESSIONS, NODES, SESSIONS
from ..dialect import bodies, heads, ids
from ..dialect.forms import refused
from ..dialect.questions import Question, Target, ask
from ..http.exchange import Deferred, Renewal
from ..http.idempotency import IDEMPOTENCY_KEY
from ..http.params import parse_query, text_from_path
from . import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...model.commands import Outcome
    from ...model.locks import Behavior
    from ...state.machine import Reader
    from ..http.answers import Answer, HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from ..http.waiting import Wait

WHOLE_MAX = 128
"""Sessions of a list that is made in one go, in about a millisecond."""

NODES_WAITED_FOR_MAX = 64
"""Nodes with sessions that a read of all sessions waits for; from there on, it waits for any."""

# Consul's agent/structs: `SessionTTLMax`; agent/session_endpoint.go:
# `lockDelayMinThreshold`.
_SECOND_NS = 10**9
_MS_NS = 10**6
_SECONDS_BELOW = 1000
_TTL_NS_MAX = 24 * 3600 * _SECOND_NS
_NOBODY = bytes(16)
_RENEWED_KEPT = 2048
"""Sessions of which is kept what each of their renewals has to make again: they come all the time."""
_OWN_CHECKS = (SERF_HEALTH,)
_ALIASES = {"checks": "NodeChecks"}
_BEHAVIORS: dict[str, Behavior] = {"": "release", "release": "release", "delete": "delete"}

_encode = msgspec.json.encode


class _ServiceCheck(msgspec.Struct, forbid_unknown_fields=True):
    id: str = msgspec.field(default="", name="ID")


class _Create(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    """The body of `create`."""

    name: str = ""
    node: str = ""
    lock_delay: str | int | float | None = None
    behavior: str = ""
    ttl: str = msgspec.field(default="", name="TTL")
    node_checks: list[str] | None = None
    service_checks: list[_ServiceCheck] | None = None


def create(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/session/create`."""
    body = bodies.decode(exchange, _Create, request.body, _ALIASES, allows_empty=True)
    node = _node(exchange, body.node)
    command = _command(exchange, body, node or 0)
    if node is None:
        return _create_when_known(exchange, request, body.node, command)
    return _created(exchange, request, command, is_named=bool(body.node))


async def _create_when_known(
    exchange: Exchange, request: Request, name: str, command: CreateSession
) -> Answer | Wait:
    """Make a session of a node that is not known here: perhaps this node is a little behind."""
    query = parse_query(request.query)
    await exchange.keys.read_barrier(await exchange.begin_wait(query))
    node = _node(exchange, name)
    if node is None:
        raise refused(500, "Missing node registration")
    session = msgspec.structs.replace(command.session, node=node)
    command = CreateSession(session, command.ttl_ns)
    created = _created(exchange, request, command, is_named=bool(name))
    return await exchange.settle(created, request)


def _node(exchange: Exchange, name: str) -> int | None:
    """Return the number of the node that a new session is of; None: it is not known here."""
    if name:
        return nodes.find(exchange, name)
    return exchange.backend.catalog.own_number or None


def _created(
    exchange: Exchange, request: Request, command: CreateSession, *, is_named: bool
) -> Deferred:
    def finish(outcome: Outcome) -> bytes:
        if outcome.denial == Denial.LIMIT:
            raise refused(400, outcome.text)
        if outcome.denial == Denial.TTL_TOO_SHORT:
            raise _out_of_bounds(command.ttl_ns, int(outcome.text) * _MS_NS)
        if not outcome.ok:
            raise refused(500, outcome.text)
        return heads.done(exchange.keys.applied_index, b'{"ID":"%b"}' % outcome.text.encode())

    known_by = command
    if not is_named and IDEMPOTENCY_KEY in request.headers:
        unnamed = msgspec.structs.replace(command.session, node=0)
        known_by = CreateSession(unnamed, command.ttl_ns)
    return Deferred(command, parse_query(request.query), finish, known_by)


def _command(exchange: Exchange, body: _Create, node: int) -> CreateSession:
    """Return the command that a body asks for, for the node with this catalog number.

    Raises:
        HttpError: 400, 500.
    """
    behavior = _BEHAVIORS.get(body.behavior)
    if behavior is None:
        raise refused(400, f"Invalid Behavior: '{body.behavior[:40]}'")
    checks = _OWN_CHECKS if body.node_checks is None else tuple(body.node_checks)
    services = body.service_checks
    lock_delay_ns, ttl_ns = _lock_delay_ns(body.lock_delay), _ttl_ns(exchange, body.ttl)
    session = Session(
        id=ids.new(),
        name=body.name,
        node=node,
        lock_delay_ns=lock_delay_ns,
        behavior=behavior,
        ttl=body.ttl,
        ttl_ms=-(-ttl_ns // _MS_NS),  # Rounded up: a session never ends early.
        node_checks=checks,
        service_checks=None if services is None else tuple(check.id for check in services),
    )
    fault = session_fault(session)
    if fault:
        raise refused(400, f"Invalid session: {fault} is too large")
    return CreateSession(session, ttl_ns)


def _lock_delay_ns(value: str | float | None) -> int:
    if value is None:
        return LOCK_DELAY_NS
    delay_ns = bodies.duration_ns(value)
    if delay_ns is None or delay_ns < 0:
        raise refused(400, f"Request decode failed: LockDelay {str(value)[:40]!r} is no duration")
    if not isinstance(value, str) and delay_ns < _SECONDS_BELOW:
        delay_ns *= _SECOND_NS  # Who writes 5 means seconds.
    return min(delay_ns, LOCK_DELAY_NS_MAX)


def _ttl_ns(exchange: Exchange, text: str) -> int:
    """Return the nanoseconds of a TTL.

    Raises:
        HttpError: 500.
    """
    ttl_ns = durations.parse(text) if text else 0
    if ttl_ns is None:
        raise refused(500, f"Session TTL '{text[:40]}' invalid: it is no duration such as 10s")
    if not 0 <= ttl_ns <= _TTL_NS_MAX:
        least_ms = exchange.backend.settings.cluster_settings.session_ttl_min_ms
        raise _out_of_bounds(ttl_ns, least_ms * _MS_NS)
    # The least is judged where the command takes effect: this node may not know the setting yet.
    return ttl_ns


def _out_of_bounds(ttl_ns: int, least_ns: int) -> HttpError:
    between = f"[{durations.show(least_ns)}={durations.show(_TTL_NS_MAX)}]"
    return refused(500, f"Invalid Session TTL '{ttl_ns}', must be between {between}")


def renew(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/session/renew/<id>`. An `Idempotency-Key` changes nothing: each one starts the time again."""
    text, session_id = _named(rest)

    def finish(session: Session | None) -> bytes:
        if session is None:
            raise refused(404, f"Session id '{text}' not found")
        name = nodes.name_of(exchange, session.node)
        return heads.done(exchange.keys.applied_index, _alone(session, name))

    if session_id is None:
        return finish(None)
    return Deferred(Renewal(session_id), parse_query(request.query), finish)


def destroy(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/session/destroy/<id>`: `true`, also where there is no such session."""
    session_id = _named(rest)[1]
    if session_id is None:
        return heads.done(exchange.keys.applied_index, b"true")
    return Deferred(
        EndSession(session_id),
        parse_query(request.query),
        lambda _: heads.done(exchange.keys.applied_index, b"true"),
    )


def info(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/session/info/<id>`: a list of one, or of none."""
    session_id = _named(rest)[1] or _NOBODY

    def index(reader: Reader) -> int:
        session = reader.session(session_id)
        return _index(reader, reader.session_index(session_id), session)

    def render(reader: Reader) -> bytes:
        session = reader.session(session_id)
        return _encode([] if session is None else [_shown(exchange, session)])

    def on() -> list[Target]:
        session = _session(exchange, session_id)
        targets = [Target(SESSIONS, session_id)]
        return targets if session is None else [*targets, Target(NODES, session.node.to_bytes(8))]

    return ask(exchange, request, Question(on, index, render))


def _session(exchange: Exchange, session_id: bytes) -> Session | None:
    reader = exchange.keys.view()
    try:
        return reader.session(session_id)
    finally:
        reader.close()


def _index(reader: Reader, index: int, session: Session | None) -> int:
    """Return the index of the answer about a session, which has the name of its node in it."""
    if session is None:
        return index
    return max(index, _node_index(reader, session.node))


def _node_index(reader: Reader, number: int) -> int:
    """Return the index of what a session shows of its node; of one that is gone, that of all nodes."""
    node = reader.node_by_number(number)
    return reader.nodes_index() if node is None else node.modify_index


def of_node(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/session/node/<node>`: those of one node; none of one that is not known."""
    name = text_from_path(rest, "node name")
    if not name:
        raise refused(400, "Missing node name")

    def index(reader: Reader) -> int:
        node = reader.catalog_node(name)
        if node is None:
            return reader.catalog_node_index(name)
        return max(reader.sessions_index(node.number), node.modify_index)

    def render(reader: Reader) -> bytes | Iterator[bytes]:
        node = reader.catalog_node(name)
        return b"[]" if node is None else _list(exchange, reader, node.number)

    def on() -> list[Target]:
        return nodes.targets(exchange, name, NODE_SESSIONS)

    return ask(exchange, request, Question(on, index, render))


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/session/list`."""

    def index(reader: Reader) -> int:
        found = [_node_index(reader, number) for number in reader.nodes_of_sessions()]
        return max([reader.sessions_index(), *found])

    def on() -> list[Target]:
        reader = exchange.keys.view()
        try:
            numbers = reader.nodes_of_sessions()
        finally:
            reader.close()
        targets = [Target(SESSIONS, b"", is_prefix=True)]
        if len(numbers) > NODES_WAITED_FOR_MAX:
            return [*targets, Target(NODES, b"", is_prefix=True)]
        return targets + [Target(NODES, number.to_bytes(8)) for number in numbers]

    return ask(exchange, request, Question(on, index, lambda reader: _list(exchange, reader, None)))


def _list(exchange: Exchange, reader: Reader, node: int | None) -> bytes | Iterator[bytes]:
    """Return the sessions of a node, or all, as one text or, of many, one by one."""
    some = list(itertools.islice(reader.sessions(node), WHOLE_MAX + 1))
    if len(some) <= WHOLE_MAX:
        return _encode([_shown(exchange, session) for session in some])
    return (_encode(_shown(exchange, session)) for session in reader.sessions(node))


def _named(rest: bytes) -> tuple[str, bytes | None]:
    """Return the end of a path, and the session's id that it is; None: it is none.

    Raises:
        HttpError: 400, it is empty.
    """
    text = text_from_path(rest, "session ID")
    if not text:
        raise refused(400, "Missing session")
    return text, ids.parse(text)


class _Shown(msgspec.Struct, rename="pascal", gc=False):
    """A session, as clients see it."""

    id: str = msgspec.field(name="ID")
    name: str
    node: str
    lock_delay: int
    behavior: str
    ttl: str = msgspec.field(name="TTL")
    node_checks: tuple[str, ...]
    service_checks: list[dict[str, str]] | None
    create_index: int
    modify_index: int


def _shown(exchange: Exchange, session: Session) -> _Shown:
    return _shown_on(session, nodes.name_of(exchange, session.node))


@lru_cache(maxsize=_RENEWED_KEPT)
def _alone(session: Session, node: str) -> bytes:
    """Return the answer to a renewal: a list of this session, on the node with this name."""
    return _encode([_shown_on(session, node)])


def _shown_on(session: Session, node: str) -> _Shown:
    services = session.service_checks
    return _Shown(
        uuid_text(session.id),
        session.name,
        node,
        session.lock_delay_ns,
        session.behavior,
        session.ttl,
        session.node_checks,
        None if services is None else [{"ID": each} for each in services],
        session.create_index,
        session.modify_index,
    )
