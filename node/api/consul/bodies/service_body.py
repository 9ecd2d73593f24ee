"""The body of agent/service/register: a service of a node, with its checks.

Owns what is refused of a service, in Consul's order (agent/agent_endpoint.go, `AgentRegisterService`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ....config.command_limits import is_catalog_name
from ....model.services import (
    CHECKS_OF_SERVICE_MAX,
    CONSUL,
    NAME_BYTES_MAX,
    SERVICE_ID_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    GivenCheck,
    Service,
)
from ...dialect.forms import refused
from . import check_body
from .check_body import CheckBody
from .parts import (
    ServiceFields,
    aliases,
    check_address,
    check_port,
    cut,
    decode,
    go_name,
    is_longer,
    no_mesh,
    service_of,
)

if TYPE_CHECKING:
    from ...http.exchange import Exchange


class _Connect(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    native: bool = False
    sidecar_service: Any = None


class ServiceBody(ServiceFields, forbid_unknown_fields=True):
    """A service, as an agent is told of it."""

    name: str = ""
    check: CheckBody | None = None
    checks: tuple[CheckBody, ...] = ()
    # Of the mesh, and of things that there is one of.
    connect: _Connect | None = None
    sidecar_service: Any = None
    proxy: Any = None
    locality: Any = None
    socket_path: str = ""
    token: str = ""


_ALIASES = {**check_body.ALIASES, **aliases(ServiceBody, _Connect)}


def decode_register(
    exchange: Exchange, body: bytes, *, runs_here: bool
) -> tuple[Service, tuple[GivenCheck, ...]]:
    """Return the service and the checks that a body asks for. The service has no node yet.

    Args:
        exchange: Of the connection.
        body: The body.
        runs_here: The checks will run on this node.

    Raises:
        HttpError: 400, 500.
    """
    found = decode(exchange, ServiceBody, body, _ALIASES)
    service = _service_of(found)
    return service, _checks_of(exchange, found, service.id, runs_here=runs_here)


def _service_of(found: ServiceBody) -> Service:
    if not found.name:
        raise refused(400, "Missing service name")
    check_name(found.name)
    check_address(found.address)
    check_port(found.port)
    service_id = found.id or found.name
    check_id(service_id)
    check_tags(found.tags)
    service = service_of(found, service_id, found.name, found.weights)
    in_connect = None if found.connect is None else found.connect.sidecar_service
    if found.sidecar_service is not None or in_connect is not None:
        raise no_mesh()
    return service


def check_name(name: str) -> None:
    """Refuse a name that no service can have.

    Raises:
        HttpError: 400.
    """
    if name.lower() == CONSUL:
        text = "consul is the name of the members themselves"
    elif not is_catalog_name(name):
        text = f"it must have 1 to {NAME_BYTES_MAX} bytes without control characters"
    else:
        return
    raise refused(400, f"Invalid service name: {text}")


def check_id(service_id: str) -> None:
    """Refuse an ID that no service can have.

    Raises:
        HttpError: 400.
    """
    if service_id == CONSUL:
        raise refused(400, "Invalid service ID: consul is the ID of the members themselves")
    if is_longer(service_id, SERVICE_ID_BYTES_MAX):
        text = f"it must have 1 to {SERVICE_ID_BYTES_MAX:,} bytes"
        raise refused(400, f"Invalid service ID: {text}")


def check_tags(tags: tuple[str, ...]) -> None:
    """Refuse tags that no service can have.

    Raises:
        HttpError: 400.
    """
    if len(tags) > TAGS_MAX:
        raise refused(400, f"Invalid service tags: there are {len(tags)}, and may be {TAGS_MAX}")
    for tag in tags:
        if is_longer(tag, TAG_BYTES_MAX):
            text = f"'{cut(tag)}' has more than {TAG_BYTES_MAX} bytes"
            raise refused(400, f"Invalid service tags: {text}")


def _checks_of(
    exchange: Exchange, found: ServiceBody, service_id: str, *, runs_here: bool
) -> tuple[GivenCheck, ...]:
    every = found.checks
    if found.check is not None and not check_body.is_empty(found.check):
        every = (found.check, *every)
    if not every:
        return ()
    if len(every) > CHECKS_OF_SERVICE_MAX:
        text = f"a service has at most {CHECKS_OF_SERVICE_MAX} checks, and not {len(every)}"
        raise refused(400, f"Invalid check: {text}")
    given: dict[str, GivenCheck] = {}
    for number, one in enumerate(every, 1):
        if one.status not in check_body.STATUSES:
            raise refused(400, "Status for checks must 'passing', 'warning', 'critical'")
        # Consul's agent/agent.go, `addServiceInternal`.
        default = f"service:{service_id}" + (f":{number}" if len(every) > 1 else "")
        name = one.name or f"Service '{found.name}' check"
        check_id = one.check_id or default
        # Of two with one ID the later counts, as in Consul.
        given[check_id] = check_body.given(exchange, one, check_id, name, "", runs_here=runs_here)
    return tuple(given.values())
