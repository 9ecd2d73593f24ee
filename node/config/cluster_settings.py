"""The settings that all nodes share: their names, how they are written, and their limits.

One table serves all that take such a setting: `settings.py`, when a cluster is created;
`cluster/configure.py`, for a request to change one; and `state/members.py`, when the change takes
effect. All nodes have to decide alike whether a change takes effect, so a version with other limits
would need another command. A user's value may be held to more than that: `Setting.take`, `misplaced`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ..model import values
from ..model.commands import ChangeSetting, ClusterSettings

ELECTION_HEARTBEATS = 4
"""The least number of heartbeats in an election timeout: with fewer, one lost starts an election."""

RESERVED_LABELS = (
    *("service", "node", "addr", "query", "lock", "ring", "dc"),
    *("leader", "nodes", "voters", "followers", "learners"),
)
"""What stands before the zone in names of DNS, where the datacenter stands, too."""

REVERSE_DOMAINS = ("in-addr.arpa", "ip6.arpa")
"""The domains of reverse names (RFC 1035, section 3.5; RFC 3596, section 2.5)."""


class Setting(NamedTuple):
    """One setting.

    Attributes:
        key: Its name for users; in the file it stands under `[cluster]`.
        field: Its name in `ClusterSettings`.
        parse: Returns the value for a text that may stand in the log; a ValueError says what is
            allowed.
        show: Returns the text for a value.
        fixed: Why it cannot be changed after the creation; empty: it can.
        narrower: As `parse`, for what a user gives, where that is held to more; None: it is not.
    """

    key: str
    field: str
    parse: Callable[[object], str | int]
    show: Callable[[object], str]
    fixed: str = ""
    narrower: Callable[[object], str | int] | None = None

    @property
    def take(self) -> Callable[[object], str | int]:
        """Returns the value for a user's text; a ValueError says what is allowed."""
        return self.narrower or self.parse


def _datacenter(value: object) -> str:
    name = values.datacenter(value)
    if name in RESERVED_LABELS or name.startswith("_"):
        raise ValueError(
            "a name such as dc1 that means nothing else in DNS names, so it does not begin with '_' "
            f"and is none of {', '.join(RESERVED_LABELS)}"
        )
    return name


def _zone(value: object) -> str:
    name = values.zone(value)
    _refuse_reverse(name)
    return name


def _domains(value: object) -> str:
    names = values.domains(value)
    for name in names.split(","):
        _refuse_reverse(name)
    return names


def _refuse_reverse(domain: str) -> None:
    """Refuse a domain that has reverse names: a node would answer for all addresses there are.

    Raises:
        ValueError: It has.
    """
    is_reverse = any(f".{domain}".endswith(f".{one}") for one in REVERSE_DOMAINS)
    if domain == "arpa" or is_reverse:
        raise ValueError(
            "a domain such as lab.example that has no reverse names, which arpa, in-addr.arpa, "
            "ip6.arpa and the domains below these two have (home.arpa is allowed)"
        )


def _ms(value: object) -> str:
    return values.duration_text(int(str(value)))


def _s(value: object) -> str:
    return values.duration_text(1000 * int(str(value)))


def _service_ttls(value: object) -> str:
    return ",".join(f"{name}={_s(ttl_s)}" for name, ttl_s in values.service_ttls(value))


def _parse_switch(value: object) -> int:
    return int(values.switch(value))


def _switch(value: object) -> str:
    return {0: "false", 1: "true"}.get(int(str(value)), str(value))


SETTINGS = (
    Setting(
        "zone",
        "zone",
        values.zone,
        str,
        "clients and resolvers are set to it, and members' names end in it, so a cluster keeps the "
        "zone that it was created with",
        narrower=_zone,
    ),
    Setting("heartbeat", "heartbeat_ms", values.duration_ms("10ms", "10s"), _ms),
    Setting("election_timeout", "election_timeout_ms", values.duration_ms("50ms", "60s"), _ms),
    Setting("health_interval", "health_interval_ms", values.duration_ms("50ms", "60s"), _ms),
    Setting("dns_ttl", "dns_ttl_s", values.duration_s("0s", "24h"), _s),
    Setting("datacenter", "datacenter", values.datacenter, str, narrower=_datacenter),
    Setting("session_ttl_min", "session_ttl_min_ms", values.duration_ms("1s", "24h"), _ms),
    Setting("session_node_grace", "session_node_grace_ms", values.duration_ms("0s", "1h"), _ms),
    Setting("alt_domains", "alt_domains", values.domains, str, narrower=_domains),
    Setting(
        "check_update_interval",
        "check_update_interval_ms",
        values.duration_ms("0s", "24h"),
        _ms,
    ),
    Setting("dns.service_ttl", "dns_service_ttl", values.service_ttl, _service_ttls),
    Setting("dns.only_passing", "dns_only_passing", _parse_switch, _switch),
    Setting("dns.empty", "dns_empty", values.choice("nodata", "nxdomain"), str),
    Setting("dns.max_stale", "dns_max_stale_ms", values.duration_ms("1s", "24h"), _ms),
)
"""All of them, in the order in which they are shown."""

BY_KEY = {setting.key: setting for setting in SETTINGS}
_BY_FIELD = {setting.field: setting for setting in SETTINGS}


def misfit(settings: ClusterSettings, changed: str = "election_timeout", prefix: str = "") -> str:
    """Return what is wrong with the combination of settings; empty: nothing.

    Args:
        settings: Each of them is within its own limits.
        changed: The key of the setting to blame.
        prefix: Stands before keys in the text: `cluster.` for a user of the file.
    """
    if settings.election_timeout_ms >= ELECTION_HEARTBEATS * settings.heartbeat_ms:
        return ""
    heartbeat, timeout = _ms(settings.heartbeat_ms), _ms(settings.election_timeout_ms)
    if changed == "heartbeat":
        return (
            f"{prefix}heartbeat: '{heartbeat}' is too long; allowed: at most a quarter of "
            f"{prefix}election_timeout, which is {timeout}: change that first"
        )
    return (
        f"{prefix}election_timeout: '{timeout}' is too short; allowed: at least "
        f"{ELECTION_HEARTBEATS} times {prefix}heartbeat, which is {heartbeat}"
    )


def misplaced(settings: ClusterSettings, prefix: str = "") -> str:
    """Return which alternative domain lies where a user may not have it; empty: none.

    A name in DNS belongs to the closest domain above it. So one below the zone would hide what the
    zone has there: `node.hstore.local` all members, `dc1.hstore.local` all names of the datacenter.

    Args:
        settings: Each of them is within its own limits.
        prefix: As for `misfit`.
    """
    domains = [one for one in settings.alt_domains.split(",") if one]
    for one in domains:
        for above in (settings.zone, *domains):
            if one.endswith(f".{above}"):
                return (
                    f"{prefix}alt_domains: '{one}' is not allowed; allowed: domains that lie neither "
                    f"below the zone nor below each other: it would hide names of {above}"
                )
    return ""


def changed(settings: ClusterSettings, field: str, value: int | str) -> ClusterSettings:
    """Return `settings` with one of them changed; the same on every node.

    Raises:
        ValueError: The value is not allowed, alone or beside the others; the text names the key.
    """
    setting = _BY_FIELD[field]
    is_text, wants_text = isinstance(value, str), isinstance(getattr(settings, field), str)
    if is_text is not wants_text:
        raise ValueError(
            f"{setting.key}: {value!r} is not allowed; allowed: a {'text' if wants_text else 'number'}"
        )
    try:
        setting.parse(setting.show(value))
    except ValueError as error:
        raise ValueError(f"{setting.key}: {value!r} is not allowed; allowed: {error}") from None
    new = msgspec.structs.replace(settings, **{field: value})
    # Only a change of these two is checked: a cluster may have been created with a misfit.
    if setting.key in ("heartbeat", "election_timeout"):
        wrong = misfit(new, setting.key)
        if wrong:
            raise ValueError(wrong)
    return new


def command(setting: Setting, value: int | str) -> ChangeSetting:
    """Return the command that changes a setting which is not fixed.

    Raises:
        msgspec.ValidationError: It is fixed: the command does not have its field.
    """
    return msgspec.convert(["s", setting.field, value], ChangeSetting)


def source(settings: ClusterSettings, field: str, changed_at: int) -> str:
    """Return where the value of a setting comes from, in words.

    Args:
        settings: The cluster's.
        field: Of the setting.
        changed_at: The revision that changed it; 0: it was never changed.
    """
    if changed_at:
        return f"changed at revision {changed_at}"
    is_default = getattr(settings, field) == getattr(ClusterSettings(), field)
    return "default" if is_default else "set at creation"
