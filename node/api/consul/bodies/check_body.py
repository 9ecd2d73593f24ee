"""The bodies of checks: those of agent/check/register and update, and the checks within a service.

Owns which definitions there are and what is refused of one, in Consul's order and words
(agent/structs/check_type.go, `Validate`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from ....config.command_limits import (
    ARGS_BYTES_MAX,
    ARGS_MAX,
    CHECK_BODY_BYTES_MAX,
    HEADERS_BYTES_MAX,
    HEADERS_MAX,
    TARGET_BYTES_MAX,
)
from ....model.checks import (
    CHECK_ID_BYTES_MAX,
    DEREGISTER_AFTER_MS_MIN,
    INTERVAL_NS_MIN,
    NOTES_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    CheckDefinition,
    CheckKind,
)
from ....model.services import NAME_BYTES_MAX, SERVICE_ID_BYTES_MAX, GivenCheck
from ...dialect import bodies
from ...dialect.forms import refused
from .parts import aliases, cut, decode, go_name, is_longer

if TYPE_CHECKING:
    from ...http.answers import HttpError
    from ...http.exchange import Exchange

SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent; to enable, configure 'checks.script' to true"
)

Status = Literal["", "passing", "warning", "critical"]
STATUSES: dict[str, Status] = {
    "": "",
    "passing": "passing",
    "warning": "warning",
    "critical": "critical",
}

Duration = str | int | float | None
"""A text such as `10s`, or nanoseconds."""

_COUNT_MAX = 2**31 - 1
_PORT_MAX = 65_535
_MS_NS = 1_000_000
# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
# RFC 9110, section 5.5: neither in a field's value nor in a request's target.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROLS_AND_SPACES = re.compile(r"[\x00-\x20\x7f]")
# The first says that a check has sent a request; the others say where a request ends.
_OWN_HEADERS = frozenset(
    {"x-hstore-check", "content-length", "transfer-encoding", "trailer", "expect", "upgrade"}
)


class CheckBody(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    """A check, as a service brings it with it."""

    check_id: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    ttl: Duration = None
    interval: Duration = None
    timeout: Duration = None
    http: str = msgspec.field(default="", name="HTTP")
    method: str = ""
    header: dict[str, tuple[str, ...]] = {}
    body: str = ""
    disable_redirects: bool = False
    tls_skip_verify: bool = False
    tls_server_name: str = ""
    tcp: str = msgspec.field(default="", name="TCP")
    tcp_use_tls: bool = False
    args: tuple[str, ...] = ()
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after: Duration = None
    output_max_size: int = 0
    # Of kinds that are refused, and of things that there is one of.
    grpc: str = msgspec.field(default="", name="GRPC")
    grpc_use_tls: bool = False
    udp: str = msgspec.field(default="", name="UDP")
    h2ping: str = msgspec.field(default="", name="H2PING")
    h2ping_use_tls: bool = msgspec.field(default=False, name="H2PingUseTLS")
    os_service: str = ""
    docker_container_id: str = ""
    shell: str = ""
    alias_service: str = ""
    alias_node: str = ""
    exposed_port: int = 0
    proxy_http: str = ""
    proxy_grpc: str = ""
    token: str = ""
    namespace: str = ""
    partition: str = ""


class CheckRegisterBody(CheckBody, rename=go_name, forbid_unknown_fields=True):
    """The body of agent/check/register: a check of the node, or of one of its services."""

    service_id: str = ""


class _Update(msgspec.Struct, rename=go_name, forbid_unknown_fields=True):
    status: str = ""
    output: str = ""


ALIASES = aliases(CheckRegisterBody, id="CheckID", scriptargs="Args", script_args="Args")

_EMPTY = CheckBody()
_UNSUPPORTED = (
    ("grpc", "GRPC"),
    ("udp", "UDP"),
    ("h2ping", "H2PING"),
    ("os_service", "OSService"),
    ("docker_container_id", "DockerContainerID"),
    ("alias_service", "AliasService"),
    ("alias_node", "AliasNode"),
)
_KINDS: tuple[tuple[CheckKind, str], ...] = (("http", "HTTP"), ("tcp", "TCP"), ("script", "Args"))


def decode_register(exchange: Exchange, body: bytes, *, runs_here: bool) -> GivenCheck:
    """Return the check that the body of agent/check/register asks for.

    Args:
        exchange: Of the connection.
        body: The body.
        runs_here: The check will run on this node.

    Raises:
        HttpError: 400, 500.
    """
    found = decode(exchange, CheckRegisterBody, body, ALIASES)
    if not found.name:
        raise refused(400, "Missing check name")
    if found.status not in STATUSES:
        raise refused(400, "Bad check status")
    if is_longer(found.service_id, SERVICE_ID_BYTES_MAX):
        raise not_there(found.service_id)
    check_id = found.check_id or found.name
    return given(exchange, found, check_id, found.name, found.service_id, runs_here=runs_here)


def not_there(service_id: str) -> HttpError:
    """Return the error of a check whose service is not on the node."""
    return refused(404, f'ServiceID "{cut(service_id)}" does not exist')


def decode_update(
    exchange: Exchange, body: bytes
) -> tuple[Literal["passing", "warning", "critical"], str]:
    """Return the status and the output that the body of agent/check/update says.

    Raises:
        HttpError: 400, 500.
    """
    found = decode(exchange, _Update, body, {})
    status = STATUSES.get(found.status, "")
    if not status:
        raise refused(400, f"Invalid check status: '{cut(found.status)}'")
    return status, found.output


def is_empty(found: CheckBody) -> bool:
    """Whether nothing at all is said of a check: then there is none."""
    return found == _EMPTY


def given(
    exchange: Exchange,
    found: CheckBody,
    check_id: str,
    name: str,
    service_id: str,
    *,
    runs_here: bool,
) -> GivenCheck:
    """Return the check that a body asks for. Its status is one of `STATUSES`.

    Raises:
        HttpError: 400.
    """
    definition = _definition_of(found)
    if definition.kind == "script":
        if not runs_here:
            raise _invalid("a script runs on the member that is asked: register it there")
        if not exchange.backend.checks.scripts:
            raise refused(400, SCRIPTS_DISABLED)
    check_texts(check_id, name, found.notes)
    return GivenCheck(
        check_id,
        name,
        STATUSES[found.status],
        found.notes,
        definition=definition,
        service=service_id,
    )


def check_texts(check_id: str, name: str, notes: str) -> None:
    """Refuse texts of a check that are too long.

    Raises:
        HttpError: 400.
    """
    _bound("CheckID", check_id, CHECK_ID_BYTES_MAX)
    _bound("Name", name, CHECK_ID_BYTES_MAX)
    _bound("Notes", notes, NOTES_BYTES_MAX)


def _definition_of(found: CheckBody) -> CheckDefinition:
    # It is a part of each registration, so what most checks do not have costs one look each.
    ttl_ns, every_ns = duration_ns("TTL", found.ttl), duration_ns("Interval", found.interval)
    if (
        found.grpc
        or found.udp
        or found.h2ping
        or found.os_service
        or found.docker_container_id
        or found.alias_service
        or found.alias_node
    ):
        raise _unsupported(found)
    is_run = found.http or found.tcp or found.args
    if every_ns > 0 and ttl_ns > 0:
        raise _invalid("Interval and TTL cannot both be specified")
    if is_run and every_ns <= 0:
        raise _invalid("Interval must be > 0 for Script, HTTP, or TCP checks")
    if not is_run and ttl_ns <= 0:
        raise _invalid("TTL must be > 0 for TTL checks")
    own = _own_of(found) if is_run else {}
    if (
        found.success_before_passing
        or found.failures_before_warning
        or found.failures_before_critical
        or found.output_max_size
    ):
        own |= _counts_of(found)
    after_ns = _not_negative(
        "DeregisterCriticalServiceAfter", found.deregister_critical_service_after
    )
    return CheckDefinition(
        own.pop("kind", "ttl"),
        ttl_ns=0 if is_run else ttl_ns,
        interval_ns=interval_ns(every_ns) if is_run else 0,
        timeout_ns=_not_negative("Timeout", found.timeout),
        deregister_after_ms=deregister_after_ms(after_ns),
        **own,
    )


def _unsupported(found: CheckBody) -> HttpError:
    name = next(name for attribute, name in _UNSUPPORTED if getattr(found, attribute))
    return _invalid(f"not supported: {name}")


def _own_of(found: CheckBody) -> dict[str, Any]:
    """Return the kind of a check that is run, and the fields of its definition that only it has.

    What the body says for other kinds is not kept.
    """
    kinds = [(kind, name) for kind, name in _KINDS if getattr(found, name.lower())]
    if len(kinds) > 1:
        raise _invalid(f"more than one kind: {', '.join(name for _, name in kinds)}")
    kind = kinds[0][0]
    if kind == "script":
        _check_args(found.args)
        return {"kind": kind, "args": found.args}
    tls = {"tls_skip_verify": found.tls_skip_verify, "tls_server_name": found.tls_server_name}
    if kind == "tcp":
        check_target(kind, found.tcp)
        _bound("TLSServerName", found.tls_server_name, NAME_BYTES_MAX)
        return {"kind": kind, "tcp": found.tcp, "tcp_tls": found.tcp_use_tls, **tls}
    check_target(kind, found.http)
    check_request(found.method, found.header, found.body, found.tls_server_name)
    return {
        "kind": kind,
        "http": found.http,
        "method": found.method,
        "headers": tuple(sorted(found.header.items())),
        "body": found.body,
        "no_redirects": found.disable_redirects,
        **tls,
    }


def _counts_of(found: CheckBody) -> dict[str, int]:
    """Return how many results in a row count, and how many bytes of output are kept."""
    warning = _count("FailuresBeforeWarning", found.failures_before_warning)
    critical = _count("FailuresBeforeCritical", found.failures_before_critical)
    if warning > max(critical, 1):  # As in the runner, 0 is 1.
        raise _invalid("FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
    return {
        "successes": _count("SuccessBeforePassing", found.success_before_passing),
        "failures_warning": warning,
        "failures_critical": critical,
        "output_max": output_max(found.output_max_size),
    }


def interval_ns(given_ns: int) -> int:
    """Return the interval that counts: the least one, where less is given; 0: none is."""
    return max(given_ns, INTERVAL_NS_MIN) if given_ns else 0


def deregister_after_ms(after_ns: int) -> int:
    """Return after how many milliseconds a service goes: the least, where less is given; 0: never."""
    return max(-(-after_ns // _MS_NS), DEREGISTER_AFTER_MS_MIN) if after_ns else 0


def output_max(size: int) -> int:
    """Return how many bytes of output are kept; 0: as many as there can be.

    Raises:
        HttpError: 400.
    """
    if size < 0:
        # Consul's agent/structs/check_type.go says it like this.
        raise _invalid("MaxOutputMaxSize must be positive")
    return 0 if size >= OUTPUT_BYTES_MAX else size


def check_target(kind: CheckKind, target: str) -> None:
    """Refuse what an http or tcp check cannot ask.

    Raises:
        HttpError: 400.
    """
    if kind not in {"http", "tcp"}:
        return
    name = kind.upper()
    _bound(name, target, TARGET_BYTES_MAX)
    if not (_is_url(target) if kind == "http" else _is_host_and_port(target)):
        example = "http://10.0.0.1:8080/health" if kind == "http" else "10.0.0.1:5432"
        raise _invalid(f"{name} must be such as {example}, and is '{cut(target)}'")


def _is_url(url: str) -> bool:
    if _CONTROLS_AND_SPACES.search(url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _is_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    if _CONTROLS_AND_SPACES.search(text) or not host or not (port.isascii() and port.isdecimal()):
        return False
    is_bracketed = host.startswith("[") and host.endswith("]")
    return len(port) <= 5 and 0 < int(port) <= _PORT_MAX and (is_bracketed or ":" not in host)


def check_request(
    method: str, header: dict[str, tuple[str, ...]], body: str, tls_server_name: str
) -> None:
    """Refuse a request that is none, or that would say of itself what a check must not.

    Raises:
        HttpError: 400.
    """
    if method and not _TOKEN.fullmatch(method):
        raise _invalid(f"Method '{cut(method)}' is none")
    count = size = 0
    for name, lines in header.items():
        if not _TOKEN.fullmatch(name):
            raise _invalid(f"Header '{cut(name)}' is no name of a header")
        if name.lower() in _OWN_HEADERS:
            raise _invalid(f"Header {name} is not for a check to set")
        for line in lines:
            if _CONTROLS.search(line):
                raise _invalid(f"Header {name} has a control character in its value")
        count += max(len(lines), 1)
        size += len(name) + sum(len(line.encode()) for line in lines)
    if count > HEADERS_MAX or size > HEADERS_BYTES_MAX:
        raise _invalid(
            f"Header has {count} lines of {size:,} bytes, and may have {HEADERS_MAX} of "
            f"{HEADERS_BYTES_MAX:,}"
        )
    _bound("Body", body, CHECK_BODY_BYTES_MAX)
    _bound("TLSServerName", tls_server_name, NAME_BYTES_MAX)


def _check_args(args: tuple[str, ...]) -> None:
    size = sum(len(one.encode()) for one in args)
    if len(args) > ARGS_MAX or size > ARGS_BYTES_MAX:
        raise _invalid(
            f"Args has {len(args)} of {size:,} bytes, and may have {ARGS_MAX} of {ARGS_BYTES_MAX:,}"
        )
    if not args[0] or any("\0" in one for one in args):
        raise _invalid("Args must begin with a program, and have no NUL")


def duration_ns(name: str, value: Duration) -> int:
    """Return the nanoseconds of a member that is a duration; left out it is 0.

    Raises:
        HttpError: 400.
    """
    if value is None:
        return 0
    found = bodies.duration_ns(value)
    if found is None:
        shown = cut(str(value))
        raise refused(400, f"Request decode failed: {name} {shown!r} is no duration such as 10s")
    return found


def _not_negative(name: str, value: Duration) -> int:
    if value is None:
        return 0
    found = duration_ns(name, value)
    if found < 0:
        raise _invalid(f"{name} must not be negative")
    return found


def _count(name: str, value: int) -> int:
    if not 0 <= value <= _COUNT_MAX:
        raise _invalid(f"{name} must be from 0 to {_COUNT_MAX:,}")
    return value


def _bound(name: str, text: str, bytes_max: int) -> None:
    if is_longer(text, bytes_max):
        raise _invalid(f"{name} has {len(text.encode()):,} bytes, and may have {bytes_max:,}")


def _invalid(text: str) -> HttpError:
    return refused(400, f"Invalid check: {text}")
