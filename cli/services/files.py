"""Consul's service files, in JSON: `{"service": {…}}`, `{"services": […]}`, or a service itself.

Members are called as in Consul's configuration (`tagged_addresses`), or as in its API. Nothing of a
file is sent before all of it was read and checked by the shapes that a node checks bodies by.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from hstore.node.errors import ConfigError

from ..vocabulary import did_you_mean

_ENDINGS = (".json", ".hcl")
_BYTES_MAX = 16 << 20
_PARTS = frozenset({"service", "services", "check", "checks"})

# Where an HCL file begins: a comment, `service {`, or `services = [`.
_HCL = re.compile(rb"\s*(?:#|//|/\*|\w+\s*[={])")

_decoder = msgspec.json.Decoder()

Body = dict[str, object]


def is_file_name(word: str) -> bool:
    """Whether a word names a file: it has a `/` and one is there, or it ends in .json or .hcl."""
    return word.endswith(_ENDINGS) or ("/" in word and Path(word).is_file())


def read(path: Path) -> list[Body]:
    """Return the bodies that register the services of a file, in their order.

    Raises:
        ConfigError: It cannot be read, or is no such file, or a service in it is wrong.
    """
    found = _content(path)
    services, checks = _parts(path, found)
    if not services:
        raise ConfigError(f"{path}: there is no service in it")
    bodies = [_service(path, one) for one in services]
    for one in checks:
        _attach(path, bodies, one)
    for body in bodies:
        _check(path, body)
    return bodies


def _content(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    if len(text) > _BYTES_MAX:
        raise ConfigError(f"{path}: it has more than {_BYTES_MAX >> 20} MiB")
    if path.suffix == ".hcl" or _HCL.match(text):
        raise ConfigError(
            f'{path} is HCL: only JSON is read (consul\'s "services" blocks translate one to one)'
        )
    try:
        found = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: a service file is an object with service or services in it, and this is"
            f" {_short(found)}"
        )
    return found


def _parts(path: Path, found: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the services of a file, and the checks that stand beside them."""
    names = {name.lower() for name in found}
    if not _PARTS & names or "name" in names:
        return [found], []
    services: list[Any] = []
    checks: list[Any] = []
    for name, value in found.items():
        if name.lower() not in _PARTS:
            raise ConfigError(f"{path}: only services and checks are read, and it has {name!r}")
        into = services if name.lower().startswith("service") else checks
        if isinstance(value, list):
            into += value
        else:
            into.append(value)
    return services, checks


def _service(path: Path, given: Any) -> Body:
    from hstore.node.api.consul.bodies.parts import AddressPort, WeightsBody
    from hstore.node.api.consul.bodies.service_body import ServiceBody

    body = _named(path, "service", given, ServiceBody, {})
    if isinstance(body.get("TaggedAddresses"), dict):
        body["TaggedAddresses"] = {
            key: _named(path, "tagged address", one, AddressPort, {})
            for key, one in _items(body["TaggedAddresses"])
        }
    if isinstance(body.get("Weights"), dict):
        body["Weights"] = _named(path, "service's weights", body["Weights"], WeightsBody, {})
    every = (body.pop("Check", None), *_listed(body.pop("Checks", None)))
    checks = [_check_body(path, one) for one in every if one is not None]
    if checks:
        body["Checks"] = checks
    body.setdefault("ID", body.get("Name"))
    return body


def _check_body(path: Path, given: Any) -> Body:
    from hstore.node.api.consul.bodies.check_body import CheckRegisterBody

    return _named(path, "check", given, CheckRegisterBody, {"id": "CheckID", "scriptargs": "Args"})


def _attach(path: Path, bodies: list[Body], given: Any) -> None:
    """Put a check that stands beside the services to the one that it names."""
    check = _check_body(path, given)
    service_id = check.pop("ServiceID", None)
    if not service_id:
        raise ConfigError(
            f"{path}: the check {check.get('Name') or check.get('CheckID')} has no service_id: a "
            "check of a node is registered by PUT /v1/agent/check/register"
        )
    body = next((one for one in bodies if one.get("ID") == service_id), None)
    if body is None:
        raise ConfigError(f"{path}: there is no service {service_id!r} in it, which a check names")
    checks = body.setdefault("Checks", [])
    if isinstance(checks, list):
        # The IDs of the service's own checks stay those that they have without this one.
        for number, one in enumerate(checks, 1):
            end = f":{number}" if len(checks) > 1 else ""
            one.setdefault("CheckID", f"service:{service_id}{end}")
        check.setdefault("CheckID", check.get("Name") or f"service:{service_id}:{len(checks) + 1}")
        checks.append(check)


def _named(
    path: Path, what: str, given: Any, shape: type[msgspec.Struct], others: dict[str, str]
) -> Body:
    """Return an object with its members called as the API calls them.

    Raises:
        ConfigError: It is no object, or has a member that there is not.
    """
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: a {what} must be an object, and one is {_short(given)}")
    known = {name.lower(): name for name in shape.__struct_encode_fields__} | others
    body: Body = {}
    for name, value in given.items():
        member = known.get(name.lower().replace("_", ""))
        if member is None:
            meant = did_you_mean(name, shape.__struct_fields__)
            raise ConfigError(f"{path}: a {what} has no member {name!r}{meant}")
        body[member] = value
    return body


def _check(path: Path, body: Body) -> None:
    """Refuse a body that a node would refuse whatever it has.

    Raises:
        ConfigError: With what the node would say.
    """
    from hstore.node.api.consul.bodies import service_body
    from hstore.node.api.http.answers import HttpError
    from hstore.node.model.commands import ClusterSettings

    # Stands for the node: one that runs scripts, and of whose datacenter no body says anything.
    node: Any = SimpleNamespace(
        backend=SimpleNamespace(
            checks=SimpleNamespace(scripts=True),
            settings=SimpleNamespace(cluster_settings=ClusterSettings()),
        )
    )
    try:
        service_body.decode_register(node, msgspec.json.encode(body), runs_here=True)
    except HttpError as error:
        label = body.get("ID") or body.get("Name") or "without a name"
        raise ConfigError(f"{path}: service {label}: {error.plain or error}") from None


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _short(value: object) -> str:
    return repr(value)[:40]
