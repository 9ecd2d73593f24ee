"""Reads of one service: `catalog/service`, `health/service` and `health/checks`, which narrow and wait alike.

Owns the way from such a request to its answer: which instances are wanted, the bodies that are kept
(`../rendered.py`), and what a read waits for. What is shown of an instance, each path says (`Kind`).

A read waits for its service, and for each node that has an instance of it: a change of a node, or of a
check of the node itself, changes the result too. Which nodes these are is asked anew each time it begins
to wait.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ...state.catalog.records import fold
from ...state.watching.changes import NODE_HEALTH, SERVICES
from ..dialect.filters import PER_SLICE, Choice
from ..dialect.forms import refused
from ..dialect.heads import Mode, plain_read, read
from ..dialect.queries import AT_ONCE, blocking, boolean, datacenter, mode_of
from ..dialect.questions import (
    LocalWait,
    Long,
    LongBody,
    Target,
    UnaskedWait,
    gathered,
    settle_checked,
)
from ..http.exchange import Deferred
from ..http.params import names_in, parse_query, text_from_path, values_of
from . import nodes, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...filter.fields import Object
    from ...model.commands import Outcome
    from ...state.catalog.reader import Instance
    from ...state.reader import Reader
    from ..dialect.queries import Blocking
    from ..dialect.questions import Body
    from ..http.connection import Request
    from ..http.exchange import Exchange, Finished, Found
    from ..http.params import Query
    from ..http.waiting import Due, Wait
    from ..rendered import Key
    from .shown import Shown

WHOLE_MAX = 128
"""Instances of an answer that is made in one go, if they are short."""
LONG_PER_SLICE = 32
"""Instances of a longer one that a turn makes: each has checks."""

_NO_QUERY: Query = {}
# They say how to read and what to wait for, and nothing of the result.
_NOT_NARROWING = frozenset(
    {"cached", "consistent", "dc", "index", "max_stale", "stale", "timeout", "wait"}
)

_encode = msgspec.json.encode


class Kind(NamedTuple):
    """What a path shows of each instance.

    Attributes:
        name: Unlike that of every other kind.
        fields: Of the objects, for `?filter=`.
        entries: Returns the objects, from the instance and its node as it is shown.
        has_passing: `?passing` keeps those all of whose `Checks` are passing.
        is_empty: Nothing is ever shown.
    """

    name: bytes
    fields: Object
    entries: Callable[[Reader, Instance, Shown], Sequence[Shown]]
    has_passing: bool = False
    is_empty: bool = False


def ask(exchange: Exchange, request: Request, rest: bytes, kind: Kind) -> Found:
    """Begin to answer a read of one service, by all that its query says.

    Raises:
        HttpError: 400 for a bad query, or for no name.
    """
    raw = request.query
    key: Key = (kind.name, rest, raw)
    if key in exchange.rendered:  # So the query is fine, and says nothing but what narrows.
        query = parse_query(raw) if raw else _NO_QUERY
        return Deferred(None, query, _Kept(exchange, kind, key).finish)
    return _ask(exchange, request, rest, kind)


def _ask(exchange: Exchange, request: Request, rest: bytes, kind: Kind) -> Found:
    name = text_from_path(rest, "service name")
    if not name:
        raise refused(400, "Missing service name")
    query = parse_query(request.query)
    boolean(query, "passing")
    mode, query = mode_of(exchange, query)
    wanted = blocking(query)
    key = (kind.name, rest, _narrowing(request.query))
    one = _Read(exchange, kind, fold(name), key, mode=mode, wanted=wanted)
    park = partial(one.park, query) if wanted.after else None
    deferred = Deferred(None, query, one.finish, park=park)
    choice = Choice(query, kind.fields)
    if choice:
        return settle_checked(exchange, request, choice.compiled, deferred)
    return deferred


def _narrowing(raw: bytes) -> bytes:
    """Return a query without what says nothing of the result."""
    if not raw:
        return raw
    parts = zip(raw.split(b"&"), names_in(raw), strict=True)
    return b"&".join(part for part, name in parts if name not in _NOT_NARROWING)


class _Kept:
    """A read whose body was there when it came."""

    __slots__ = ("_exchange", "_key", "_kind")

    def __init__(self, exchange: Exchange, kind: Kind, key: Key) -> None:
        self._exchange = exchange
        self._kind = kind
        self._key = key

    def finish(self, outcome: Outcome) -> Finished:
        """Answer with the body, if it is still good after the barrier."""
        exchange = self._exchange
        hot = exchange.rendered.get(self._key)
        if hot is not None:
            return plain_read(exchange.keys.applied_index, hot.index, hot.body)
        name = text_from_path(self._key[1], "service name")
        one = _Read(exchange, self._kind, fold(name), self._key)
        return one.finish(outcome)


class _Read:
    """A read of one service. Thousands may wait: it holds no body, and the query as text only."""

    __slots__ = ("_exchange", "_folded", "_key", "_kind", "_mode", "_wanted")

    def __init__(
        self,
        exchange: Exchange,
        kind: Kind,
        folded: bytes,
        key: Key,
        *,
        mode: Mode = Mode.LEADER,
        wanted: Blocking = AT_ONCE,
    ) -> None:
        self._exchange = exchange
        self._kind = kind
        self._folded = folded
        self._key = key
        self._mode = mode
        self._wanted = wanted

    def finish(self, _: Outcome) -> Finished:
        """Answer, or wait."""
        found = self.look(self._wanted.after or None)
        if found is not None:
            return found
        return LocalWait(
            self._exchange, self._mode, self._wanted, self.on, self.look, crowd=self._folded
        )

    def park(self, query: Query) -> Wait | None:
        """Wait before the leader was asked; None: it has to be asked first."""
        wait = UnaskedWait(
            self._exchange, self._mode, self._wanted, self.on, self.look, crowd=self._folded
        )
        return wait.begun(query)

    def on(self) -> Sequence[Target]:
        """Return all that the result depends on now."""
        found = [Target(SERVICES, self._folded)]
        numbers = self._exchange.backend.catalog.nodes_of_service(self._folded)
        found += [Target(NODE_HEALTH, number.to_bytes(8)) for number in numbers]
        return found

    def look(self, after: int | None) -> Due | None:
        """Return the answer if the index of the service has passed `after`, or in any case."""
        exchange = self._exchange
        index = exchange.backend.catalog.service_index(self._folded)
        if index and after is not None and index <= after:
            return None
        hot = exchange.rendered.get(self._key)
        if hot is not None:
            return read(exchange, self._mode, hot.index, hot.body)
        if len(exchange.backend.catalog.nodes_of_service(self._folded)) > WHOLE_MAX:
            return self._long()
        reader = exchange.keys.view()
        try:
            result_index = self._index_of(reader)
            if after is not None and result_index <= after:
                return None
            body = self._render(reader)
        finally:
            reader.close()
        if not isinstance(body, bytes):
            return self._long()
        if index == result_index:
            exchange.rendered.put(self._key, self._folded, index, body)
        return read(exchange, self._mode, result_index, body)

    def _long(self) -> LongBody:
        has_filter = parse_query(self._key[2]).get("filter")
        per_slice = PER_SLICE if has_filter else LONG_PER_SLICE
        return LongBody(self._exchange, self._mode, self._index_of, self._render, per_slice)

    def _index_of(self, reader: Reader) -> int:
        return max(reader.service_index(self._folded), 1)

    def _render(self, reader: Reader) -> Body:
        """Return the body: in one piece where it is short and nothing is filtered."""
        kind, wanted = self._kind, _Wanted(self._key[2], self._kind)
        if kind.is_empty or wanted.is_elsewhere:
            return b"[]"
        if wanted.choice:
            return Long(_filtered(self._found(reader, wanted), wanted))
        return gathered(self._pieces(reader, wanted), most=WHOLE_MAX)

    def _pieces(self, reader: Reader, wanted: _Wanted) -> Iterator[bytes | None]:
        """Iterate over the instances: what is shown of each; None: nothing."""
        every = self._found(reader, wanted)
        return (b",".join(map(_encode, filter(wanted.is_healthy, some))) or None for some in every)

    def _found(self, reader: Reader, wanted: _Wanted) -> Iterator[Sequence[Shown]]:
        """Iterate over the instances: what is shown of each that is wanted, of others nothing.

        Which there are is settled now, in the turn of the view, and not when the first is asked for.
        """
        return self._shown(reader, reader.each_instance(self._folded), wanted)

    def _shown(
        self, reader: Reader, instances: Iterator[Instance], wanted: _Wanted
    ) -> Iterator[Sequence[Shown]]:
        entries = self._kind.entries
        dc = datacenter(self._exchange)
        number, node = 0, {}
        for instance in instances:
            if not wanted.includes(instance):
                yield ()
                continue
            if instance.node.number != number:
                number, node = instance.node.number, shown.node(instance.node, dc)
            yield entries(reader, instance, node)


def _filtered(found: Iterator[Sequence[Shown]], wanted: _Wanted) -> Iterator[bytes | None]:
    """Iterate over what is shown, object by object; None: one that is not wanted.

    The filter is compiled when the first is asked for, in a turn that has room for it.
    """
    fits = wanted.choice.compiled()
    # An instance of which nothing is shown counts as one that is not wanted.
    for one in (one for some in found for one in some or (None,)):
        is_wanted = one is not None and fits(one) and wanted.is_healthy(one)
        yield _encode(one) if is_wanted else None


class _Wanted:
    """What narrows a result, from its query.

    Attributes:
        choice: Of `?filter=`.
        is_elsewhere: Those of a peer are asked for: there are no peers.
    """

    __slots__ = ("_meta", "_passing", "_tags", "choice", "is_elsewhere")

    def __init__(self, raw: bytes, kind: Kind) -> None:
        query = parse_query(raw)
        self._passing = kind.has_passing and boolean(query, "passing")
        self.choice = Choice(query, kind.fields)
        self.is_elsewhere = nodes.is_elsewhere(query)
        self._tags = [fold(tag) for tag in values_of(raw, "tag") if tag]
        self._meta = nodes.wanted_meta(raw)

    def is_healthy(self, one: Shown) -> bool:
        """Whether `?passing` keeps an object."""
        return not self._passing or all(check["Status"] == "passing" for check in one["Checks"])

    def includes(self, instance: Instance) -> bool:
        """Whether an instance has the tags, and its node the metadata."""
        if self._tags:
            tags = set(map(fold, instance.service.tags))
            if not tags.issuperset(self._tags):
                return False
        return nodes.has_meta(instance.node, self._meta)
