"""The settings that all nodes share: what each is called, how it is written, and what it may be.

One table, for whoever takes such a setting from outside: the file, flags and variables when a
cluster is created (`settings.py`), a request to change one (`cluster/configure.py`), and the state machine
when the change takes effect (`state/members.py`). So the limits are a part of what all nodes must
agree on: another version that had others would need another command.

Where the values come from, and who is told of them, is no business of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ..model import values
from ..model.commands import ChangeSetting, ClusterSettings

ELECTION_HEARTBEATS = 4
"""Heartbeats in an election timeout, at least: with fewer, a lost or late one starts an election."""


class Setting(NamedTuple):
    """One setting.

    Attributes:
        key: What users call it; in the file it stands under `[cluster]`.
        field: Of `ClusterSettings`.
        parse: Takes what a user wrote; a ValueError says what is allowed.
        show: Returns what a user would write for a value.
        fixed: Why it cannot be changed any more; empty: it can.
    """

    key: str
    field: str
    parse: Callable[[object], str | int]
    show: Callable[[object], str]
    fixed: str = ""


def _ms(value: object) -> str:
    ms = int(str(value))
    return f"{ms}ms" if ms % 1000 else f"{ms // 1000}s"


def _s(value: object) -> str:
    return f"{value}s"


SETTINGS = (
    Setting(
        "zone",
        "zone",
        values.zone,
        str,
        "clients, resolvers and the names of members hang on it, so a cluster keeps the zone that "
        "it was created with",
    ),
    Setting("heartbeat", "heartbeat_ms", values.duration_ms("10ms", "10s"), _ms),
    Setting("election_timeout", "election_timeout_ms", values.duration_ms("50ms", "60s"), _ms),
    Setting("health_interval", "health_interval_ms", values.duration_ms("50ms", "60s"), _ms),
    Setting("dns_ttl", "dns_ttl_s", values.duration_s("0s", "1440m"), _s),
)
"""All of them, in the order in which they are shown."""

BY_KEY = {setting.key: setting for setting in SETTINGS}
_BY_FIELD = {setting.field: setting for setting in SETTINGS}


def misfit(settings: ClusterSettings, changed: str = "election_timeout", prefix: str = "") -> str:
    """Return what is wrong with settings that must fit together; empty: nothing is.

    Args:
        settings: Each of them is allowed by itself.
        changed: The key of the one that is to blame.
        prefix: Stands before keys, where the user writes them so.
    """
    heartbeat, timeout = settings.heartbeat_ms, settings.election_timeout_ms
    if timeout >= ELECTION_HEARTBEATS * heartbeat:
        return ""
    if changed == "heartbeat":
        return (
            f"{prefix}heartbeat: '{heartbeat}ms' is too long; allowed: at most a quarter of "
            f"{prefix}election_timeout, which is {timeout}ms: change that first"
        )
    return (
        f"{prefix}election_timeout: '{timeout}ms' is too short; allowed: at least "
        f"{ELECTION_HEARTBEATS} times {prefix}heartbeat, which is {heartbeat}ms"
    )


def changed(settings: ClusterSettings, field: str, value: int) -> ClusterSettings:
    """Return `settings` with one of them changed; the same on every node.

    Raises:
        ValueError: The value is not allowed, alone or beside the others; the text names the key.
    """
    setting = _BY_FIELD[field]
    try:
        setting.parse(setting.show(value))
    except ValueError as error:
        raise ValueError(f"{setting.key}: {value!r} is not allowed; allowed: {error}") from None
    new = msgspec.structs.replace(settings, **{field: value})
    # Only what is touched is judged: a cluster may have been created with others.
    if setting.key in ("heartbeat", "election_timeout"):
        wrong = misfit(new, setting.key)
        if wrong:
            raise ValueError(wrong)
    return new


def command(setting: Setting, value: int) -> ChangeSetting:
    """Return the command that changes a setting which is not fixed."""
    # The field is one of those that the command knows, or this raises.
    return msgspec.convert(["s", setting.field, value], ChangeSetting)


def source(settings: ClusterSettings, field: str, changed_at: int) -> str:
    """Return where the value of a setting comes from, in words.

    Args:
        settings: The cluster's.
        field: Of the setting.
        changed_at: The revision that changed it; 0: none did.
    """
    if changed_at:
        return f"changed at revision {changed_at}"
    is_default = getattr(settings, field) == getattr(ClusterSettings(), field)
    return "default" if is_default else "set at creation"
