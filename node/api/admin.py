"""What an operator asks of this node: to stop, restart, leave, remove a member, hand over the lead.

Owns the bodies of these requests and of their answers. The node carries them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .http.answers import Answer, HttpError, ok
from .http.params import decode_json, parse_query

if TYPE_CHECKING:
    from .http.connection import Request
    from .http.exchange import Exchange


class _Member(msgspec.Struct):
    """The body of /v1/leader/remove."""

    node: str


class _Successor(msgspec.Struct):
    """The body of /v1/leader/transfer."""

    to: str = ""


_member = msgspec.json.Decoder(_Member)
_successor = msgspec.json.Decoder(_Successor)


async def stop(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/stop`: leave the quorum and end cleanly, after this answer."""
    await exchange.begin_wait(parse_query(request.query))
    why = await exchange.backend.process.stop()
    # No further request is taken: the answer goes out, and then nothing holds the node up.
    request.keep_alive = False
    still_voter = b',"still_voter":%b' % msgspec.json.encode(why) if why else b""
    return ok(exchange.keys.applied_index, b'{"stopping":true%b}' % still_voter)


async def restart(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/restart`: stop cleanly, keep the vote, and begin anew in the same process."""
    exchange.backend.process.restart()
    request.keep_alive = False
    return ok(exchange.keys.applied_index, b'{"restarting":true}')


async def kill(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/kill`: end as a crash would, after this answer."""
    exchange.backend.process.kill()
    request.keep_alive = False
    return ok(exchange.keys.applied_index, b'{"killing":true}')


async def leave(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/leave`: be removed from the cluster for good, then stop."""
    deadline = await exchange.begin_wait(parse_query(request.query))
    await exchange.backend.administration.leave(deadline)
    request.keep_alive = False
    return ok(exchange.keys.applied_index, b'{"left":true}')


async def remove(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/leader/remove` `{"node"}`: remove a member for good."""
    member = decode_json(_member, request.body)
    if not member.node:
        raise HttpError(400, 'the body must name a node: {"node": "n2"}')
    deadline = await exchange.begin_wait(parse_query(request.query))
    await exchange.backend.administration.remove(member.node, deadline)
    return ok(exchange.keys.applied_index, b'{"removed":%b}' % msgspec.json.encode(member.node))


async def transfer(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/leader/transfer` `{"to"}`: have another member lead; empty: any that can."""
    to = decode_json(_successor, request.body).to
    deadline = await exchange.begin_wait(parse_query(request.query))
    leader = await exchange.backend.administration.transfer(to, deadline)
    return ok(exchange.keys.applied_index, b'{"leader":%b}' % msgspec.json.encode(leader))


async def stop_all(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/cluster/stop`: have every member stop cleanly, this node among them."""
    exchange.backend.administration.stop_all()
    request.keep_alive = False
    return ok(exchange.keys.applied_index, b'{"stopping":true}')
