"""What the commands about sessions and locks do, whichever spelling they were given in.

As in `commands.py`, each is a function of a `Context` and of what the user said. `hstore lock` is in
`cli/lock/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.errors import ConfigError, Refused
from hstore.node.model.values import duration_text

from ..client import sessions
from .commands import data_of, holder, key_of, value_of_said
from .words import quoted

if TYPE_CHECKING:
    from ..client.replies import SessionInfo
    from .commands import Context

_TITLES = ("ID", "NODE", "TTL", "LOCK DELAY", "BEHAVIOR", "NAME")
_NS_PER_MS = 1_000_000


def create(context: Context, asked: dict[str, object], *, as_json: bool) -> None:
    """Create a session, and print its id."""
    id_ = context.connection.write(lambda client: sessions.create(client, asked))
    if as_json:
        context.out.json({"id": id_})
    else:
        context.out.key(id_)


def show(context: Context, session: str | None, *, as_json: bool) -> None:
    """Print a session, or all."""
    if session is None:
        found = context.connection.read(sessions.every)
        if as_json:
            context.out.json([_members(one) for one in found])
            return
    else:
        found = [context.connection.read(lambda client: sessions.info(client, session))]
        if as_json:
            context.out.json(_members(found[0]))
            return
    if not found:
        context.out.note("there is no session")
        return
    rows = [_TITLES, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        context.out.line("  ".join(cells).rstrip())


def renew(context: Context, session: str, *, as_json: bool) -> None:
    """Begin the TTL of a session anew."""
    found = context.connection.read(lambda client: sessions.renew(client, session))
    if as_json:
        context.out.json(_members(found))
    else:
        context.out.line(f"renewed for {found.ttl}" if found.ttl else "it has no TTL")


def destroy(context: Context, session: str, *, as_json: bool) -> None:
    """End a session."""
    context.connection.write(lambda client: sessions.destroy(client, session))
    if as_json:
        context.out.json({"id": session, "result": "destroyed"})
    else:
        context.out.line("destroyed")


def acquire(context: Context, key: str, value: str, session: str, *, as_json: bool) -> None:
    """Take the lock of a key for a session; print the revision, and the fencing token."""
    name, data = key_of(key), value_of_said(context, value)
    revision = context.connection.write(
        lambda client: sessions.acquire(client, name, data, session)
    )
    row = context.connection.read(lambda client: sessions.look(client, name)).row
    if revision is None:
        if row is not None and row.session:
            why = f"{holder(context, row)} holds it"
        else:
            why = "nobody holds it, but the lock delay of its last holder is not over"
        raise Refused(f"nothing was changed: {quoted(name)} is not free: {why}")
    if row is None or row.session != session:
        raise Refused(f"{quoted(name)} was locked, and is not any more: the session has ended")
    if as_json:
        shown = revision or row.modify_index
        context.out.json({"key": name, "revision": shown, "lock_index": row.lock_index})
        return
    context.out.line(f"revision {revision or row.modify_index}")
    context.out.line(f"lock index {row.lock_index}")


def release(context: Context, key: str, value: str | None, session: str, *, as_json: bool) -> None:
    """Free the lock of a key; without a value the key keeps the one that it has."""
    name = key_of(key)
    row = context.connection.read(lambda client: sessions.look(client, name)).row
    if row is None or row.session != session:
        held = f"{holder(context, row)} holds it" if row and row.session else "nobody holds it"
        raise Refused(f"nothing was changed: {quoted(name)} is not locked by this session: {held}")
    data = data_of(row) if value is None else value_of_said(context, value)
    revision = context.connection.write(
        lambda client: sessions.release(client, name, data, session)
    )
    if revision is None:
        raise Refused(f"nothing was changed: this session does not hold {quoted(name)} any more")
    if as_json:
        context.out.json({"key": name, "revision": revision or None})
    else:
        context.out.line(f"revision {revision}" if revision else "released")


def _members(one: SessionInfo) -> dict[str, object]:
    return {
        "id": one.id,
        "name": one.name,
        "node": one.node,
        "ttl": one.ttl,
        "lock_delay": _delay(one),
        "behavior": one.behavior,
        "node_checks": one.node_checks or [],
    }


def _cells(one: SessionInfo) -> tuple[str, ...]:
    return one.id, one.node, one.ttl or "-", _delay(one), one.behavior, one.name or "-"


def _delay(one: SessionInfo) -> str:
    return duration_text(one.lock_delay // _NS_PER_MS)


def checked(session: str) -> str:
    """Return a session's id as it was said.

    Raises:
        ConfigError: It is empty.
    """
    if not session.strip():
        raise ConfigError("the session is empty: `session list` shows their ids")
    return session
