"""What ends this node or changes who leads and who belongs, for programs on this machine only, until tokens exist.

Owns the check for that. What the requests do is the node's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import HstoreError
from .http.answers import Answer, HttpError, ok
from .http.exchange import unavailable
from .http.params import decode_json, parse_query
from .simple import need_length

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


def check_local(x: Exchange) -> None:
    """Refuse who is not on this machine.

    Raises:
        HttpError: 403.
    """
    if not x.is_local:
        raise HttpError(403, "this is for programs on the node's own machine: connect to loopback")


async def stop(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/stop`: leave the quorum and end cleanly, after this answer."""
    check_local(x)
    await x.begin_change(parse_query(request.query))
    why = await x.backend.stop()
    # No further request is taken: the answer goes out, and then nothing holds the node up.
    request.keep_alive = False
    still_voter = b',"still_voter":%b' % msgspec.json.encode(why) if why else b""
    return ok(x.backend.applied_index, b'{"stopping":true%b}' % still_voter)


async def restart(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/restart`: stop cleanly, keep the vote, and begin anew in the same process."""
    check_local(x)
    x.backend.restart()
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"restarting":true}')


async def kill(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/kill`: end as a crash would, after this answer."""
    check_local(x)
    x.backend.kill()
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"killing":true}')


async def leave(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/leave`: be removed from the cluster for good, then stop."""
    check_local(x)
    deadline = await x.begin_change(parse_query(request.query))
    try:
        await x.backend.leave(deadline)
    except HstoreError as error:
        raise unavailable(error, is_write=True) from error
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"left":true}')


async def remove(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/leader/remove` `{"node"}`: remove a member for good."""
    check_local(x)
    need_length(request)
    member = decode_json(_member, request.body)
    if not member.node:
        raise HttpError(400, 'the body must name a node: {"node": "n2"}')
    deadline = await x.begin_change(parse_query(request.query))
    try:
        await x.backend.remove(member.node, deadline)
    except HstoreError as error:
        raise unavailable(error, is_write=True) from error
    return ok(x.backend.applied_index, b'{"removed":%b}' % msgspec.json.encode(member.node))


async def transfer(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/leader/transfer` `{"to"}`: have another member lead; empty: any that can."""
    check_local(x)
    need_length(request)
    to = decode_json(_successor, request.body).to
    deadline = await x.begin_change(parse_query(request.query))
    try:
        leader = await x.backend.transfer(to, deadline)
    except HstoreError as error:
        raise unavailable(error, is_write=True) from error
    return ok(x.backend.applied_index, b'{"leader":%b}' % msgspec.json.encode(leader))
