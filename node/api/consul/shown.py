"""Nodes, services and checks as answers show them, and what `?filter=` may ask of each.

Objects are dictionaries, whose members `?filter=` looks at before they become JSON. Used by the
handlers of `catalog`, `health` and `agent`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...filter.fields import (
    BOOLEAN,
    INTEGER,
    TEXT,
    TEXT_MAP,
    TEXTS,
    UNSIGNED,
    ListOf,
    MapOf,
    Object,
)
from ...model import durations

if TYPE_CHECKING:
    from ...model.checks import Check, CheckDefinition
    from ...model.services import Service, Tagged
    from ...state.catalog.reader import CatalogNode

Shown = dict[str, Any]
"""An object of an answer."""

_INDEXES = dict.fromkeys(("CreateIndex", "ModifyIndex"), UNSIGNED)
_ADDRESS = Object({"Address": TEXT, "Port": INTEGER})
_WEIGHTS = Object({"Passing": INTEGER, "Warning": INTEGER})

NODE_FIELDS = Object(
    {
        **dict.fromkeys(("ID", "Node", "Address", "Datacenter"), TEXT),
        **dict.fromkeys(("TaggedAddresses", "Meta"), TEXT_MAP),
        **_INDEXES,
    }
)
"""What `?filter=` may ask of a node."""

SERVICE_FIELDS = Object(
    {
        **dict.fromkeys(("ID", "Service", "Address"), TEXT),
        "Tags": TEXTS,
        "TaggedAddresses": MapOf(_ADDRESS),
        "Meta": TEXT_MAP,
        "Port": INTEGER,
        "Weights": _WEIGHTS,
        "EnableTagOverride": BOOLEAN,
        **_INDEXES,
    }
)
"""What it may ask of a service, as `health/service` and `catalog/node` show it."""

CHECK_FIELDS = Object(
    {
        **dict.fromkeys(
            (
                "Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName",
                "Type", "Interval", "Timeout",
            ),
            TEXT,
        ),
        "ServiceTags": TEXTS,
        "ExposedPort": INTEGER,
        **_INDEXES,
    }
)  # fmt: skip
"""What it may ask of a check. `Definition` is left out, as in Consul's agent/structs/structs.go."""

HEALTH_FIELDS = Object(
    {"Node": NODE_FIELDS, "Service": SERVICE_FIELDS, "Checks": ListOf(CHECK_FIELDS)}
)
"""What it may ask of an instance, as `health/service` shows it."""

FLAT_FIELDS = Object(
    {
        **dict.fromkeys(
            (
                "ID", "Node", "Address", "Datacenter", "ServiceKind", "ServiceID", "ServiceName",
                "ServiceAddress",
            ),
            TEXT,
        ),
        **dict.fromkeys(("TaggedAddresses", "NodeMeta", "ServiceMeta"), TEXT_MAP),
        "ServiceTags": TEXTS,
        "ServiceTaggedAddresses": MapOf(_ADDRESS),
        "ServiceWeights": _WEIGHTS,
        "ServicePort": INTEGER,
        "ServiceEnableTagOverride": BOOLEAN,
        **_INDEXES,
    }
)  # fmt: skip
"""What it may ask of an instance, as `catalog/service` shows it."""


def node(found: CatalogNode, datacenter: str) -> Shown:
    """Return a node."""
    tagged = dict(found.tagged)
    if found.is_member:
        tagged = {"lan": found.address, "wan": found.address} | tagged
    return {
        "ID": found.uuid,
        "Node": found.name,
        "Address": found.address,
        "Datacenter": datacenter,
        "TaggedAddresses": tagged,
        "Meta": dict(found.meta),
        "CreateIndex": found.create_index,
        "ModifyIndex": found.modify_index,
    }


def service(found: Service) -> Shown:
    """Return a service, as `health/service` and `catalog/node` show it."""
    return {
        "ID": found.id,
        "Service": found.name,
        "Tags": found.tags,
        "Address": found.address,
        "TaggedAddresses": _tagged(found.tagged),
        "Meta": dict(found.meta),
        "Port": found.port,
        "Weights": _weights(found),
        "EnableTagOverride": found.tag_override,
        "CreateIndex": found.create_index,
        "ModifyIndex": found.modify_index,
    }


def flat(found: Service, on: Shown) -> Shown:
    """Return a service with its node, as `catalog/service` shows them.

    Args:
        found: The service.
        on: Its node, of `node`.
    """
    return {
        "ID": on["ID"],
        "Node": on["Node"],
        "Address": on["Address"],
        "Datacenter": on["Datacenter"],
        "TaggedAddresses": on["TaggedAddresses"],
        "NodeMeta": on["Meta"],
        "ServiceKind": "",
        "ServiceID": found.id,
        "ServiceName": found.name,
        "ServiceTags": found.tags,
        "ServiceAddress": found.address,
        "ServiceTaggedAddresses": _tagged(found.tagged),
        "ServiceWeights": _weights(found),
        "ServiceMeta": dict(found.meta),
        "ServicePort": found.port,
        "ServiceEnableTagOverride": found.tag_override,
        "CreateIndex": found.create_index,
        "ModifyIndex": found.modify_index,
    }


def check(found: Check, node_name: str, of: Service | None) -> Shown:
    """Return a check.

    Args:
        found: The check.
        node_name: The name of its node.
        of: Its service; None: it is a check of the node itself.
    """
    kind = interval = timeout = ""
    definition = found.definition
    if definition is not None:
        kind = definition.kind
        interval = _duration(definition.interval_ns)
        timeout = _duration(definition.timeout_ns)
    return {
        "Node": node_name,
        "CheckID": found.id,
        "Name": found.name,
        "Status": found.status,
        "Notes": found.notes,
        "Output": found.output,
        "ServiceID": found.service,
        "ServiceName": "" if of is None else of.name,
        "ServiceTags": () if of is None else of.tags,
        "Type": kind,
        "Interval": interval,
        "Timeout": timeout,
        "ExposedPort": 0,
        "Definition": _definition(definition) if definition and definition.is_shown else {},
        "CreateIndex": found.create_index,
        "ModifyIndex": found.modify_index,
    }


def _weights(found: Service) -> dict[str, int]:
    return {"Passing": found.weight_passing, "Warning": found.weight_warning}


def _tagged(tagged: Tagged) -> dict[str, dict[str, str | int]]:
    return {key: {"Address": address, "Port": port} for key, address, port in tagged}


def _duration(ns: int) -> str:
    return durations.show(ns) if ns else ""


def _definition(found: CheckDefinition) -> Shown:
    """Return what the catalog was given, without what is empty.

    As Consul's agent/structs/structs.go, `HealthCheckDefinition.MarshalJSON`: three durations are texts,
    `TTL` is a number of nanoseconds.
    """
    every: Shown = {
        "HTTP": found.http,
        "TLSServerName": found.tls_server_name,
        "TLSSkipVerify": found.tls_skip_verify,
        "Header": dict(found.headers),
        "Method": found.method,
        "Body": found.body,
        "DisableRedirects": found.no_redirects,
        "TCP": found.tcp,
        "TCPUseTLS": found.tcp_tls,
        "Interval": _duration(found.interval_ns),
        "OutputMaxSize": found.output_max,
        "Timeout": _duration(found.timeout_ns),
        "DeregisterCriticalServiceAfter": _duration(found.deregister_after_ms * 1_000_000),
        "ScriptArgs": found.args,
        "TTL": found.ttl_ns,
    }
    return {name: value for name, value in every.items() if value}
