"""Settings while the cluster runs: shown, and changed by a command in the log.

Owns the keys that users know: those of the cluster (`config/cluster_settings.py`), `NAME.type` of each
member, `log_level` of this node alone. A change is checked here, by what this node knows, so that the
caller gets to know what is allowed; and again when it takes effect, the same on every node, for two
changes may be under way at once. What a node does about a change is not here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import trio

from ..config import cluster_settings, logs
from ..driver.replica import Replica
from ..errors import ConfigError, HstoreError
from ..model import values
from ..model.cluster_info import ConfigValue
from ..model.commands import ChangeMember, ChangeSetting, ClusterSettings
from ..peers.wire import ForwardKind
from .membership import find
from .status import Status

T = TypeVar("T")

LOG_LEVEL = "log_level"
_TYPE = ".type"
_TYPES = ("voter", "learner")

_PROMOTED_SECONDS = 1.0
"""For a learner that is to vote to do so before the answer says that it does not yet: one that has
caught up takes a few round trips."""


class Configure:
    """Shows and changes settings through one node."""

    def __init__(self, replica: Replica, status: Status, log_level: str) -> None:
        """`log_level` is the one that this process was started with."""
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._log_level = log_level
        self._log_level_source = "of the answering node, as it was started"

    @property
    def cluster_settings(self) -> ClusterSettings:
        """The settings that all nodes share, as this node knows them."""
        return self._facts.settings

    def show(self) -> dict[str, ConfigValue]:
        """Return every setting by key, as this node knows it."""
        facts = self._facts
        settings = facts.settings
        shown = {
            one.key: ConfigValue(
                one.show(getattr(settings, one.field)),
                cluster_settings.source(settings, one.field, facts.setting_changed_at(one.field)),
            )
            for one in cluster_settings.SETTINGS
        }
        for member in sorted(facts.members.values(), key=lambda member: member.name):
            kind, source = ("learner", "set") if member.learner else ("voter", "default")
            shown[f"{member.name}{_TYPE}"] = ConfigValue(kind, source)
        shown[LOG_LEVEL] = ConfigValue(self._log_level, self._log_level_source)
        return shown

    async def change(self, key: str, value: str, deadline: float) -> ConfigValue:
        """Change a setting; return what it is then. See `api/backend.py`."""
        name, dot, what = key.rpartition(".")
        if dot and what == _TYPE.removeprefix("."):
            return await self._change_type(name, key, value, deadline)
        if key == LOG_LEVEL:
            return self._change_log_level(value)
        setting = cluster_settings.BY_KEY.get(key)
        if setting is None:
            raise ConfigError(f"{key}: unknown key; allowed: {', '.join(self.show())}")
        if setting.fixed:
            raise ConfigError(f"{key}: this cannot be changed: {setting.fixed}")
        wanted = _parsed(key, value, setting.take)
        # What was agreed before may decide whether this fits.
        await self._replica.read_barrier(deadline)
        try:
            then = cluster_settings.changed(self._facts.settings, setting.field, wanted)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        # What a cluster has from before stays, and is no reason to refuse a change of another setting.
        wrong = cluster_settings.misplaced(then) if key == "alt_domains" else ""
        if wrong:
            raise ConfigError(wrong)
        await self._agree(cluster_settings.command(setting, wanted), deadline)
        return self.show()[key]

    async def rename(self, node: str, name: str, deadline: float) -> str:
        """Give a member another name; return the one it had. See `api/backend.py`."""
        _parsed("name", name, values.label)
        await self._replica.read_barrier(deadline)
        own = f"{self._facts.id:016x}"
        member = find(self._facts.members, node or own)
        await self._agree(ChangeMember(member.id, name=name), deadline)
        return member.name

    async def _change_type(self, name: str, key: str, value: str, deadline: float) -> ConfigValue:
        kind = _parsed(key, value, values.choice(*_TYPES))
        await self._replica.read_barrier(deadline)
        node = find(self._facts.members, name).id
        forward = ForwardKind.PROMOTE if kind == "voter" else ForwardKind.DEMOTE
        await self._replica.request(forward, f"{node:016x}".encode(), deadline)
        await self._catch_up(deadline)
        shown = ConfigValue(kind, "set" if kind == "learner" else "default")
        if kind == "voter" and not await self._is_voter_soon(node):
            note = "it votes as soon as it runs and has caught up: see hstore list"
            return ConfigValue(shown.value, shown.source, note)
        return shown

    async def _is_voter_soon(self, node: int) -> bool:
        facts = self._facts
        with trio.move_on_after(_PROMOTED_SECONDS):
            seen = self._status.structure
            while not facts.config.is_voter(node):
                seen = await self._status.wait_change(seen)
        return facts.config.is_voter(node)

    def _change_log_level(self, value: str) -> ConfigValue:
        was, self._log_level = (
            self._log_level,
            _parsed(LOG_LEVEL, value, values.choice(*logs.LEVELS)),
        )
        self._log_level_source = "of the answering node, until it is started again"
        logs.set_level(self._log_level)
        if was != self._log_level:
            own = self._facts.members.get(self._facts.id)
            self._status.timeline.changed(
                LOG_LEVEL, was, self._log_level, on=own.name if own else "this node"
            )
        return self.show()[LOG_LEVEL]

    async def _agree(self, command: ChangeSetting | ChangeMember, deadline: float) -> None:
        await self._replica.agree(command, deadline)
        await self._catch_up(deadline)

    async def _catch_up(self, deadline: float) -> None:
        """Wait until this node has applied the change, so that the next request here sees it."""
        with contextlib.suppress(HstoreError):
            await self._replica.read_barrier(deadline)


def _parsed(key: str, value: str, parse: Callable[[object], T]) -> T:
    """Return the value of the text that a user has written for `key`.

    Raises:
        ConfigError: It is not allowed.
    """
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{key}: {value!r} is not allowed; allowed: {error}") from None
