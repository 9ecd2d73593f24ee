"""Locks and transactions: histories that can be, and those that differ from them in one word."""

from __future__ import annotations

import pytest

from .checker import Verdict, check
from .locks import LockedKeys, LockKind, Step, Steps
from .operation import Operation


def _take(session: str, value: str = "v", key: str = "k") -> Step:
    return Step(LockKind.ACQUIRE, key, session, value)


def _free(session: str, value: str = "f", key: str = "k") -> Step:
    return Step(LockKind.RELEASE, key, session, value)


def _see(value: str | None, session: str = "", lock_index: int = 0, key: str = "k") -> Step:
    return Step(LockKind.READ, key, session, value, lock_index)


def _end(session: str) -> Step:
    return Step(LockKind.END, session=session)


_DELETE = Step(LockKind.DELETE, "k")


def _history(*actions: tuple[Steps, float | None]) -> list[Operation[Steps]]:
    """Return operations one after the other; an end of None leaves one open from there on."""
    return [
        Operation(2.0 * at, None if end is None else 2.0 * at + 1, action)
        for at, (action, end) in enumerate(actions)
    ]


def _done(*steps: Step) -> tuple[Steps, float | None]:
    return Steps(steps, is_done=True), 1


def _refused(*steps: Step) -> tuple[Steps, float | None]:
    return Steps(steps, is_done=False), 1


def _open(*steps: Step) -> tuple[Steps, float | None]:
    return Steps(steps), None


_CAN_BE = [
    [_done(_take("a")), _done(_see("v", "a", 1)), _refused(_take("b")), _done(_free("a"))],
    [_done(_take("a")), _done(_free("a")), _done(_take("b")), _done(_see("v", "b", 2))],
    [_done(_take("a")), _done(_take("a", "w")), _done(_see("w", "a", 1))],
    [_done(_take("a")), _open(_end("a")), _done(_take("b")), _done(_see("v", "b", 2))],
    [_done(_take("a")), _open(_end("a")), _done(_see("v", "", 1)), _refused(_take("b"))],
    [_done(_take("a")), _done(_DELETE), _done(_take("b")), _done(_see("v", "b", 2))],
    [_done(_take("a")), _done(_DELETE), _done(_take("b")), _done(_see("v", "b", 9))],
    [_refused(_free("b")), _done(_take("b")), _refused(_free("a"))],
    [_done(_take("a"), _take("a", key="l")), _done(_see("v", "a", 1), _see("v", "a", 1, "l"))],
    [_done(_take("a", key="l")), _refused(_take("b"), _take("b", key="l")), _done(_see(None))],
    [_open(_take("a")), _done(_see("v", "a", 1))],
    [_done(_end("a")), _refused(_take("a")), _done(_take("b")), _done(_see("v", "b", 1))],
    [_open(_take("a")), _done(_see(None)), _done(_see("v", "a", 1))],
]

_CANNOT_BE = [
    [_done(_take("a")), _done(_take("b"))],
    [_done(_take("a")), _done(_see("v", "a", 2))],
    [_done(_take("a")), _done(_take("a", "w")), _done(_see("w", "a", 2))],
    [_done(_take("a")), _done(_free("b"))],
    [_done(_take("a")), _done(_free("a")), _refused(_take("b"))],
    [_done(_take("a")), _done(_free("a")), _done(_see("f", "a", 1))],
    [_done(_take("a")), _done(_DELETE), _done(_take("b")), _done(_see("v", "b", 1))],
    [
        _done(_take("a", key="l")),
        _refused(_take("b"), _take("b", key="l")),
        _done(_see("v", "b", 1)),
    ],
    [_done(_take("a"), _take("a", key="l")), _done(_see("v", "a", 1), _see(None, key="l"))],
    [_done(_take("a")), _open(_end("b")), _done(_take("b"))],
    [_done(_end("a")), _done(_take("a"))],
]


@pytest.mark.parametrize("actions", _CAN_BE)
def test_what_can_be_is_linearizable(actions: list[tuple[Steps, float | None]]) -> None:
    assert check(_history(*actions), LockedKeys(), 10_000).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("actions", _CANNOT_BE)
def test_what_cannot_be_is_not(actions: list[tuple[Steps, float | None]]) -> None:
    assert check(_history(*actions), LockedKeys(), 10_000).verdict is Verdict.NOT_LINEARIZABLE
