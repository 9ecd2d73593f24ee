"""State machines in memory, for the tests of each table, and what they are fed with."""

from __future__ import annotations

import msgspec

from hstore.node.model import commands
from hstore.node.model.checks import SERF_HEALTH, SERF_HEALTH_NAME, Check, SetCheck
from hstore.node.model.commands import Command, Member, Outcome, PutMember
from hstore.node.model.locks import Behavior, CreateSession, EndSession, Session
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state.machine import State
from hstore.node.state.reader import Reader
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk, MemoryStorage

NODE = 1
"""The catalog number of the node of all sessions here."""


def new_storage() -> MemoryStorage:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return storage


def new_machine() -> State:
    return State(new_storage().state)


def copy_of(machine: State) -> State:
    """Return what a node becomes that is sent this state."""
    storage = new_storage()
    storage.state.write(everything(machine))
    return State(storage.state)


def log(*given: Command, first: int = 1) -> list[Entry]:
    return [
        Entry(index, 1, EntryKind.COMMAND, commands.encode(command))
        for index, command in enumerate(given, first)
    ]


def run(machine: State, *given: Command) -> list[Outcome]:
    outcomes = machine.apply(log(*given, first=machine.applied + 1))
    return [outcome for outcome in outcomes if outcome is not None]


def run_one(machine: State, command: Command) -> Outcome:
    (outcome,) = run(machine, command)
    return outcome


def everything(machine: State) -> list[tuple[bytes, bytes]]:
    view = machine.snapshot()
    try:
        return list(view.scan(b""))
    finally:
        view.close()


class Now:
    """A reader of a state as of now, for a `with`."""

    def __init__(self, machine: State) -> None:
        self._machine = machine

    def __enter__(self) -> Reader:
        self._view = self._machine.view()
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.close()


def member(node_id: int, name: str = "", port: int | None = None) -> Member:
    port = 8500 + node_id if port is None else port
    return Member(node_id, name, f"127.0.0.1:{port}", f"127.0.0.1:{port - 200}", "127.0.0.1:1")


def serf_health(status: str = "passing", node: int = NODE) -> SetCheck:
    return msgspec.convert(
        ["C", {"node": node, "id": SERF_HEALTH, "name": SERF_HEALTH_NAME, "status": status}, 0],
        SetCheck,
    )


def check(check_id: str, status: str = "passing", node: int = NODE) -> SetCheck:
    made = serf_health(status, node)
    return msgspec.structs.replace(made, check=msgspec.structs.replace(made.check, id=check_id))


def session_id(letter: str) -> bytes:
    return letter.encode() * 16


def session(
    letter: str,
    behavior: Behavior = "release",
    delay_ms: int = 0,
    node_checks: tuple[str, ...] = (),
    node: int = NODE,
) -> Session:
    return Session(
        session_id(letter), letter, node, delay_ms * 1_000_000, behavior, "", 0, node_checks
    )


def create(letter: str, behavior: Behavior = "release", delay_ms: int = 0) -> CreateSession:
    return CreateSession(session(letter, behavior, delay_ms))


def end(letter: str, time_ms: int = 0) -> EndSession:
    return EndSession(session_id(letter), time_ms=time_ms)


def with_sessions(*given: CreateSession) -> State:
    """Return a machine with one healthy node and these sessions."""
    machine = new_machine()
    assert all(outcome.ok for outcome in run(machine, PutMember(member(NODE)), serf_health()))
    assert all(outcome.ok for outcome in run(machine, *given))
    return machine


def checks_of(machine: State, node: int = NODE) -> dict[str, Check]:
    with Now(machine) as now:
        return {one.id: one for one in now.checks(node)}
