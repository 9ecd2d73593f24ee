"""`hstore monitor`: the log of one node, followed through its restarts.

What a line says, and which lines there are, is the node's. On a terminal lines look as they do where
a node logs to a terminal; elsewhere they are text, or JSON, as the node sends them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from hstore.node.config.log_forms import LEVELS, terminal_renderer
from hstore.node.errors import Unavailable

from .client.errors import Unreachable
from .client.plain import plain
from .messages import tell
from .search.clock import Clock
from .streams import ending_with_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hstore.node.config.log_forms import Render

    from .client.api import NodeClient

GIVE_UP_S = 30.0
"""How long a node that ended is waited for, in seconds: it may be restarting."""

_PAUSE_S = 0.2


class Lost(NamedTuple):
    """The node has ended, and is waited for."""

    reason: str


class Back(NamedTuple):
    """The node is there again."""


def follow(
    address: str,
    connect: Callable[[str], NodeClient],
    clock: Clock,
    level: str,
    *,
    as_json: bool,
) -> Iterator[str | Lost | Back]:
    """Yield the lines of a node's log, and when it ends and is back.

    Args:
        address: Of its API.
        connect: Makes a client.
        clock: The time.
        level: From this one on.
        as_json: As JSON, not as text.

    Raises:
        Unreachable: It did not answer at first, or not within `GIVE_UP_S` after it had ended.
        HstoreError: It refuses.
    """
    lost_at: float | None = None
    has_answered = False
    while True:
        try:
            with connect(address) as client:
                for line in client.monitor(level, as_json=as_json):
                    if lost_at is not None:
                        lost_at = None
                        yield Back()
                    has_answered = True
                    if line:
                        yield line
        except (Unreachable, Unavailable) as error:
            now = clock.now()
            if not has_answered or (lost_at is not None and now - lost_at > GIVE_UP_S):
                raise
            if lost_at is None:
                lost_at = now
                yield Lost(str(error))
            clock.sleep(_PAUSE_S)


def show(address: str, connect: Callable[[str], NodeClient], level: str, *, as_json: bool) -> None:
    """Print the log of a node until it is gone, the reader is, or the user interrupts.

    Raises:
        HstoreError: As `follow`.
        OutputLost: The reader of standard output has ended.
    """
    is_terminal = sys.stdout.isatty() and not as_json
    colours = is_terminal and "NO_COLOR" not in os.environ
    render = terminal_renderer(with_colours=colours) if is_terminal else None
    if is_terminal:
        tell(f"the log of the node at {address}, from the level {level} on (Ctrl-C ends it)")
    with ending_with_reader():
        for news in follow(address, connect, Clock(), level, as_json=as_json or is_terminal):
            if isinstance(news, Lost):
                tell(f"hstore: {_short(news.reason)}: waiting for it", is_error=True)
            elif isinstance(news, Back):
                tell(f"hstore: the node at {address} is there again", is_error=True)
            else:
                click.echo(plain(news) if render is None else _rendered(news, render))


def _short(reason: str) -> str:
    """Return a reason without what the user of another command could do."""
    return plain(reason).partition("; ")[0]


def _rendered(line: str, render: Render) -> str:
    """Return a line of JSON as it looks on a terminal; what is no line of a log, as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return plain(line)
    if not isinstance(record, dict) or record.get("level") not in LEVELS:
        return plain(line)
    return render({plain(key): value for key, value in record.items()})
