"""What clients of the layer of cores propose: commands of every table, most of which take effect."""

from __future__ import annotations

from random import Random
from typing import Any, get_args

from hstore.node.model import commands
from hstore.node.model.checks import SERF_HEALTH, Check, CheckStatus, SetCheck
from hstore.node.model.commands import (
    DIGEST_BYTES,
    Checkpoint,
    Command,
    Delete,
    DeletePrefix,
    Keyed,
    Member,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
    Transaction,
    Write,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Release, Session
from hstore.node.model.transactions import CheckIndex, CheckNotExists, CheckSession, Get, GetTree
from hstore.node.model.user_events import FireEvent, UserEvent

from ..options import TICK, stream
from .page import Page
from .services_draws import CatalogDraws

KEYS = (b"k1", b"k1/a", b"k1/b", b"k2", b"k2/a", b"x")

_TICK_MS = 200
_CATALOG = 0.6
"""How many commands are about the catalog, in runs that have services."""
_DELAYS_MS = (0, 1, 300, 2_000, 15_000)

_KINDS = {
    "put": 3, "cas": 2, "delete": 2, "tree": 1, "acquire": 5, "release": 2, "create": 3, "end": 2,
    "transaction": 4, "check": 1.5, "member": 0.4, "event": 1.5, "checkpoint": 0.3, "again": 0.5,
}  # fmt: skip
_IN_TRANSACTION = (
    "put", "put", "cas", "delete", "tree", "acquire", "acquire", "release", "get", "get tree",
    "check index", "check session", "check not exists",
)  # fmt: skip


class Draws:
    """The commands of one run. `page` is the newest page of its book.

    Args:
        seed: Of the run.
        has_services: Most commands are about the catalog.
    """

    def __init__(self, seed: int, *, has_services: bool = False) -> None:
        self._seed = seed
        self._has_services = has_services
        self._keyed: Keyed | None = None

    def command(self, rid: int, page: Page, now: int) -> bytes:
        """Return the command of a proposal, encoded, and stamped with some node's time."""
        rng = stream(self._seed, f"table {rid}")
        command = self._draw(rng, rid, page)
        data = commands.encode(command)
        if not commands.needs_time(data):
            return data
        # Clocks of leaders differ, and one that is behind must not bring time back.
        leap = rng.choice((0, 0, 0, -3_000, 700))
        return commands.stamped(data, max(now * _TICK_MS // TICK + leap, 0))

    def _draw(self, rng: Random, rid: int, page: Page) -> Any:
        if not page.members:
            return PutMember(_member(rid))
        # From a stream of its own, so that what else is drawn does not depend on it.
        catalog = stream(self._seed, f"catalog {rid}") if self._has_services else None
        if catalog is not None and catalog.random() < _CATALOG:
            return self._keyed_or_not(catalog, rid, CatalogDraws(catalog, rid, page).draw())
        (kind,) = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))
        made: Any
        if kind == "again" and self._keyed is not None:
            return self._keyed
        if kind == "transaction":
            count = rng.choice((1, 2, 2, 3, 4, 6))
            names = [rng.choice(_IN_TRANSACTION) for _ in range(count)]
            made = Transaction(tuple(_of_key(name, rng, rid, page) for name in names))
        elif kind in ("create", "end", "check", "member", "event", "checkpoint"):
            made = _other(kind, rng, rid, page)
        else:
            made = _of_key("put" if kind == "again" else kind, rng, rid, page)
        return self._keyed_or_not(rng, rid, made)

    def _keyed_or_not(self, rng: Random, rid: int, made: Any) -> Any:
        if rng.random() < 0.08 and isinstance(made, get_args(Write)):
            made = self._keyed = Keyed(b"%d" % rid, bytes(DIGEST_BYTES), made)
        return made


def _member(rid: int) -> Member:
    api, peer, dns = (f"10.{rid >> 8}.{rid & 255}.1:{port}" for port in (8500, 8300, 8600))
    return Member(rid, f"m{rid}", api, peer, dns)


def _session_of(rng: Random, page: Page) -> bytes:
    """Return a session that is there; rarely one that is not."""
    there = list(page.sessions)
    return rng.choice(there) if there and rng.random() < 0.9 else bytes(16)


def _of_key(kind: str, rng: Random, rid: int, page: Page) -> Any:
    """Return a command about a key, as it is alone or in a transaction."""
    key = rng.choice(KEYS)
    cell = page.keys.get(key)
    revision = cell.modify if cell is not None else 0
    revision = revision if rng.random() < 0.75 else revision + 1
    holder = cell.session if cell is not None and cell.session else bytes(16)
    session = holder if rng.random() < 0.6 else _session_of(rng, page)
    value = b"%d" % rid
    match kind:
        case "put":
            return Put(key, value, rng.choice((0, 7)))
        case "cas":
            return Put(key, value, cas=revision)
        case "delete":
            return Delete(key, rng.choice((None, None, revision)))
        case "tree":
            return DeletePrefix(rng.choice((b"k1", b"k1/", b"k2", b"x", b"y")))
        case "acquire":
            taker = session if rng.random() < 0.3 else _session_of(rng, page)
            return Acquire(key, value, 0, taker)
        case "release":
            return Release(key, value, 0, session)
        case _:
            return _look(kind, rng, key, revision, session)


def _look(kind: str, rng: Random, key: bytes, revision: int, session: bytes) -> Any:
    """Return what only a transaction can do."""
    match kind:
        case "get":
            return Get(key, or_empty=rng.random() < 0.7)
        case "get tree":
            return GetTree(rng.choice((b"k1", b"k2/", b"")))
        case "check index":
            return CheckIndex(key, revision)
        case "check session":
            return CheckSession(key, session)
        case _:
            return CheckNotExists(rng.choice((key, b"nothing")))


def _other(kind: str, rng: Random, rid: int, page: Page) -> Any:
    node = rng.choice([face.number for face in page.members.values()])
    match kind:
        case "create":
            return CreateSession(
                Session(
                    id=rid.to_bytes(16, "big"),
                    name=rng.choice(("", "leader")),
                    node=node if rng.random() < 0.95 else 1 << 60,
                    lock_delay_ns=rng.choice(_DELAYS_MS) * 1_000_000,
                    behavior=rng.choice(("release", "release", "delete")),
                    ttl="10s",
                    ttl_ms=10_000,
                    node_checks=rng.choice(
                        ((), (), (SERF_HEALTH,), (SERF_HEALTH,), ("none such",))
                    ),
                )
            )
        case "end":
            check = None
            if rng.random() < 0.3:
                at = max(page.seen.get(node, 1), 1)
                check = node, SERF_HEALTH, rng.choice((at, at, at + 1))
            return EndSession(_session_of(rng, page), check)
        case "check":
            status: CheckStatus = rng.choice(("passing", "passing", "critical", "warning"))
            return SetCheck(Check(node, SERF_HEALTH, "Serf Health Status", status))
        case "event":
            return FireEvent(UserEvent(rid.to_bytes(16, "big"), "deploy", b"%d" % rid))
        case "member":
            return _of_member(rng, rid, page)
        case _:
            return Checkpoint()


def _of_member(rng: Random, rid: int, page: Page) -> Command:
    known = rng.choice(list(page.members))
    draw = rng.random()
    if len(page.members) > 1 and draw < 0.3:
        return RemoveMember(known)
    if draw < 0.6:
        return ReplaceMember(_member(rid), known)
    return PutMember(_member(rid))
