"""Sessions: which can be made, what their end does, and the indexes of the answers about them."""

from __future__ import annotations

import msgspec
import pytest

from hstore.node.model.commands import (
    ChangeMember,
    ChangeSetting,
    Denial,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession
from hstore.node.state import sessions
from hstore.node.state.machine import State
from hstore.node.state.watching.changes import KEYS, NODE_SESSIONS, SESSIONS, Change
from tests.node.state.machines import (
    NODE,
    Now,
    check,
    checks_of,
    copy_of,
    create,
    end,
    everything,
    member,
    run,
    run_one,
    serf_health,
    session,
    session_id,
    with_sessions,
)


@pytest.fixture
def machine() -> State:
    return with_sessions()


def test_a_session_is_as_it_was_made_and_its_text_is_its_uuid(machine: State) -> None:
    asked = session("s", "delete", 1_500, ("serfHealth",))

    outcome = run_one(machine, CreateSession(asked))

    assert outcome == Outcome(True, 3, "73737373-7373-7373-7373-737373737373")
    for one in (machine, copy_of(machine)):
        with Now(one) as now:
            made = msgspec.structs.replace(asked, create_index=3, modify_index=3)
            assert now.session(asked.id) == made
            assert [*now.sessions()] == [*now.sessions(NODE)] == [made]
            assert [*now.sessions(2)] == []
            assert now.session_index(asked.id) == 3


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (session("s", node=9), "Missing node registration"),
        (session("s", node_checks=("none",)), "Missing check 'none' registration"),
        (session("s", node_checks=("serfHealth", "bad")), "Check 'bad' is in critical state"),
        (session("0"), "the session exists already"),
        (session("\0"), "invalid session ID"),
        (
            msgspec.structs.replace(session("s"), service_checks=("web",)),
            "Missing check 'web' registration",
        ),
    ],
)
def test_why_a_session_cannot_be_made(machine: State, asked, text: str) -> None:
    run(machine, check("bad", "critical"), check("fair", "warning"), create("0"))

    refused = run_one(machine, CreateSession(asked))

    assert refused == Outcome(False, 0, text, Denial.SESSION_REFUSED)
    assert run_one(machine, CreateSession(session("y", node_checks=("fair",)))).ok


def test_there_are_so_many_sessions_and_no_more(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
    run(machine, create("s"), create("t"))
    for one in (machine, copy_of(machine)):
        refused = run_one(one, create("u"))
        assert (refused.ok, refused.denial) == (False, Denial.LIMIT)
        run(one, end("s"))
        assert run_one(one, create("u")).ok


def test_an_end_frees_the_keys_or_deletes_them_in_one_write_and_all_is_told(machine: State) -> None:
    run(machine, create("s", "release"), create("t", "delete"))
    run(machine, *(Acquire(b"s%d" % n, b"v", 3, session_id("s")) for n in (2, 1)))
    run(machine, *(Acquire(b"t%d" % n, b"v", 3, session_id("t")) for n in (2, 1)))
    told: list[Change] = []
    machine.history.on_add = lambda _, changes: told.extend(changes)

    at = machine.applied + 1
    assert run_one(machine, end("s")) == Outcome(True, at)
    assert run_one(machine, end("t")) == Outcome(True, at + 1)

    freed = machine.get(b"s1")
    assert freed is not None
    assert (freed.value, freed.flags, freed.revision) == (b"v", 3, at)
    assert (freed.lock_index, freed.session) == (1, b"")
    assert machine.get(b"t1") is None
    assert [(one.table, one.key, one.value is None) for one in told] == [
        (KEYS, b"s1", False),
        (KEYS, b"s2", False),
        (SESSIONS, session_id("s"), True),
        (NODE_SESSIONS, NODE.to_bytes(8, "big"), False),
        (KEYS, b"t1", True),
        (KEYS, b"t2", True),
        (SESSIONS, session_id("t"), True),
        (NODE_SESSIONS, NODE.to_bytes(8, "big"), False),
    ]
    with Now(machine) as now:
        assert now.absent_index(b"t1") == now.tree_index(b"t") == at + 1
    assert run_one(machine, end("s")) == Outcome(False, 0)
    assert not [key for key, _ in everything(machine) if key[:1] in b"hpq"]


def test_an_end_because_of_a_check_is_void_when_the_check_has_changed(machine: State) -> None:
    run(machine, create("s"), serf_health("critical"))
    seen = checks_of(machine)["serfHealth"].modify_index
    because = EndSession(session_id("s"), (NODE, "serfHealth", seen))
    run(machine, serf_health("passing"), serf_health("critical"))
    assert run_one(machine, because) == Outcome(False, 0)
    gone = EndSession(session_id("s"), (NODE, "gone", 0))
    assert not run_one(machine, EndSession(session_id("s"), (NODE, "gone", 3))).ok
    assert run_one(machine, gone).ok


def test_the_index_of_an_answer_moves_with_it_and_never_goes_back(machine: State) -> None:
    run(machine, PutMember(member(2)))
    run(machine, create("s"), CreateSession(session("t", node=2)), end("s"))
    with Now(machine) as now:
        created, ended = machine.applied - 1, machine.applied
        assert now.session_index(session_id("s")) == ended
        assert now.session_index(session_id("t")) == created
        assert now.session_index(session_id("x")) == 1
        assert (now.sessions_index(NODE), now.sessions_index(2)) == (ended, created)
        assert (now.sessions_index(), now.sessions_index(3)) == (ended, 1)


def test_who_takes_the_place_or_another_name_keeps_the_sessions_and_checks(machine: State) -> None:
    run(machine, create("s"), ChangeMember(NODE, name="renamed"), check("own"))
    outcome = run_one(machine, ReplaceMember(member(7), NODE))
    assert (outcome.ok, machine.members[7].catalog_number) == (True, NODE)
    again = run_one(machine, ReplaceMember(member(8), 7))
    assert (again.ok, machine.members[8].catalog_number) == (True, NODE)

    assert list(checks_of(machine)) == ["own", "serfHealth"]
    assert run_one(machine, create("t")).ok
    with Now(copy_of(machine)) as now:
        assert len([*now.sessions(NODE)]) == 2


def test_who_leaves_takes_its_checks_along_and_its_sessions_are_ended_by_the_leader(
    machine: State,
) -> None:
    run(machine, create("s"), check("own"), RemoveMember(NODE))
    assert checks_of(machine) == {}
    assert run_one(machine, create("t")).text == "Missing node registration"
    with Now(machine) as now:
        assert now.session(session_id("s")) is not None
    assert run_one(machine, end("s")).ok


def test_the_least_ttl_is_judged_by_the_setting_as_it_is_when_the_session_is_made(
    machine: State,
) -> None:
    short, enough = (
        CreateSession(session(name), ttl_ns)
        for name, ttl_ns in (("a", 9_999_999_999), ("b", 10**10))
    )
    assert run_one(machine, short) == Outcome(False, 0, "10000", Denial.TTL_TOO_SHORT)
    assert run_one(machine, enough).ok
    assert run_one(machine, ChangeSetting("session_ttl_min_ms", 1000)).ok
    assert run_one(machine, short).ok
