"""`GET /v1/statistics`: the figures that every node keeps of itself over time.

Owns how they are asked for and look over HTTP. Each node keeps its own, and this one asks the others
(`Backend.statistics`). No leader is needed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ..model.statistics import COUNTED, SERIES, STEPS, Points, Question, numbers_of, step_for
from .http.answers import RETRY_AFTER_S, Answer, HttpError, head, ok
from .http.large import send_pieces
from .http.params import number, parse_query

if TYPE_CHECKING:
    from .http.answers import Send
    from .http.connection import Request
    from .http.exchange import Exchange
    from .http.params import Query

ALL = "all"
"""What `?node=` says for all members."""

WHOLE_MAX = 4096
"""So many numbers are an answer made in one go, about half a millisecond; more are made series by series
while they are sent."""

_SHOWN = 40
"""Characters of a bad value in the answer."""

_encode = msgspec.json.encode


async def show(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/statistics?node=&since=&step=&series=`."""
    query = parse_query(request.query)
    question = _question(exchange, query)
    members = _members(exchange, query.get("node", ""))
    await exchange.begin_wait({})
    await exchange.slice()
    answers = await exchange.backend.statistics.gather(members, question)
    by_name = {members[member]: points for member, points in answers.items()}
    missing = sorted(members[member] for member in members.keys() - answers.keys())
    is_all = query.get("node") == ALL
    if missing and not is_all:
        text = f"{missing[0]} has not answered in time: try again, or ask that node itself"
        raise HttpError(503, text, retry_after_s=RETRY_AFTER_S)
    pieces = _of_all(by_name, missing) if is_all else _of_one(next(iter(by_name.values())))
    size = sum(len(data) for one in by_name.values() for data in one.series.values()) // 8
    if size <= WHOLE_MAX:
        return ok(exchange.keys.applied_index, b"".join(pieces))
    return _Large(head(exchange.keys.applied_index), by_name, pieces)


class _Large:
    """An answer that is made while it is sent (`answers.Streaming`)."""

    is_endless = False
    length: int | None = None

    def __init__(self, start: bytes, by_name: dict[str, Points], pieces: Iterator[bytes]) -> None:
        self.head = start
        self._held = [data for one in by_name.values() for data in one.series.values()]
        self._pieces = pieces

    async def run(self, send: Send) -> None:
        """Send it all."""
        with send.holding(self._held):
            await send_pieces(self._pieces, send)

    def close(self) -> None:
        """Forget what the rest would be made from."""
        self._held, self._pieces = [], iter(())


def _of_all(by_name: Mapping[str, Points], missing: list[str]) -> Iterator[bytes]:
    comma = b""
    yield b'{"nodes":{'
    for name in sorted(by_name):
        yield comma + _encode(name) + b":"
        yield from _of_one(by_name[name])
        comma = b","
    yield b'},"missing":%b}' % _encode(missing)


def _of_one(points: Points) -> Iterator[bytes]:
    comma = b""
    yield b'{"step":%d,"since":%d,"series":{' % (points.step, points.since_ms)
    for name, data in points.series.items():
        yield b"%b%b:%b" % (comma, _encode(name), _encode(_shown(name, numbers_of(data))))
        comma = b","
    yield b"}}"


def _shown(name: str, numbers: array[float]) -> list[float] | list[int | None]:
    """Return the numbers of a series for JSON, where one that is not known is null."""
    if name not in COUNTED:
        return numbers.tolist()  # The encoder writes null for NaN.
    return [int(one) if math.isfinite(one) else None for one in numbers]


def _question(exchange: Exchange, query: Query) -> Question:
    """Return what is asked; 400 for what no node keeps."""
    since_ms = number(query, "since") or 0
    step = number(query, "step")
    if step is None:
        step = step_for(since_ms, exchange.backend.statistics.now_ms())
    elif step not in STEPS:
        kept = ", ".join(str(one) for one in STEPS)
        raise HttpError(400, f"?step={step}: there are points every {kept} seconds: name one")
    wanted = query.get("series")
    if wanted is None:
        return Question(SERIES, step, since_ms)
    names = tuple(dict.fromkeys(wanted.split(",")))
    for name in names:
        if name not in SERIES:
            text = (
                f"?series= has {name[:_SHOWN]!r}, which is not kept; there are {', '.join(SERIES)}: "
                "name some of them, separated by commas"
            )
            raise HttpError(400, text)
    return Question(names, step, since_ms)


def _members(exchange: Exchange, named: str) -> dict[int, str]:
    """Return the members that are asked, by id, with their names; 404 where there is none."""
    process = exchange.backend.process
    known = {one.id: one for one in exchange.backend.administration.members.values()}
    names = {one.id: one.name for one in known.values()} | {process.id: process.name}
    if named == ALL:
        return names
    if not named:
        return {process.id: process.name}
    folded = named.lower()
    for member, name in names.items():
        address = known[member].address if member in known else process.address
        if folded in {name, f"{member:016x}", address}:
            return {member: name}
    there = ", ".join(sorted(names.values()))
    raise HttpError(404, f"there is no member {named[:_SHOWN]!r}; there are {there}, and `all`")
