"""services, checks: what a node shows of them, once or as it changes.

Owns the reads, and how their answers become rows. A watch is one blocking read after the other; when
the node ends, another one is asked, as by every command.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hstore.node.errors import Unavailable

from ..client import catalog
from ..client.catalog import AT_ONCE, Waiting
from ..client.errors import Unreachable
from ..client.plain import plain
from ..show.services import Lost, Row, Sight, as_line, show_once, terminal, watch
from ..streams import ending_with_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..client.api import NodeClient
    from ..client.replies import CheckRow, InstanceRow
    from ..shell.commands import Context

    Look = Callable[[NodeClient, int], tuple[int, Sight]]
    """Returns an index and what was seen; waits until the index is above the one it is given (0: it does
    not wait), or some seconds."""

GIVE_UP_S = 30.0
"""How long a watch goes on without any node that answers, in seconds: all may be restarting."""

_PAUSE_S = 0.2
_WAIT_S = 4.0
"""Of one blocking read: less than the time after which a client gives its node up."""
_WAIT_FOR_INSTANCES_S = 1.0
"""The same of the names of services, whose instances are looked at after it."""

COUNTED_MAX = 200
"""Services whose instances are counted in the list of all: each takes a request."""

_PATTERN_BYTES_MAX = 256
"""A node takes no longer pattern in a filter."""

_WORST = ("maintenance", "critical", "warning", "passing")


class Wanted(NamedTuple):
    """What `services` is to show.

    Attributes:
        name: Of the service; None: all.
        is_passing: Only instances all of whose checks are passing.
        tag: Only those with this tag; None: whatever tags they have.
        node: Only those on this node; None: on any.
    """

    name: str | None
    is_passing: bool
    tag: str | None
    node: str | None


def services(context: Context, wanted: Wanted, *, is_watch: bool, as_json: bool) -> int:
    """Show the services, or the instances of one; return 1 where one was named that has none, else 0."""
    look = partial(_look_at_all if wanted.name is None else _look_at_one, wanted)
    is_shown = _show(context, look, is_watch=is_watch, as_json=as_json)
    return 0 if is_shown or wanted.name is None else 1


def checks(
    context: Context, name: str | None, state: str | None, *, is_watch: bool, as_json: bool
) -> int:
    """Show the checks: all, or that of an ID or of a service; return 1 where one was named in vain."""
    look = partial(_look_at_checks, name, state)
    is_shown = _show(context, look, is_watch=is_watch, as_json=as_json)
    return 0 if is_shown or name is None else 1


def _show(context: Context, look: Look, *, is_watch: bool, as_json: bool) -> bool:
    """Show it, once or as it changes; return whether there was anything. A watch may wait for it."""
    console = terminal()
    if is_watch:
        if context.is_interactive:
            context.out.note("Ctrl-C ends it")
        with ending_with_reader():
            watch(follow(context, look), console, as_json=as_json)
        return True
    found = context.connection.read(lambda client: look(client, 0))
    if as_json:
        context.out.line(as_line(found[1]))
    else:
        show_once(found[1], console, context.out.note)
    return bool(found[1].rows)


def follow(context: Context, look: Look) -> Iterator[Sight | Lost]:
    """Yield what there is, and again at each change, from one node after the other, without end.

    Raises:
        HstoreError: The first answer is an error, or no node has answered for `GIVE_UP_S`.
    """
    connection = context.connection
    connection.begin()
    clock = connection.finder.clock
    index, heard_at = 0, clock.now()
    before: Sight | None = None
    while True:
        try:
            found = connection.read(lambda client, index=index: look(client, index))  # type: ignore[misc]
        except (Unreachable, Unavailable) as error:
            if index == 0 or clock.now() - heard_at > GIVE_UP_S:
                raise
            yield Lost(f"{plain(str(error)).partition('; ')[0]}: asking again")
            clock.sleep(_PAUSE_S)
            continue
        heard_at = clock.now()
        index, sight = max(found[0], 1), found[1]
        if sight != before:  # An index may move although what is chosen has not changed.
            before = sight
            yield sight


# --- looking ------------------------------------------------------------------------------------------


def _look_at_all(wanted: Wanted, client: NodeClient, index: int) -> tuple[int, Sight]:
    """Look at all services, with the status of their instances.

    Names and tags tell at once when they change; the instances are looked at each second.
    """
    shown, tags_of = catalog.services(client, waiting=Waiting(index, _WAIT_FOR_INSTANCES_S))
    is_narrow = wanted.is_passing or wanted.node is not None
    is_counted = is_narrow or len(tags_of) <= COUNTED_MAX
    rows: list[Row] = []
    content: dict[str, list[str]] = {}
    for name, tags in tags_of.items():
        if wanted.tag is not None and wanted.tag.lower() not in map(str.lower, tags):
            continue
        found = _instances(wanted, client, name, AT_ONCE)[1] if is_counted else None
        if found or not is_narrow:
            content[name] = tags
            rows.append(_service_row(name, tags, found))
    titles = ("SERVICE", "INSTANCES", "TAGS")
    return shown.at, Sight(titles, rows, content, "there is no such service", at=1)


def _look_at_one(wanted: Wanted, client: NodeClient, index: int) -> tuple[int, Sight]:
    """Look at the instances of one service."""
    shown, found = _instances(wanted, client, wanted.name or "", Waiting(index, _WAIT_S))
    titles = ("NODE", "ID", "ADDRESS", "STATUS", "TAGS", "FAILING")
    rows = [_instance_row(one) for one in found]
    none = f"there is no instance of {plain(wanted.name or '')}"
    return shown.at, Sight(titles, rows, shown.content, none, at=3, spare=("TAGS",))


def _instances(
    wanted: Wanted, client: NodeClient, name: str, waiting: Waiting
) -> tuple[catalog.Shown, list[InstanceRow]]:
    shown, found = catalog.instances(
        client, name, is_passing=wanted.is_passing, tag=wanted.tag, waiting=waiting
    )
    if wanted.node is None:
        return shown, found
    node = wanted.node.lower()
    kept = [number for number, one in enumerate(found) if one.node.node.lower() == node]
    every = shown.content if isinstance(shown.content, list) else []
    return (
        shown._replace(content=[every[number] for number in kept]),
        [found[number] for number in kept],
    )


def _look_at_checks(
    name: str | None, state: str | None, client: NodeClient, index: int
) -> tuple[int, Sight]:
    """Look at the checks, those with one status or all."""
    chosen = ""
    if name is not None:
        either = _in_any_case(name)
        chosen = f"CheckID {either} or ServiceName {either} or ServiceID == {_quoted(name)}"
    shown, found = catalog.checks(client, state or "any", chosen, Waiting(index, _WAIT_S))
    titles = ("STATUS", "CHECK", "SERVICE", "NODE", "INDEX", "OUTPUT")
    rows = [_check_row(one) for one in found]
    none = "there is no such check"
    return shown.at, Sight(titles, rows, shown.content, none, spare=("INDEX", "SERVICE"))


def _in_any_case(name: str) -> str:
    """Return what a filter says of the names of checks and services that a name finds.

    They are found in upper and lower case alike, and comparing in a filter minds the case.
    """
    pattern = f"(?i)^{re.escape(name)}$"
    # Of a very long name there is no pattern; it has to be written as it is shown.
    is_short = len(pattern.encode()) <= _PATTERN_BYTES_MAX
    return f"matches {_quoted(pattern)}" if is_short else f"== {_quoted(name)}"


def _quoted(text: str) -> str:
    """Return a string of Go's, which a filter has, and which is JSON's as well."""
    return msgspec.json.encode(text).decode()


# --- rows ----------------------------------------------------------------------------------------------


def _service_row(name: str, tags: list[str], found: list[InstanceRow] | None) -> Row:
    counts = Counter(map(status_of, found or ()))
    said = [f"{counts[status]} {status}" for status in reversed(_WORST) if counts[status]]
    worst = next((status for status in _WORST if counts[status]), "")
    nothing = "-" if found is None else "none"
    shown = plain(name)
    return Row((shown,), (shown, ", ".join(said) or nothing, plain(", ".join(tags))), worst)


def _instance_row(one: InstanceRow) -> Row:
    node, service = one.node, one.service
    status = status_of(one)
    address = service.address or node.address
    if service.port:
        address = f"[{address}]:{service.port}" if ":" in address else f"{address}:{service.port}"
    failing = "; ".join(
        ": ".join(filter(None, (check.name or check.check_id, _said_by(check))))
        for check in one.checks
        if check.status != "passing"
    )
    cells = (node.node, service.id, address, status, ", ".join(service.tags), failing)
    shown = tuple(map(plain, cells))
    return Row(shown[:2], shown, status)


def status_of(one: InstanceRow) -> str:
    """Return the worst status of an instance's checks; without any it is passing."""
    statuses = {
        "maintenance" if check.type == "maintenance" else check.status for check in one.checks
    }
    return next((status for status in _WORST if status in statuses), "passing")


def _check_row(one: CheckRow) -> Row:
    of = one.service_name or one.service_id
    cells = (
        one.status,
        one.check_id,
        of or "-",
        one.node,
        str(one.modify_index),
        _said_by(one),
    )
    shown = tuple(map(plain, cells))
    return Row((shown[3], shown[1]), shown, one.status)


def _said_by(check: CheckRow) -> str:
    """Return on one line why a check has its status."""
    text = check.notes if check.type == "maintenance" else check.output
    return " ".join(text.split())
