"""Services of one node, as an agent of Consul keeps them: /v1/agent/services, service/register, deregister.

Owns what the log says of a registration that is dubious, and no more: bodies are in `bodies/`, the node
in `place.py`, and what a registration does in `node/state/catalog/services.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog
import trio

from hstore.dns.ip_literals import is_ip
from hstore.dns.services import host_name

from ...filter.fields import TEXT, Object
from ...model.services import RegisterService
from ..dialect import filters
from ..dialect.forms import refused
from ..dialect.queries import boolean, datacenter
from ..http.params import parse_query, text_from_path
from . import by_id, place, shown
from .bodies import service_body
from .bodies.parts import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...model.services import Service
    from ...state.reader import Reader
    from ..http.answers import HttpError
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from .shown import Shown

_log = structlog.get_logger(__name__)

_INDEXES = ("CreateIndex", "ModifyIndex")
_FIELDS = Object(
    {
        **{
            name: field
            for name, field in shown.SERVICE_FIELDS.fields.items()
            if name not in _INDEXES
        },
        "Datacenter": TEXT,
    }
)
"""What `?filter=` may ask of a service here."""

# RFC 1035, section 2.3.1, and the underscore, which DNS itself takes.
_DNS_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)

_TOLD_AGAIN_S = 3600.0
_TOLD_MAX = 1_024


class _Told:
    """Which sentences the log has heard in the last hour, so that each is there once in it."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], float] = {}

    def is_new(self, event: str, service_id: str) -> bool:
        """Whether this has not been said of this service; from now on it has."""
        now = trio.current_time()
        before = self._at.get((event, service_id))
        if before is not None and before <= now < before + _TOLD_AGAIN_S:
            return False
        if len(self._at) >= _TOLD_MAX:
            self._at.clear()
        self._at[event, service_id] = now
        return True


_told = _Told()


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/agent/services`: `?node=`, `?filter=`. Without the service `consul`."""
    query = parse_query(request.query)
    dc = datacenter(exchange)

    def entries(reader: Reader) -> Iterator[tuple[str, Shown]]:
        number = place.number_of(exchange, query)
        for service in () if number is None else reader.services_of(number):
            yield service.id, _shown(service, dc)

    return by_id.show(exchange, query, filters.Choice(query, _FIELDS), entries)


def _shown(service: Service, dc: str) -> Shown:
    found = shown.service(service)
    for name in _INDEXES:
        del found[name]
    found["Datacenter"] = dc
    return found


def register(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/agent/service/register`: `?replace-existing-checks`, `?node=`."""
    query = parse_query(request.query)
    replaces_checks = boolean(query, "replace-existing-checks")
    where = place.place_of(exchange, query, makes=True)
    is_here = place.runs_here(exchange, where)
    service, checks = service_body.decode_register(exchange, request.body, runs_here=is_here)
    _tell_dubious(exchange, service, is_here=is_here)
    command = RegisterService(where, service, checks, replaces_checks)
    return place.write(exchange, request, query, command, place.denied)


def _tell_dubious(exchange: Exchange, service: Service, *, is_here: bool) -> None:
    """Have the log say what a client may not have meant."""
    if not _DNS_LABEL.fullmatch(service.name) and _told.is_new("name", service.id):
        _log.warning("DNS cannot name a service", service=service.name, service_id=service.id)
    is_odd = service.address and not is_ip(service.address) and host_name(service.address) is None
    if is_odd and _told.is_new("odd address", service.id):
        _log.warning(
            "DNS leaves out a service",
            service=service.name,
            service_id=service.id,
            address=cut(service.address),
            hint="its address is neither an IP address nor a host name",
        )
    is_ours = is_here and not service.address and not exchange.is_local
    if is_ours and _told.is_new("address", service.id):
        _log.warning(
            "a service without an address, from another machine",
            service=service.name,
            service_id=service.id,
            registered_from=exchange.client_host(),
            hint="it has this member's address",
        )


def deregister(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`PUT /v1/agent/service/deregister/<id>`: `?node=`. Its checks go with it."""
    service_id = text_from_path(rest, "service ID")
    return place.deregister(exchange, request, unknown(service_id), service=service_id)


def unknown(service_id: str) -> HttpError:
    """Return the error of a service that is not there."""
    return refused(
        404,
        f'Unknown service ID "{cut(service_id)}". Ensure that the service ID is passed, not the '
        "service name.",
    )
