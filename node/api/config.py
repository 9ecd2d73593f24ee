"""The settings of the cluster and the names of its nodes, shown and changed.

Owns how they look over HTTP. Which settings there are, and what their values may be, the node knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from .http.answers import Answer, HttpError, ok
from .http.params import decode_json, parse_query, text_from_path

if TYPE_CHECKING:
    from ..model.cluster_info import ConfigValue
    from .http.connection import Request
    from .http.exchange import Exchange

_KEY_SHOWN = 100
"""Characters of an unknown key in the answer."""


class _Value(msgspec.Struct):
    """The body of a change."""

    value: str


class _Name(msgspec.Struct):
    """The body of /v1/node/rename."""

    name: str
    node: str = ""


_log = structlog.get_logger()

_encode = msgspec.json.encode
_value = msgspec.json.Decoder(_Value)
_name = msgspec.json.Decoder(_Name)


async def show(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/config`: every setting by key, with where its value comes from."""
    return ok(exchange.keys.applied_index, _encode(await _current(exchange, request)))


async def show_one(exchange: Exchange, request: Request, rest: bytes) -> Answer:
    """`GET /v1/config/<key>`."""
    key = text_from_path(rest, "name of the setting")
    settings = await _current(exchange, request)
    if key not in settings:
        raise HttpError(
            404, f"there is no setting {key[:_KEY_SHOWN]!r}; there are {', '.join(settings)}"
        )
    return ok(exchange.keys.applied_index, _body(key, settings[key]))


async def change(exchange: Exchange, request: Request, rest: bytes) -> Answer:
    """`PUT /v1/config/<key>` `{"value"}`: change a setting on every node."""
    key = text_from_path(rest, "name of the setting")
    value = decode_json(_value, request.body).value
    deadline = await exchange.begin_wait(parse_query(request.query))
    changed = await exchange.backend.settings.change(key, value, deadline)
    _log.info(
        "a client changed a setting", setting=key, now=changed.value, client=exchange.client_host()
    )
    return ok(exchange.keys.applied_index, _body(key, changed))


async def rename(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/node/rename` `{"node", "name"}`: without `node`, the one that answers."""
    wanted = decode_json(_name, request.body)
    deadline = await exchange.begin_wait(parse_query(request.query))
    before = await exchange.backend.settings.rename(wanted.node, wanted.name, deadline)
    body = b'{"name":%b,"was":%b}' % (_encode(wanted.name), _encode(before))
    return ok(exchange.keys.applied_index, body)


async def _current(exchange: Exchange, request: Request) -> dict[str, ConfigValue]:
    """Return the settings as they are now; with `?stale`, as this node knows them."""
    query = parse_query(request.query)
    if "stale" not in query:
        await exchange.backend.administration.cluster_barrier(await exchange.begin_wait(query))
    return exchange.backend.settings.show()


def _body(key: str, setting: ConfigValue) -> bytes:
    return _encode({"key": key, **msgspec.to_builtins(setting)})
