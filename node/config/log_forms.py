"""The forms of a log line: text, JSON, and what journald reads.

One line is one event in each of them, but for text on a terminal, where a traceback is left as it can
be read. Whatever a peer, a resolver or a client may have sent is escaped. What is logged, where to
and from which level on is in `logs.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal

import structlog

from ..model.plain import plain

Form = Literal["text", "json", "journal"]
FORMS: tuple[Form, ...] = ("text", "json", "journal")

LEVELS = ("debug", "info", "warning", "error")

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""Of syslog (RFC 5424, section 6.2.1), as sd-daemon(3) has them before a line."""

_FIRST = ["time", "level", "event"]

Render = Callable[[Mapping[str, Any]], str]
"""Makes the line of a record, without its newline. A record has `time`, `level`, `event` and fields."""


def renderer(form: Form) -> Render:
    """Return what makes lines in a form that is the same wherever they go."""
    return {"text": _text, "json": _json, "journal": _journal}[form]


def terminal_renderer(*, with_colours: bool) -> Render:
    """Return what makes lines for a person at a terminal."""
    console = structlog.dev.ConsoleRenderer(
        colors=with_colours,
        sort_keys=False,  # a name before its id, what a setting was before what it is
        timestamp_key="time",
        exception_formatter=structlog.dev.plain_traceback,
    )
    return lambda record: str(console(None, "", _harmless(record, keep="\n")))


def _text(record: Mapping[str, Any]) -> str:
    order = [key for key in _FIRST if key in record]
    render = structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)
    return render(None, "", _harmless(record))


def _journal(record: Mapping[str, Any]) -> str:
    timeless = {key: value for key, value in record.items() if key != "time"}
    return f"<{PRIORITIES[record['level']]}>{_text(timeless)}"


def _json(record: Mapping[str, Any]) -> str:
    # ASCII only: so that a terminal obeys nothing in it, and every value comes out as it was.
    first = {key: record[key] for key in _FIRST if key in record}
    return json.dumps(first | dict(record), ensure_ascii=True, default=repr)


def _harmless(record: Mapping[str, Any], *, keep: str = "") -> MutableMapping[str, Any]:
    """Escape what a terminal would obey, and line breaks.

    Values that are no text are shown by `repr`, which escapes it by itself.

    Args:
        record: Left as it is.
        keep: Not escaped in tracebacks.
    """
    return {
        key: plain(value, keep=keep if key in ("exception", "stack") else "")
        if isinstance(value, str) and not value.isprintable()
        else value
        for key, value in record.items()
    }
