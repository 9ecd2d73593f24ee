"""What single commands do on a page of the book, and whether a node said the same of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hstore.node.model import user_events
from hstore.node.model.checks import Check, SetCheck
from hstore.node.model.commands import (
    Command,
    Delete,
    DeletePrefix,
    Denial,
    Outcome,
    Put,
    Transaction,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Release
from hstore.node.model.transactions import (
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
    KeyRow,
)
from hstore.node.model.user_events import FireEvent

from .page import Cell, Page

Row = tuple[bytes, Cell | None, bool]
"""Of a transaction's answer: key, what is there, and whether it shows the value."""

_DELAY_TOLERANCE_MS = 1
"""A delay is given in nanoseconds, and the cluster's time is in milliseconds."""


def carry_out(before: Page, page: Page, command: Command, outcome: Outcome) -> tuple[Page, str]:
    """Let a command take effect on `page`, a copy of `before`.

    Returns:
        The page as it is then, and what is wrong with the outcome that a node gave; empty: nothing.
    """
    if isinstance(command, Transaction):
        return _transaction(before, page, command, outcome)
    effect = _EFFECTS.get(type(command))
    if effect is None:
        return page, ""
    expected = effect(page, command, outcome.ok)
    wrong = ""
    if expected is not outcome.ok:
        wrong = f"should be {expected}"
    elif expected and outcome.revision != page.index and isinstance(command, _OF_KEYS):
        wrong = f"takes effect at {outcome.revision}"
    if isinstance(command, Acquire) and not outcome.ok:
        is_unknown = command.session not in before.sessions
        if is_unknown is not (outcome.denial == Denial.NO_SESSION):
            wrong = f"is denied by {outcome.denial}"
    return page, f"{command} {wrong}" if wrong else ""


# -- one command: each says whether it takes effect; `said` is what a node made of it -------------


def _put(page: Page, command: Put, said: bool) -> bool:
    cell = page.keys.get(command.key)
    if cell is None:
        if command.must_exist or command.cas:
            return False
        page.put(command.key, Cell(command.value, command.flags, page.index, page.index))
        return True
    if command.cas is not None and command.cas != cell.modify:
        return False
    _write(page, command.key, cell, command.value, command.flags)
    return True


def _write(page: Page, key: bytes, cell: Cell, value: bytes, flags: int, **others: Any) -> None:
    page.put(key, cell._replace(value=value, flags=flags, modify=page.index, **others))


def _delete(page: Page, command: Delete, said: bool) -> bool:
    cell = page.keys.get(command.key)
    if cell is None or command.cas not in (None, cell.modify):
        return False
    page.remove(command.key)
    return True


def _delete_prefix(page: Page, command: DeletePrefix, said: bool) -> bool:
    page.remove_tree(command.prefix)
    return True


def _acquire(page: Page, command: Acquire, said: bool) -> bool:
    if command.session not in page.sessions:
        return False
    cell = page.keys.get(command.key)
    holder = cell.session if cell is not None else b""
    if holder and holder != command.session:
        return False
    if not holder and not _is_free(page, command.key, said):
        return False
    if cell is None:
        page.put(command.key, Cell(command.value, command.flags, page.index, page.index))
        cell = page.keys[command.key]
    grows = 0 if holder else 1
    _write(
        page, command.key, cell, command.value, command.flags, session=command.session,
        least=cell.least + grows, most=cell.most + grows,
    )  # fmt: skip
    return True


def _is_free(page: Page, key: bytes, said: bool) -> bool:
    """Whether no lock delay is in force."""
    left = page.delays.get(key, 0) - page.time_ms
    return said if abs(left) <= _DELAY_TOLERANCE_MS else left < 0


def _release(page: Page, command: Release, said: bool) -> bool:
    cell = page.keys.get(command.key)
    if cell is None or not cell.session or cell.session != command.session:
        return False
    _write(page, command.key, cell, command.value, command.flags, session=b"")
    return True


def _create_session(page: Page, command: CreateSession, said: bool) -> bool:
    session = command.session
    if not page.has_node(session.node):
        return False
    wanted = [*session.node_checks, *(session.service_checks or ())]
    found = [page.checks.get((session.node, check)) for check in wanted]
    if any(check is None or check.status == "critical" for check in found):
        return False
    page.sessions[session.id] = session
    page.indexes.session(session.id, session.node, page.index, is_end=False)
    return True


def _end_session(page: Page, command: EndSession, said: bool) -> bool:
    session = page.sessions.get(command.id)
    if session is None:
        return False
    if command.check is not None:
        node, check_id, modify = command.check
        found = page.checks.get((node, check_id))
        if modify != (0 if found is None else found.modify_index):
            return False
    page.end(session)
    return True


def _set_check(page: Page, command: SetCheck, said: bool) -> bool:
    given = command.check
    if not page.has_node(given.node):
        return False
    before = page.checks.get((given.node, given.id))
    since, created = 0, page.index
    if before is not None:
        since, created = before.critical_ms, before.create_index
    critical_ms = (since or max(1, page.time_ms)) if given.status == "critical" else 0
    after = Check(
        given.node, given.id, given.name, given.status, given.output, critical_ms, created, page.index,
    )  # fmt: skip
    is_same = before == msgspec.structs.replace(
        after, modify_index=0 if before is None else before.modify_index
    )
    if not is_same:
        page.checks[given.node, given.id] = after
    if given.node not in page.seen:
        page.seen[given.node] = -1
    elif not is_same:
        page.seen[given.node] = page.index
    return True


def _fire(page: Page, command: FireEvent, said: bool) -> bool:
    if command.event.id in page.fired:
        return False
    page.fired |= {command.event.id}
    events = (*page.events, (command.event.id, page.index))
    page.events = events[-user_events.EVENTS_MAX :]
    page.indexes.events = page.index
    return True


_EFFECTS: dict[type, Callable[[Page, Any, bool], bool]] = {
    Put: _put,
    Delete: _delete,
    DeletePrefix: _delete_prefix,
    Acquire: _acquire,
    Release: _release,
    CreateSession: _create_session,
    EndSession: _end_session,
    SetCheck: _set_check,
    FireEvent: _fire,
}
_OF_KEYS = (Put, Delete, Acquire, Release)


# -- transactions -----------------------------------------------------------------------------------


def _transaction(
    before: Page, page: Page, command: Transaction, outcome: Outcome
) -> tuple[Page, str]:
    said = {number for number, _ in outcome.faults}
    rows: list[Row] = []
    faults = []
    for number, operation in enumerate(command.operations):
        found = _operation(page, operation, said=number not in said)
        if found is None:
            faults.append(number)
        else:
            rows += found
    if faults:
        undone = before.next(page.index)
        undone.time_ms, undone.answered = page.time_ms, page.answered
        page = undone
    wrong = ""
    if outcome.ok is not (not faults):
        wrong = f"should be {not faults}, for {faults} fail"
    elif [number for number, _ in outcome.faults] != faults:
        wrong = f"should say of {faults} that they fail, says {outcome.faults}"
    elif not all(text for _, text in outcome.faults):
        wrong = "does not say why"
    elif not faults:
        wrong = _compared(rows, outcome.rows)
    return page, f"{command} {wrong}: {outcome}" if wrong else ""


def _operation(page: Page, operation: Any, *, said: bool) -> list[Row] | None:
    """Carry out one operation; return its rows, or None: it fails."""
    if isinstance(operation, GetTree):
        keys = sorted(key for key in page.keys if key.startswith(operation.prefix))
        return [(key, page.keys[key], True) for key in keys]
    if isinstance(operation, DeletePrefix):
        page.remove_tree(operation.prefix)
        return []
    key = operation.key
    cell = page.keys.get(key)
    if isinstance(operation, (Get, CheckNotExists, CheckIndex, CheckSession)):
        return _looked_at(operation, cell)
    if isinstance(operation, Delete) and cell is None:
        return []
    if not _EFFECTS[type(operation)](page, operation, said):
        return None
    return [] if isinstance(operation, Delete) else [(key, page.keys[key], False)]


def _looked_at(operation: Any, cell: Cell | None) -> list[Row] | None:
    key = operation.key
    if isinstance(operation, CheckNotExists):
        return [] if cell is None else None
    if isinstance(operation, Get):
        return [(key, cell, True)] if cell is not None or operation.or_empty else None
    if cell is None:
        return None
    if isinstance(operation, CheckIndex):
        return [(key, cell, False)] if cell.modify == operation.index else None
    wanted = operation.session if any(operation.session) else b""
    return [(key, cell, False)] if cell.session == wanted else None


def _compared(rows: list[Row], told: tuple[KeyRow, ...]) -> str:
    if len(rows) != len(told):
        return f"should answer with {len(rows)} rows"
    for (key, cell, has_value), row in zip(rows, told, strict=True):
        if cell is None:
            expected = KeyRow(key, None, 0, 0, 0, 0, b"")
        else:
            value = cell.value if has_value else None
            lock = min(max(row.lock_index, cell.least), cell.most)
            expected = KeyRow(
                key, value, cell.flags, lock, cell.create, cell.modify, cell.session
            )  # fmt: skip
        if row != expected:
            return f"should answer {expected}, not {row}"
    return ""
