"""What has happened to the cluster, as this node saw it: the last events of operating it.

Owns which events there are, and compares what this node knows with what it knew before. Each event
is a line of the log, too: `Timeline.add` makes both. What is compared is what users get of the
cluster (`status.py`), so an event is here when it can be seen in `hstore list`.

The time of an event is that of this machine's clock when this node saw it. A node that was away sees
what has happened meanwhile when it is back.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
import structlog
import trio

from ..config import cluster_settings
from ..driver.facts import Facts
from ..model.cluster_info import LIVE, ClusterInfo, NodeInfo
from ..model.commands import Member
from ..storage.interface import Room

Kind = Literal[
    "leader",
    "no leader",
    "joined",
    "removed",
    "left",
    "renamed",
    "failed",
    "back",
    "stopped",
    "setting",
    "alarm",
]

EVENTS_MAX = 1_000

_SURE_INTERVALS = 5
"""Health-check intervals after an election in which a silent member may be shown as alive, because a
new leader has not waited for it yet: as many as make it failed (`health.py`)."""

LINES: Mapping[Kind, tuple[str, str]] = {
    "leader": ("info", "a member leads"),
    "no leader": ("warning", "lost the leader"),
    "joined": ("info", "a member joined"),
    "removed": ("info", "a member was removed"),
    "left": ("info", "a member left"),
    "renamed": ("info", "a member was renamed"),
    "failed": ("warning", "a member failed"),
    "back": ("info", "a member is back"),
    "stopped": ("info", "a member stopped"),
    "setting": ("info", "a setting was changed"),
    "alarm": ("error", "a member lost acknowledged log"),
}
"""The level and the name of each kind's line in the log, where `Timeline.look` finds it."""

_log = structlog.get_logger()


class Happened(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        at_ms: When this node saw it, in milliseconds since the epoch.
        kind: What it is.
        member: The name that the member had, which it is about; empty: it is about the cluster.
        id: Of that member, 16 hex digits; empty likewise.
        text: What has happened, for a person.
    """

    at_ms: int
    kind: Kind
    member: str
    id: str
    text: str


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Happened])


class Timeline:
    """The last events, oldest first, and what this node knew when it last looked.

    Attributes:
        is_unsure: A member may be back, which only time will tell: look again at the next tick.

    Args:
        facts: What this node knows.
        now_ms: The time of this machine's clock.
    """

    def __init__(
        self, facts: Facts, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._facts = facts
        self._now_ms = now_ms
        self._events: deque[Happened] = deque(maxlen=EVENTS_MAX)
        self._members = facts.members
        self._settings = facts.settings
        # A new node learns from the log of the members before it: they have not joined just now.
        self._is_at_home = facts.id in facts.members
        # Id and term; 0, 0: none is known.
        self._led = self._last_led = (0, 0)
        self._lost_at = 0.0
        self._changed_at = -math.inf
        self._health: dict[int, str] = {}
        # Members that have failed, were stopped or lost log, and are not back.
        self._down: dict[int, Kind] = {}
        self._is_short = False
        self.is_unsure = False

    # -- what is asked ----------------------------------------------------------------------

    def since(self, at_ms: int = 0) -> list[Happened]:
        """Return the events at and after a time, oldest first."""
        return [event for event in self._events if event.at_ms >= at_ms]

    def restore(self, events: Iterable[Happened]) -> None:
        """Take the events of an earlier run, which are older than all that are here."""
        now = list(self._events)
        self._events.clear()
        self._events.extend([*events, *now])
        for event in self._events:
            self._follow(event)

    def pack(self) -> bytes:
        """Return all events as bytes, for a file."""
        return _ENCODER.encode(list(self._events))

    def unpack(self, content: bytes) -> str:
        """Take the events of an earlier run from `pack`; return what is wrong with them, or nothing."""
        try:
            self.restore(_DECODER.decode(content))
        except msgspec.MsgspecError as error:
            return f"it has no events: {error}"
        return ""

    # -- what happens -----------------------------------------------------------------------

    def note(self, kind: Kind, text: str, about: NodeInfo | Member | None = None) -> None:
        """Note an event whose line in the log was written where it happened.

        Args:
            kind: What it is.
            text: For a person.
            about: The member that it is about; None: the cluster.
        """
        event = Happened(self._now_ms(), kind, *_whose(about), text)
        self._events.append(event)
        self._follow(event)

    def sounded(self, kind: str, facts: Mapping[str, str | int]) -> None:
        """Note an alarm, which is in the log already, with its facts."""
        known = (str(value) for key, value in facts.items() if key not in ("member", "hint"))
        self.note(
            "alarm", f"{kind}: {', '.join(known)}", self._members.get(int(facts.get("member", 0)))
        )

    def disk(self, room: Room, *, is_short: bool) -> None:
        """Note that the disk of this node has become short of room, or has room again."""
        if is_short is not self._is_short:
            self._is_short = is_short
            how = "is short of room" if is_short else "has room again"
            text = f"the disk of this node {how}: {room}"
            self.note("alarm", text, self._members.get(self._facts.id))

    def started(self) -> None:
        """Note that this node was started, if it is a member already."""
        own = self._members.get(self._facts.id)
        if own is not None:
            self.note("back", f"{own.name} (this node) was started", own)

    def stopping(self, why: str) -> None:
        """Note that this node stops on purpose."""
        own = self._members.get(self._facts.id)
        if own is not None:
            self.note("stopped", f"{own.name} (this node) stops: {why}", own)

    def changed(self, setting: str, was: str, now: str, *, on: str = "") -> None:
        """Log and note the change of a setting; `on`: of one node only, by its name."""
        whose = f" on {on}" if on else ""
        self._add(
            "setting", f"{setting}{whose} was {was}, is {now}", setting=setting, was=was, now=now
        )

    def look(self, info: ClusterInfo) -> None:
        """Compare the cluster with what was known; log and note what has changed."""
        self._look_at_leader(info)
        self._look_at_members()
        if self._is_at_home:
            self._look_at_health(info)

    def look_at_settings(self) -> None:
        """Compare the settings of the cluster with what was known."""
        before, self._settings = self._settings, self._facts.settings
        for one in cluster_settings.SETTINGS if self._is_at_home else ():
            was, now = getattr(before, one.field), getattr(self._settings, one.field)
            if was != now:
                self.changed(one.key, one.show(was), one.show(now))

    # -- inside -----------------------------------------------------------------------------

    def _add(
        self, kind: Kind, text: str, about: NodeInfo | Member | None = None, **fields: object
    ) -> None:
        """Note an event, and write its line to the log."""
        self.note(kind, text, about)
        level, line = LINES[kind]
        name, identity = _whose(about)
        whose = {"member": name, "id": identity} if identity else {}
        getattr(_log, level)(line, **whose, **fields, text=text)

    def _follow(self, event: Happened) -> None:
        """Remember which members are down."""
        if event.id and event.kind in ("failed", "stopped"):
            self._down[int(event.id, 16)] = event.kind
        elif event.id and event.kind in ("back", "joined", "left", "removed"):
            self._down.pop(int(event.id, 16), None)

    def _look_at_leader(self, info: ClusterInfo) -> None:
        leader = self._facts.leader if info.leader else 0
        led = (leader, self._facts.term if leader else 0)
        if led == self._led:
            return
        now = trio.current_time()
        before, self._led = self._led, led
        if not leader:
            self._lost_at = now
            self._add("no leader", self._why_lost(before[0]), self._members.get(before[0]))
            return
        again = " again" if led == self._last_led else ""
        after = (
            "" if before[0] or not self._last_led[0] else f", after {_shown(now - self._lost_at)}"
        )
        self._last_led, self._changed_at = led, now
        text = f"{info.leader} leads{again}, in term {led[1]}{after}"
        self._add("leader", text, self._facts.members.get(leader), term=led[1])

    def _why_lost(self, leader: int) -> str:
        if leader == self._facts.id:
            return "this node led, and hears no majority of the voters any more"
        member = self._members.get(leader)
        name = member.name if member is not None else f"{leader:016x}"
        return f"{name} led, and leads no more or cannot be reached"

    def _look_at_members(self) -> None:
        before, members = self._members, self._facts.members
        if members is before:
            return
        self._members = members
        if not self._is_at_home:
            own = members.get(self._facts.id)
            if own is not None:
                self._is_at_home = True
                how = "joined" if len(members) > 1 else "founded the cluster"
                self._add("joined", f"{own.name} (this node) {how}", own, address=own.address)
            return
        for gone in before.keys() - members.keys():
            self._tell_gone(before[gone])
        for new in members.keys() - before.keys():
            member = members[new]
            text = f"{member.name} joined, at {member.address}"
            self._add("joined", text, member, address=member.address)
        for same in members.keys() & before.keys():
            self._compare(before[same], members[same])

    def _tell_gone(self, member: Member) -> None:
        if self._health.pop(member.id, "") in LIVE:
            self._add("left", f"{member.name} left the cluster for good", member)
        else:
            self._add("removed", f"{member.name}, which did not run, was removed", member)

    def _compare(self, was: Member, now: Member) -> None:
        if was.name != now.name:
            self._add("renamed", f"{was.name} is called {now.name} now", now, was=was.name)
        if was.learner != now.learner:
            types = ("learner", "voter") if was.learner else ("voter", "learner")
            self.changed(f"{now.name}.type", *types)

    def _look_at_health(self, info: ClusterInfo) -> None:
        interval_s = self._facts.settings.health_interval_ms / 1000
        led_for = trio.current_time() - self._changed_at
        is_sure = led_for >= _SURE_INTERVALS * interval_s
        self.is_unsure = False
        for node in info.nodes:
            member = int(node.id, 16)
            self._health[member] = node.health
            is_down = member in self._down
            if member == self._facts.id and node.health in ("failed", "stopped"):
                continue  # So its leader says, which has not heard yet that it runs again.
            if node.health == "alive" and is_down and not is_sure:
                self.is_unsure = True
            elif node.health == "alive" and is_down:
                self._add("back", f"{node.name} is back", node)
                self._down.pop(member, None)
            elif node.health == "failed" and not is_down:
                self._add("failed", f"{node.name} failed: it {node.reason}", node)
            elif node.health == "stopped" and not is_down:
                self._add("stopped", f"{node.name} was stopped on purpose", node)
            elif node.health == "recovering" and not is_down:
                self._down[member] = "alarm"
                self._add("alarm", f"{node.name} {node.reason}", node)


def _whose(about: NodeInfo | Member | None) -> tuple[str, str]:
    """Return the name and the id of a member, empty for none."""
    if about is None:
        return "", ""
    return about.name, about.id if isinstance(about.id, str) else f"{about.id:016x}"


def _shown(seconds: float) -> str:
    """Return a time without a leader, for a person."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{max(1, round(seconds * 1000))} ms"
