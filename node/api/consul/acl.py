"""Tokens: /v1/acl/… and /v1/agent/token/…. There are none yet, and clients know that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ..dialect.forms import refused
from ..dialect.texts import NO_SUCH_PATH

if TYPE_CHECKING:
    from ..http.connection import Request
    from ..http.exchange import Exchange

DISABLED = "ACL support disabled"
"""Consul's agent/acl_endpoint.go; py-consul raises its `ACLDisabled` on the status."""


def disabled(_exchange: Exchange, _request: Request, rest: bytes) -> NoReturn:
    """Any method of `/v1/acl/…` and `PUT /v1/agent/token/…`."""
    if rest == b"bootstrap":
        raise refused(404, NO_SUCH_PATH)  # It will turn tokens on, where they are off.
    raise refused(401, DISABLED)
