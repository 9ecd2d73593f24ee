"""`GET /v1/ui/dns`: what this node's own DNS server answers, for the page DNS of the dashboard.

Owns the JSON of a reply. The question goes over the network to the server's own address, as any
program's does, so the page shows what they get.
"""

from __future__ import annotations

import msgspec

from hstore.dns.client import NoAnswer
from hstore.dns.dig import Dug, dig
from hstore.dns.probe import rcode_name
from hstore.dns.records import Name, RRType, name_of
from hstore.dns.wire import type_named

from ..model.values import split_address
from .http.answers import RETRY_AFTER_S, Answer, HttpError, ok
from .http.connection import Request
from .http.exchange import Exchange
from .http.params import parse_query

_TYPES = ", ".join(rtype.name for rtype in RRType if rtype < RRType.IXFR and rtype != RRType.OPT)


async def ask(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/dns?name=&type=`: asks for a name, of type A unless another one is said."""
    query = parse_query(request.query)
    name = _name(query.get("name", ""))
    rtype = _type(query.get("type", "") or "A")
    process, members = exchange.backend.process, exchange.backend.administration.members
    own = members.get(process.id)
    if own is None:
        raise HttpError(
            503,
            "this node has not been told its own addresses yet; try again in a moment",
            retry_after_s=RETRY_AFTER_S,
        )
    if exchange.out:
        await exchange.begin_wait({})
    try:
        dug = await dig(split_address(own.dns_address), name, rtype)
    except NoAnswer as error:
        text = f"this node's DNS server, {own.dns_address}, gave no answer: {error}"
        raise HttpError(503, text, retry_after_s=RETRY_AFTER_S) from None
    return ok(exchange.keys.applied_index, msgspec.json.encode(_shown(dug, own.dns_address)))


def _shown(dug: Dug, server: str) -> dict[str, object]:
    shown = dug.shown
    return {
        "status": rcode_name(shown.rcode),
        "flags": shown.flags,
        "question": shown.question,
        "answer": shown.answer,
        "authority": shown.authority,
        "additional": shown.additional,
        "server": server,
        "bytes": dug.size,
        "over": dug.over,
        "took_ms": round(dug.took_s * 1000, 3),
    }


def _name(text: str) -> Name:
    if text.strip() == ".":
        return ()
    try:
        return name_of(text.strip())
    except ValueError:
        raise HttpError(
            400,
            f"?name={text[:60]}: expected a name such as leader.hstore.local: ASCII, between dots 1 to "
            "63 bytes, up to 253 in all",
        ) from None


def _type(text: str) -> int:
    try:
        return type_named(text)
    except ValueError:
        raise HttpError(
            400, f"?type={text[:20]}: expected a type such as {_TYPES}, or one as in TYPE65"
        ) from None
