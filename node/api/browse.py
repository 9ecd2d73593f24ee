"""The dashboard's lists by pages: `/v1/ui/services`, `/v1/ui/instances` and `/v1/ui/keys`.

Owns the pages: what is on one, where it ends, and the cursor from which the next goes on. They show
this node's copy, without a leader too. Values and single services have paths of their own
(`consul/kv.py`, `consul/health.py`).

Theory of operation. A page ends when it has `limit` entries, is `SLICE_BYTES` long, or has cost `WORK_MAX`
(`paging.Pace`), whichever comes first; so a page may be empty and have a cursor, where a search has found
nothing yet. The cursor names the last thing that was looked at, and the next page begins behind it in
the same order. So what is there all the time is on exactly one page, whatever comes and goes meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

import msgspec

from ..model.checks import Check, CheckStatus
from ..model.services import NAME_BYTES_MAX, SERVICE_ID_BYTES_MAX
from ..net.turn import SLICE_BYTES
from ..state.catalog.browsing import WORST, Browse, id_in
from ..state.catalog.records import fold, instance_key, node_of
from .http.answers import Answer, HttpError, ok
from .http.params import KEY_BYTES_MAX, Query, key_start, parse_query
from .paging import Pace, bad_cursor, page_limit, search_text

if TYPE_CHECKING:
    from ..state.machine import Item, Reader
    from .http.connection import Request
    from .http.exchange import Exchange

KEY_WORK, SEEK_WORK, KIB_WORK = 4, 15, 1
"""To read a key; to find the place of one; for each KiB of its value."""

NAME_WORK, INSTANCE_WORK, SERVICE_WORK = 2, 3, 30
"""To look at a service; to find the status of an instance; to read its record and show it."""

NAMES_AT_ONCE = 64

CHECKS_MAX = 64
"""Checks of a service that are shown, and as many of its node."""

TAGS_MAX, TAGS_SORTED_MAX = 64, 4_096
"""Tags of a service that are shown; of more different ones than that, none is."""

_CURSOR = re.compile(r"([0-9a-f]{16}):(.+)", re.ASCII | re.DOTALL)
# Above all UTF-8: behind every key that begins with what stands before it.
_BEHIND = b"\xff"

_encode = msgspec.json.encode


class _Page:
    """The entries of a page, as JSON."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[bytes] = []
        self._size = 0

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry."""
        encoded = _encode(entry)
        self._entries.append(encoded)
        self._size += len(encoded)

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return len(self._entries) >= self._limit or self._size >= SLICE_BYTES

    def answer(
        self, exchange: Exchange, name: bytes, cursor: str | None, more: bytes = b""
    ) -> bytes:
        """Return the answer; `more` are further members, each with a comma before it."""
        entries = b",".join(self._entries)
        body = b'{"%b":[%b],"next":%b%b}' % (name, entries, _encode(cursor), more)
        return ok(exchange.keys.applied_index, body)


def _status(query: Query) -> CheckStatus | None:
    text = query.get("status")
    if not text:
        return None
    for status in WORST:
        if status == text:
            return status
    raise HttpError(400, f"?status={text[:40]}: expected passing, warning or critical")


# -- services ---------------------------------------------------------------------------------------


async def services(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/services`: `?text=` of the name, `?status=` and `?tag=` of any of its instances."""
    query = parse_query(request.query)
    text, status, tag = search_text(query), _status(query), query.get("tag")
    page, pace = _Page(page_limit(query)), Pace(exchange)
    after = fold(query.get("after", ""))
    if len(after) > NAME_BYTES_MAX:
        raise bad_cursor()
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        seen = reader.browse()
        names: list[bytes] = []
        while not (page.is_full or pace.is_over):
            names = names or seen.names(after, NAMES_AT_ONCE)[::-1]
            if not names:
                return page.answer(exchange, b"services", None, _total(seen))
            after = folded = names.pop()
            if text in folded:
                shown = await _service(seen, folded, pace, tag)
                if shown is not None and (status is None or shown[status]):
                    page.add(shown)
            if pace.takes(NAME_WORK):
                await pace.rest()
        return page.answer(exchange, b"services", after.decode(), _total(seen))
    finally:
        reader.close()


def _total(seen: Browse) -> bytes:
    return b',"total":%d' % seen.count()


async def _service(
    seen: Browse, folded: bytes, pace: Pace, tag: str | None
) -> dict[str, Any] | None:
    """Return what is shown of a service; None: it is gone, or has not the tag."""
    name = seen.named(folded)
    if name is None or (tag and tag not in name.tags):
        return None
    tags = name.tags
    shown = sorted(tags)[:TAGS_MAX] if len(tags) <= TAGS_SORTED_MAX else []
    counts: dict[str, int] = dict.fromkeys(WORST, 0)
    if seen.is_well(folded):
        counts["passing"] = name.instances
    else:
        for key in seen.instances(folded):
            counts[seen.status(key)] += 1
            if pace.takes(INSTANCE_WORK):
                await pace.rest()
    if pace.takes(len(tags)):
        await pace.rest()
    more = {"more_tags": len(tags) - len(shown)} if len(tags) > len(shown) else {}
    of_all = {"instances": sum(counts.values())}
    return {"name": name.shown, "tags": shown, **counts, **of_all, **more}


# -- instances of one service -----------------------------------------------------------------------


async def instances(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/instances?service=`: `?text=` of the ID or the node, `?status=`.

    Ordered by number of the node and ID, which costs no read. The `index` is that of the service: a
    blocking read of it goes on from there.
    """
    query = parse_query(request.query)
    text, status, limit = search_text(query), _status(query), page_limit(query)
    folded = fold(query.get("service", ""))
    if not folded:
        raise HttpError(400, "?service= is missing: send the name of a service")
    page, pace = _Page(limit), Pace(exchange)
    after = _instance_after(query)
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        seen = reader.browse()
        more = b',"index":%d' % reader.service_index(folded)
        fits = partial(_fits, reader, seen, text, status)
        found = await _wanted(seen.instances(folded), after, fits, pace)
        # One more than the page takes, which tells whether it is the last.
        chosen = nsmallest(limit + 1, found)
        for at, key in enumerate(chosen):
            if page.is_full:
                return page.answer(exchange, b"instances", _cursor(chosen[at - 1]), more)
            if pace.takes(SERVICE_WORK):
                await pace.rest()
            shown = _instance(reader, seen, key)
            if shown is not None:
                page.add(shown)
        return page.answer(exchange, b"instances", None, more)
    finally:
        reader.close()


def _instance_after(query: Query) -> bytes:
    text = query.get("after")
    if not text:
        return b""
    match = _CURSOR.fullmatch(text)
    if match is None or len(match[2].encode()) > SERVICE_ID_BYTES_MAX:
        raise bad_cursor()
    return instance_key(int(match[1], 16), match[2])


def _cursor(key: bytes) -> str:
    return f"{node_of(key):016x}:{id_in(key)}"


async def _wanted(
    keys: list[bytes], after: bytes, fits: Callable[[bytes], bool], pace: Pace
) -> list[bytes]:
    found = []
    for key in keys:
        if key > after and fits(key):
            found.append(key)
        if pace.takes(INSTANCE_WORK):
            await pace.rest()
    return found


def _fits(
    reader: Reader, seen: Browse, text: bytes, status: CheckStatus | None, key: bytes
) -> bool:
    if status is not None and seen.status(key) != status:
        return False
    if not text or text in id_in(key).encode().lower():
        return True
    node = reader.node_by_number(node_of(key))
    return node is not None and text in fold(node.name)


def _instance(reader: Reader, seen: Browse, key: bytes) -> dict[str, Any] | None:
    """Return what is shown of an instance; None: it is gone."""
    number, service_id = node_of(key), id_in(key)
    node = reader.node_by_number(number)
    if node is None:
        return None
    service = reader.service(number, service_id)
    shown: dict[str, Any] = {
        "at": _cursor(key),
        "node": node.name,
        "is_member": node.is_member,
        "id": service_id,
        "address": node.address,
        "port": 0,
        "tags": [],
        "checks": 0,
        "status": seen.status(key),
        "maintenance": seen.maintenance(key),
    }
    if service is not None:
        shown["address"] = service.address or node.address
        shown["port"] = service.port
        shown["tags"] = service.tags[:TAGS_MAX]
        shown["checks"] = len(service.checks)
    return shown


def instance(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/instance?node=&id=`: an instance with its checks and their output.

    What there is no longer is null: a page that asks every second is not to have an error for it.
    """
    query = parse_query(request.query)
    service_id = query.get("id", "")
    reader = exchange.keys.view()
    try:
        node = reader.catalog_node(query.get("node", ""))
        service = None if node is None else reader.service(node.number, service_id)
        shown, checks = None, []
        if node is not None and service is not None:
            key = instance_key(node.number, service_id)
            shown = _instance(reader, reader.browse(), key)
            # The services of a node may be many, and so may its own checks.
            found = reader.node_checks(node.number, CHECKS_MAX)
            newest = exchange.backend.checks.newest
            checks = [_check(newest(one)) for one in (*found, *reader.service_checks(service))]
    finally:
        reader.close()
    return ok(exchange.keys.applied_index, _encode({"instance": shown, "checks": checks}))


def _check(check: Check) -> dict[str, Any]:
    """Return a check with the names that the paths of Consul's clients give to its parts."""
    return {
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service,
        "Type": "" if check.definition is None else check.definition.kind,
    }


# -- keys -------------------------------------------------------------------------------------------


async def keys(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/keys`: the keys and folders under `?prefix=`.

    A folder is what several keys have in common up to the first `?separator=` behind the prefix; its
    keys are skipped, not read. With `?text=`, every key under the prefix that has the text in its name
    or its value, and no folders.
    """
    query = parse_query(request.query)
    prefix = key_start(query, "prefix") or b""
    after = query.get("after", "").encode() or None
    text = search_text(query)
    separator = b"" if text else query.get("separator", "").encode()
    if after is not None and (len(after) > KEY_BYTES_MAX or not after.startswith(prefix)):
        raise bad_cursor()
    page, pace = _Page(page_limit(query)), Pace(exchange)
    if after is not None:
        after += _BEHIND if _folder(after, len(prefix), separator) else b""
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        last = await _list(reader, prefix, after, separator, text=text, page=page, pace=pace)
    finally:
        reader.close()
    return page.answer(exchange, b"entries", None if last is None else last.decode())


async def _list(
    reader: Reader,
    prefix: bytes,
    after: bytes | None,
    separator: bytes,
    *,
    text: bytes,
    page: _Page,
    pace: Pace,
) -> bytes | None:
    """Fill a page; return where it ended, or None: there is no more."""
    items = reader.scan(prefix, after)
    last: bytes | None = None
    while True:
        item = next(items, None)
        if item is None:
            return None
        if last is not None and (page.is_full or pace.is_over):
            return last
        work = KEY_WORK + KIB_WORK * (len(item.value) >> 10)
        folder = _folder(item.key, len(prefix), separator)
        if folder:
            last = folder
            page.add({"folder": folder.decode()})
            items = reader.scan(prefix, folder + _BEHIND)
            work += SEEK_WORK
        else:
            last = item.key
            found = _found(item, text)
            if found:
                page.add(_key(item, found))
        del item  # It is not to be held while this waits.
        if pace.takes(work):
            await pace.rest()


def _folder(key: bytes, start: int, separator: bytes) -> bytes:
    """Return the folder in which a key is; empty: it is in none."""
    at = key.find(separator, start) if separator else -1
    return key[: at + len(separator)] if at >= 0 else b""


def _found(item: Item, text: bytes) -> str:
    """Return where the text is: in the key or the value; empty: nowhere."""
    if text in item.key.lower():
        return "key"
    return "value" if text in item.value.lower() else ""


def _key(item: Item, found: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "key": item.key.decode(),
        "bytes": len(item.value),
        "revision": item.revision,
        "flags": item.flags,
        "locked": bool(item.session),
    }
    return shown if found == "key" else {**shown, "found": found}
