"""The log of this process: to standard error, in which form, from which level on, and who follows it.

A process has one log, so its state is kept here, once. Events have constant names: what differs
between two lines of one kind is in fields. A member is logged as its id: `member=0x1f` becomes
`member=n2 id=000000000000001f` (`members=[...]` likewise), since few rooms know the names.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import structlog

from .log_followers import Follower
from .log_forms import FORMS, LEVELS, PRIORITIES, Form, Render, renderer, terminal_renderer

_UNKNOWN = "unknown"
"""In place of the name of a member that this node does not know, or not any more."""


class _Log:
    """The state of the log of this process.

    Attributes:
        level: From which level on lines are written to standard error.
        form: Of those lines, where it is not a terminal that nobody has chosen a form for.
        render: Makes them.
        name_of: Returns the name of a member; empty: it is not known.
        followers: Who gets lines beside standard error; replaced whole by each change.
    """

    def __init__(self) -> None:
        self.level = "info"
        self.form: Form = "text"
        self.render: Render = renderer("text")
        self.name_of: Callable[[int], str] = lambda _id: ""
        self.followers: tuple[Follower, ...] = ()


_log = _Log()


def configure(level: str, form: str = "") -> None:
    """Log to standard error.

    Args:
        level: From this one of `LEVELS` on.
        form: One of `FORMS`; empty: text, and on a terminal text for a person.
    """
    chosen = next((one for one in FORMS if one == form), None)
    _log.form = chosen or "text"
    if chosen is None and sys.stderr.isatty():
        _log.render = terminal_renderer(with_colours="NO_COLOR" not in os.environ)
    else:
        _log.render = renderer(_log.form)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _stamped,
            structlog.processors.format_exc_info,
            _named,
            _written,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # A cached logger would keep its level when that changes. Without the cache each call makes a
        # logger, which costs nothing noticeable: no hot path logs.
        cache_logger_on_first_use=False,
    )
    set_level(level)


def line(level: str, event: str, **fields: object) -> str:
    """Return the line that logging this would write, whatever the level is."""
    return _log.render(record(level, event, **fields))


def record(level: str, event: str, **fields: object) -> dict[str, Any]:
    """Return the record of an event of now, for `log_forms.renderer`."""
    made: dict[str, Any] = {"level": level, "event": event, **fields}
    return dict(_named(None, level, _stamped(None, level, made)))


def last_words(text: str) -> str:
    """Return what a process says on standard error as it ends by an error, without its newline.

    It is a line of the log where a program reads that.
    """
    if _log.form == "text":
        return f"hstore: {text}"
    return line("error", "the process ends", why=text)


def set_level(level: str) -> None:
    """From now on, log to standard error from `level` (one of `LEVELS`) on."""
    _log.level = level
    _filter()


def know_members(name_of: Callable[[int], str]) -> None:
    """Have lines name members.

    Args:
        name_of: Returns the name of the member with an id; empty: it is not known. Called from any
            thread.
    """
    _log.name_of = name_of


def follow(follower: Follower) -> None:
    """Give a follower every line from its level on; also those that standard error does not get."""
    _log.followers = (*_log.followers, follower)
    _filter()


def unfollow(follower: Follower) -> None:
    """Give a follower nothing more."""
    _log.followers = tuple(one for one in _log.followers if one is not follower)
    _filter()


def followers() -> int:
    """Return how many follow the log now."""
    return len(_log.followers)


def _filter() -> None:
    """Have what nobody gets dropped before it is made: a dropped line costs next to nothing."""
    wanted = [_log.level, *(follower.level for follower in _log.followers)]
    lowest = max(wanted, key=PRIORITIES.__getitem__)
    wrapper = structlog.make_filtering_bound_logger(getattr(logging, lowest.upper()))
    structlog.configure(wrapper_class=wrapper)


# -- processors of structlog --------------------------------------------------------------------

_stamped = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")


def _named(_logger: Any, _method: str, event: Any) -> Any:
    """Show a member by name and id, and members likewise."""
    member = event.get("member")
    if isinstance(member, int):
        # In this place, and not behind all other fields.
        fields = list(event.items())
        event.clear()
        for key, value in fields:
            if key == "member":
                event["member"] = _log.name_of(member) or _UNKNOWN
                event["id"] = f"{member:016x}"
            else:
                event[key] = value
    if "members" in event:
        event["members"] = ", ".join(
            f"{_log.name_of(one) or _UNKNOWN} ({one:016x})" for one in event["members"]
        )
    return event


def _written(_logger: Any, _method: str, event: Any) -> str:
    """Give the line to those who follow; return it for standard error.

    Raises:
        structlog.DropEvent: Standard error does not get it.
    """
    priority = PRIORITIES[event["level"]]
    lines: dict[Form, str] = {}
    for follower in _log.followers:
        if priority <= PRIORITIES[follower.level]:
            form = follower.form
            if form not in lines:
                lines[form] = renderer(form)(event)
            follower.put(lines[form])
    if priority > PRIORITIES[_log.level]:
        raise structlog.DropEvent
    return _log.render(event)


__all__ = ["FORMS", "LEVELS", "Form", "configure", "follow", "line", "set_level", "unfollow"]
