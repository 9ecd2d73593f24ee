"""The bodies of catalog/register and deregister: nodes that are no members, with what is on them.

Owns what is refused of them, in Consul's order (agent/consul/catalog_endpoint.go, `nodePreApply`,
`servicePreApply`, `checkPreApply`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ....config.command_limits import definition_fault, is_catalog_name
from ....model.checks import OUTPUT_BYTES_MAX, CheckDefinition, CheckKind
from ....model.services import (
    ADDRESS_BYTES_MAX,
    CHECKS_OF_NODE_MAX,
    CONSUL,
    NAME_BYTES_MAX,
    SERVICE_ID_BYTES_MAX,
    CatalogRegister,
    ExternalNode,
    GivenCheck,
    Service,
)
from ....model.values import uuid_text
from ...dialect import ids
from ...dialect.forms import refused
from . import check_body, service_body
from .check_body import Duration
from .parts import (
    ServiceFields,
    WeightsBody,
    aliases,
    check_address,
    check_port,
    cut,
    decode,
    go_name,
    is_longer,
    meta_of,
    service_of,
    tagged_hosts_of,
)

if TYPE_CHECKING:
    from ...http.answers import HttpError
    from ...http.exchange import Exchange


class ServiceOfNode(ServiceFields, forbid_unknown_fields=True):
    """A service, as the catalog is told of it."""

    service: str = ""


class DefinitionBody(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """What is to be run for a check of the catalog."""

    http: str = msgspec.field(default="", name="HTTP")
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    header: dict[str, tuple[str, ...]] = {}
    method: str = ""
    body: str = ""
    disable_redirects: bool = False
    tcp: str = msgspec.field(default="", name="TCP")
    tcp_use_tls: bool = False
    interval: Duration = None
    timeout: Duration = None
    ttl: Duration = msgspec.field(default=None, name="TTL")
    output_max_size: int = 0
    deregister_critical_service_after: Duration = None
    script_args: tuple[str, ...] = ()


class CheckOfNode(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """A check, as the catalog is told of it."""

    node: str = ""
    check_id: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: tuple[str, ...] = ()
    type: str = ""
    interval: str = ""
    timeout: str = ""
    exposed_port: int = 0
    definition: DefinitionBody | None = None
    namespace: str = ""
    partition: str = ""
    create_index: int = 0
    modify_index: int = 0


class _Register(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    node: str = ""
    id: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] = {}
    node_meta: dict[str, str] = {}
    service: ServiceOfNode | None = None
    check: CheckOfNode | None = None
    checks: tuple[CheckOfNode, ...] = ()
    skip_node_update: bool = False


class _Deregister(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    node: str = ""
    service_id: str = ""
    check_id: str = ""


_ALIASES = aliases(
    ServiceOfNode,
    DefinitionBody,
    CheckOfNode,
    _Register,
    args="ScriptArgs",
    scriptargs="ScriptArgs",
)
_DEREGISTER_ALIASES = aliases(_Deregister)
_NO_SERVICE = ServiceOfNode()
_NO_CHECK = CheckOfNode()
_UNSET_WEIGHTS = WeightsBody(0, 0)
_NS_MAX = 2**63 - 1


def decode_register(exchange: Exchange, body: bytes) -> CatalogRegister:
    """Return what the body of catalog/register asks for.

    Raises:
        HttpError: 400, 500.
    """
    found = decode(exchange, _Register, body, _ALIASES)
    node = _node_of(found)
    service = None
    if found.service is not None and found.service != _NO_SERVICE:
        service = _service_of(found.service)
    every = found.checks
    if found.check is not None and found.check != _NO_CHECK:
        every = (found.check, *every)
    if len(every) > CHECKS_OF_NODE_MAX:
        raise _invalid_check(f"there are {len(every):,}, and may be {CHECKS_OF_NODE_MAX:,}")
    checks: dict[str, GivenCheck] = {}
    for one in every:
        check = _check_of(one, found.node)
        checks[check.id] = check  # Of two with one ID the later counts.
    return CatalogRegister(node, found.skip_node_update, service, tuple(checks.values()))


def decode_deregister(exchange: Exchange, body: bytes) -> tuple[str, str | None, str | None]:
    """Return the node, the service's ID and the check's ID that catalog/deregister names.

    Neither of the IDs: the whole node. At most one of them is not None.

    Raises:
        HttpError: 400, 500.
    """
    found = decode(exchange, _Deregister, body, _DEREGISTER_ALIASES)
    if not found.node:
        raise refused(400, "Must provide node")
    # Consul's agent/consul/fsm, `applyDeregister`: a service counts before a check.
    if found.service_id:
        return found.node, found.service_id, None
    return found.node, None, found.check_id or None


def _node_of(found: _Register) -> ExternalNode:
    if not found.node:
        raise refused(400, "Must provide node")
    check_node_name(found.node)
    uuid = ids.parse(found.id) if found.id else None
    if found.id and uuid is None:
        raise refused(400, f"Invalid node ID: '{cut(found.id)}' is no UUID")
    if not found.address and not found.skip_node_update:
        raise refused(400, "Must provide address")
    if is_longer(found.address, ADDRESS_BYTES_MAX):
        raise refused(400, f"Invalid address: it has more than {ADDRESS_BYTES_MAX} bytes")
    return ExternalNode(
        0,
        found.node,
        "" if uuid is None else uuid_text(uuid),
        found.address,
        tagged_hosts_of(found.tagged_addresses),
        meta_of(found.node_meta, "Node", allows_reserved=True),
    )


def check_node_name(name: str) -> None:
    """Refuse a name that no node of the catalog can have.

    Raises:
        HttpError: 400.
    """
    if not is_catalog_name(name):
        text = f"it must have 1 to {NAME_BYTES_MAX} bytes without control characters"
        raise refused(400, f"Invalid node name: {text}")


def _service_of(found: ServiceOfNode) -> Service:
    if not found.service:
        raise refused(400, "Must provide service name with ID")
    service_id = found.id or found.service
    is_members = service_id == CONSUL and found.service.lower() == CONSUL
    if not is_members:  # It is refused as such, where it is known whose it is.
        service_body.check_name(found.service)
        service_body.check_id(service_id)
    service_body.check_tags(found.tags)
    check_address(found.address)
    check_port(found.port)
    # Go's client sends what nobody has set as 0 and 0 (api/agent.go, `AgentService.Weights`), and Consul
    # looks at neither here.
    weights = None if found.weights == _UNSET_WEIGHTS else found.weights
    return service_of(found, service_id, found.service, weights)


def _check_of(found: CheckOfNode, node: str) -> GivenCheck:
    check_id = found.check_id or found.name
    if not check_id:
        raise _invalid_check("it has neither CheckID nor Name")
    if found.node and found.node.lower() != node.lower():
        raise _invalid_check(f"its Node is '{cut(found.node)}', and not '{cut(node)}'")
    status = check_body.STATUSES.get(found.status)
    if status is None:
        raise refused(400, f"Invalid check status: '{cut(found.status)}'")
    check_body.check_texts(check_id, found.name, found.notes)
    if is_longer(found.service_id, SERVICE_ID_BYTES_MAX):
        raise refused(500, "Missing service registration")
    definition = None if found.definition is None else _definition_of(found.definition)
    return GivenCheck(
        check_id,
        found.name or check_id,
        status or "critical",
        found.notes,
        _kept_output(found.output),
        definition,
        found.service_id,
    )


def _kept_output(text: str) -> str:
    """Return as much of an output as is kept, with a note on how much was cut."""
    if not is_longer(text, OUTPUT_BYTES_MAX):
        return text
    whole = text.encode()
    kept = whole[:OUTPUT_BYTES_MAX].decode(errors="ignore")
    return f"{kept}… (captured {len(kept.encode())} of {len(whole)} bytes)"


def _definition_of(found: DefinitionBody) -> CheckDefinition | None:
    """Return a definition; None: nothing is said in it."""
    if found == _NO_DEFINITION:
        return None
    interval_ns = _duration_ns("Interval", found.interval)
    kinds: list[CheckKind] = []
    if found.http:
        kinds.append("http")
    if found.tcp:
        kinds.append("tcp")
    kind: CheckKind = kinds[0] if len(kinds) == 1 and interval_ns > 0 else ""
    check_body.check_target(kind, found.http if kind == "http" else found.tcp)
    if kind == "http":
        check_body.check_request(found.method, found.header, found.body, found.tls_server_name)
    after_ns = _duration_ns(
        "DeregisterCriticalServiceAfter", found.deregister_critical_service_after
    )
    definition = CheckDefinition(
        kind,
        ttl_ns=_duration_ns("TTL", found.ttl),
        interval_ns=check_body.interval_ns(interval_ns),
        timeout_ns=_duration_ns("Timeout", found.timeout),
        http=found.http,
        method=found.method,
        headers=tuple(sorted(found.header.items())),
        body=found.body,
        no_redirects=found.disable_redirects,
        tls_skip_verify=found.tls_skip_verify,
        tls_server_name=found.tls_server_name,
        tcp=found.tcp,
        tcp_tls=found.tcp_use_tls,
        args=found.script_args,
        deregister_after_ms=check_body.deregister_after_ms(after_ns),
        output_max=check_body.output_max(found.output_max_size),
        is_shown=True,
    )
    fault = definition_fault(definition)
    if fault:
        raise _invalid_check(f"{fault}: its Definition is too large")
    return definition


_NO_DEFINITION = DefinitionBody()


def _duration_ns(name: str, value: Duration) -> int:
    """Return the nanoseconds of a member of a definition, which answers show as an empty text for 0."""
    found = 0 if value == "" else check_body.duration_ns(name, value)
    if not 0 <= found <= _NS_MAX:
        raise _invalid_check(f"{name} must not be negative")
    return found


def _invalid_check(text: str) -> HttpError:
    return refused(400, f"Invalid check: {text}")
