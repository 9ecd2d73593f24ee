"""What changes or ends this node, for programs on this machine only, until tokens exist.

Owns the check for that. What the requests do is the node's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import HstoreError
from .answers import Answer, HttpError, ok
from .exchange import unavailable
from .simple import need_length
from .values import decode_json, parse_query

if TYPE_CHECKING:
    from .connection import Request
    from .exchange import Exchange


class _Member(msgspec.Struct):
    """The body of /v1/leader/remove."""

    node: str


_member = msgspec.json.Decoder(_Member)


def _check(x: Exchange) -> None:
    if not x.is_local:
        raise HttpError(403, "this is for programs on the node's own machine: connect to loopback")


async def stop(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/stop`: end cleanly, after this answer."""
    _check(x)
    x.backend.stop()
    # No further request is taken: the answer goes out, and then nothing holds the node up.
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"stopping":true}')


async def kill(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/kill`: end as a crash would, after this answer."""
    _check(x)
    x.backend.kill()
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"killing":true}')


async def leave(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/leave`: be removed from the cluster for good, then stop."""
    _check(x)
    deadline = await x.begin_change(parse_query(request.query))
    try:
        await x.backend.leave(deadline)
    except HstoreError as error:
        raise unavailable(error, is_write=True) from error
    request.keep_alive = False
    return ok(x.backend.applied_index, b'{"left":true}')


async def remove(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/leader/remove` `{"node"}`: remove a member for good."""
    _check(x)
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
