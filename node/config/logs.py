"""The log of this process: to standard error, in which form, and from which level on."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

from ..model.plain import plain

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str) -> None:
    """Log to standard error, from `level` (one of `LEVELS`) on."""
    on_terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(colors=on_terminal and "NO_COLOR" not in os.environ)
        if on_terminal
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _harmless,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # A cached logger would keep its level when that changes. Without the cache each call makes a
        # logger, which costs nothing noticeable: no hot path logs.
        cache_logger_on_first_use=False,
    )
    set_level(level)


def _harmless(_logger: Any, _method: str, event: Any) -> Any:
    """Escape what a terminal would obey: a peer, a resolver or a client may have sent it.

    Values that are no text are shown by `repr`, which escapes it by itself.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = plain(value, keep="\n" if key in ("exception", "stack") else "")
    return event


def line(level: str, event: str, **fields: object) -> str:
    """Return the line that logging this would write."""
    rendered: Any = {"event": event, **fields}
    for process in structlog.get_config()["processors"]:
        rendered = process(None, level, rendered)
    return str(rendered)


def set_level(level: str) -> None:
    """From now on, log from `level` (one of `LEVELS`) on."""
    wrapper = structlog.make_filtering_bound_logger(getattr(logging, level.upper()))
    structlog.configure(wrapper_class=wrapper)
