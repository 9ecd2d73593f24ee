"""`txn`: operations that are carried out in one step or not at all, a line each.

Owns their grammar, and how their answers are shown. All lines are read before anything is sent, also
after one that is wrong: what follows it must not be taken for commands of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from hstore.node.errors import ConfigError, Refused
from hstore.node.model.transactions import OPERATIONS_MAX

from ..client import sessions
from ..vocabulary import did_you_mean
from .commands import data_of, key_of, number_of, value_member
from .words import as_arguments, quoted, split, text_of, value_of

if TYPE_CHECKING:
    from ..client.replies import KeyRow
    from .commands import Context
    from .words import Word

END = "end"

_Build = Callable[[list[str]], dict[str, object]]


class _Verb(NamedTuple):
    """How an operation is written.

    Attributes:
        takes: What follows it, as a user types it.
        build: Makes the operation of what was typed.
        is_write: It changes the key.
        shows: It answers with keys and their values.
    """

    takes: str
    build: _Build
    is_write: bool = False
    shows: bool = False


class Operation(NamedTuple):
    """One operation, as it was typed and as it is sent."""

    said: str
    verb: str
    body: dict[str, object]


def _keyed(verb: str) -> _Build:
    return lambda said: {"Verb": verb, "Key": key_of(said[0])}


def _tree(verb: str) -> _Build:
    return lambda said: {"Verb": verb, "Key": text_of(said[0], "prefix")}


def _at(verb: str) -> _Build:
    def build(said: list[str]) -> dict[str, object]:
        revision = number_of(said[1], "revision")
        return {"Verb": verb, "Key": key_of(said[0]), "Index": revision}

    return build


def _check(said: list[str]) -> dict[str, object]:
    if number_of(said[1], "revision") == 0:
        return _keyed("check-not-exists")(said)
    return _at("check-index")(said)


def _set(said: list[str]) -> dict[str, object]:
    return {"Verb": "set", "Key": key_of(said[0]), "Value": _value(said[1])}


def _cas(said: list[str]) -> dict[str, object]:
    return {**_at("cas")(said), "Value": _value(said[2])}


def _held(verb: str) -> _Build:
    def build(said: list[str]) -> dict[str, object]:
        value = _value(said[1])
        return {"Verb": verb, "Key": key_of(said[0]), "Value": value, "Session": said[2]}

    return build


def _check_session(said: list[str]) -> dict[str, object]:
    return {"Verb": "check-session", "Key": key_of(said[0]), "Session": said[1]}


def _value(said: str) -> str:
    # Standard input has the operations themselves.
    return base64.b64encode(value_of(said, has_input=False)).decode()


_LOCK = _Verb("KEY VALUE SESSION", _held("lock"), is_write=True)
_UNLOCK = _Verb("KEY VALUE SESSION", _held("unlock"), is_write=True)
_DELETE = _Verb("KEY", _keyed("delete"), is_write=True)

VERBS = {
    "set": _Verb("KEY VALUE", _set, is_write=True),
    "cas": _Verb("KEY REVISION VALUE", _cas, is_write=True),
    "delete": _DELETE,
    "del": _DELETE,
    "delete-cas": _Verb("KEY REVISION", _at("delete-cas"), is_write=True),
    "delete-tree": _Verb("PREFIX", _tree("delete-tree"), is_write=True),
    "get": _Verb("KEY", _keyed("get"), shows=True),
    "get-or-empty": _Verb("KEY", _keyed("get-or-empty"), shows=True),
    "get-tree": _Verb("PREFIX", _tree("get-tree"), shows=True),
    "check": _Verb("KEY REVISION", _check),
    "check-index": _Verb("KEY REVISION", _at("check-index")),
    "check-not-exists": _Verb("KEY", _keyed("check-not-exists")),
    "check-session": _Verb("KEY SESSION", _check_session),
    "acquire": _LOCK,
    "lock": _LOCK,
    "release": _UNLOCK,
    "unlock": _UNLOCK,
}  # fmt: skip
"""The first words of lines. Those of Consul's API are all there."""

_ONE_ROW = {"set", "cas", "lock", "unlock", "get", "get-or-empty", "check-index", "check-session"}
"""Operations of the API that answer with one row; `get-tree` has one for each key, others have none."""


def txn(context: Context, said: Iterable[str], *, as_json: bool) -> None:
    """Carry out operations in one step.

    Args:
        context: With the lines that follow, where `said` is empty.
        said: The operations, each in one word.
        as_json: Print the rows as JSON.

    Raises:
        ConfigError: A line is wrong; nothing was sent.
        Refused: An operation could not be done, so none was.
    """
    lines = [lambda one=one: split(one) for one in said]
    operations = _read(lines or _following(context))
    if not operations:
        context.out.note("no operations: nothing was sent")
        return
    bodies = [one.body for one in operations]
    has_writes = any(VERBS[one.verb].is_write for one in operations)
    through = context.connection.write if has_writes else context.connection.read
    done = through(lambda client: sessions.transact(client, bodies, is_write=has_writes))
    if done.faults:
        raise Refused(
            "nothing was changed:"
            + "".join(
                f"\n  {_at_place(operations, one.op_index)}: {one.what}" for one in done.faults
            )
        )
    rows = [row.kv for row in done.rows if row.kv is not None]
    revision = done.revision or max(
        (row.modify_index for one, row in _matched(operations, rows) if VERBS[one.verb].is_write),
        default=0,
    )
    if as_json:
        shown = [_as_json(row) for one, row in _matched(operations, rows)]
        context.out.json({"rows": shown, "revision": revision or None})
        return
    _print(context, _matched(operations, rows))
    if has_writes:
        context.out.line(f"revision {revision}" if revision else "done")
    elif not rows:
        context.out.line("done")


def _following(context: Context) -> Iterator[Callable[[], list[Word] | None]]:
    if context.is_interactive:
        context.out.note(
            "an operation in each line, as in `txn --help`; an empty line or `end` sends them"
        )
    while True:
        yield context.more


def _read(lines: Iterable[Callable[[], list[Word] | None]]) -> list[Operation]:
    """Read all operations up to the end, an empty line, or `end`.

    Raises:
        ConfigError: Some are wrong.
        Refused: The user has given up.
    """
    operations: list[Operation] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            words = line()
            if not words or as_arguments(words) == [END]:
                break
            if number > OPERATIONS_MAX:
                wrong[OPERATIONS_MAX:] = [f"there are more than {OPERATIONS_MAX} operations"]
                continue
            operations.append(_operation(as_arguments(words)))
        except ConfigError as error:
            wrong.append(f"operation {number}: {error}")
    if wrong:
        raise ConfigError("\n  ".join(["nothing was sent:", *wrong]))
    return operations


def _operation(words: list[str]) -> Operation:
    name, said = words[0], words[1:]
    verb = VERBS.get(name)
    if verb is None:
        meant = did_you_mean(name, VERBS) or f"; there are {', '.join(VERBS)}"
        raise ConfigError(f"there is no {quoted(name)}{meant}")
    if len(said) != len(verb.takes.split()):
        raise ConfigError(f"usage: {name} {verb.takes}")
    body = verb.build(said)
    return Operation(" ".join(quoted(one) for one in [name, *said[:1]]), name, body)


# --- what they answer -------------------------------------------------------------------------


def _at_place(operations: list[Operation], place: int) -> str:
    if 0 <= place < len(operations):
        return operations[place].said
    return f"operation {place + 1}"


def _matched(operations: list[Operation], rows: list[KeyRow]) -> Iterator[tuple[Operation, KeyRow]]:
    """Yield each row with the operation that it answers; the answer itself does not say it."""
    left = list(rows)
    for place, one in enumerate(operations):
        count = int(one.body["Verb"] in _ONE_ROW)
        if one.body["Verb"] == "get-tree":
            others = sum(after.body["Verb"] in _ONE_ROW for after in operations[place + 1 :])
            count = _length_of_tree(left[: max(0, len(left) - others)], str(one.body["Key"]))
        for row in left[:count]:
            yield one, row
        del left[:count]


def _length_of_tree(rows: list[KeyRow], prefix: str) -> int:
    """Return how many of the first rows are the keys under a prefix, in their order."""
    before = ""
    for count, row in enumerate(rows):
        if not row.key.startswith(prefix) or (count and row.key <= before):
            return count
        before = row.key
    return len(rows)


def _print(context: Context, matched: Iterable[tuple[Operation, KeyRow]]) -> None:
    for one, row in matched:
        if VERBS[one.verb].shows:
            if row.modify_index:
                context.out.line(context.out.pair(row.key, data_of(row)))
            else:
                context.out.line(f"{quoted(row.key)} is not there")
        elif one.body["Verb"] == "lock":
            context.out.line(f"{quoted(row.key)} lock index {row.lock_index}")


def _as_json(row: KeyRow) -> dict[str, object]:
    return {
        "key": row.key,
        **value_member(data_of(row)),
        "revision": row.modify_index,
        "lock_index": row.lock_index,
        "session": row.session,
    }
