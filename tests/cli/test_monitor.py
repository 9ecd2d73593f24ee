"""`hstore monitor`: a node's log, through its restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import httpx
import pytest
from click.testing import CliRunner

from hstore.cli import monitor
from hstore.cli.client.api import NodeClient
from hstore.cli.client.errors import Forbidden, Unreachable
from hstore.cli.main import cli
from hstore.cli.monitor import GIVE_UP_S, Back, Lost, follow

A = "127.0.0.1:8500"
PATH = "/v1/agent/monitor"
TEXT = "time=2026-12-01T00:00:00Z level=info event=stopping\n"
RECORD = {"time": "2026-12-01T00:00:00Z", "level": "warning", "event": "a member failed"}


@pytest.fixture
def connect(cluster):
    return lambda address: cluster.connect(address, 8.0)


def said(*lines: str, end: Exception | None = None) -> httpx.Response:
    def pieces() -> Iterator[bytes]:
        for line in lines:
            yield line.encode()
        if end is not None:
            raise end

    return httpx.Response(200, content=pieces())


def take(news, count):
    return [one for _, one in zip(range(count), news, strict=False)]


def test_it_goes_on_when_the_node_is_there_again(cluster, clock, connect):
    cluster.set(A, PATH, [said(TEXT, TEXT), None, None, said(TEXT)])
    news = take(follow(A, connect, clock, "debug", as_json=True), 5)
    line = TEXT.rstrip("\n")
    assert news == [line, line, Lost(f"the node at {A} has ended"), Back(), line]
    assert {path for _, _, path in cluster.asked} == {f"{PATH}?loglevel=debug&logjson"}


def test_a_node_that_says_nothing_for_a_minute_is_asked_again_and_nobody_is_told(
    cluster, clock, connect
):
    silent = httpx.ReadTimeout("silent")
    cluster.set(A, PATH, [said(TEXT, end=silent), said(end=silent), said(TEXT)])
    news = take(follow(A, connect, clock, "info", as_json=False), 2)
    assert news == [TEXT.rstrip("\n")] * 2
    assert clock.now() == 0


def test_a_node_that_does_not_come_back_is_given_up(cluster, clock, connect):
    cluster.set(A, PATH, [said(TEXT)])
    with pytest.raises(Unreachable):
        take(follow(A, connect, clock, "info", as_json=False), 1000)
    assert GIVE_UP_S < clock.now() < GIVE_UP_S + 2


def test_a_node_that_is_not_there_or_refuses_ends_it_at_once(cluster, clock, connect):
    with pytest.raises(Unreachable):
        next(follow(A, connect, clock, "info", as_json=False))
    cluster.set(A, PATH, httpx.Response(403, text="Permission denied: only here"))
    with pytest.raises(Forbidden):
        next(follow(A, connect, clock, "info", as_json=False))
    assert clock.now() == 0


def shown(cluster, connect, capsys, *lines, as_json=False) -> str:
    cluster.set(A, PATH, [said(*lines), httpx.Response(403, text="no")])
    with pytest.raises(Forbidden):
        monitor.show(A, connect, "info", as_json=as_json)
    captured = capsys.readouterr()
    assert captured.err == f"hstore: the node at {A} has ended: waiting for it\n"
    return str(captured.out)


def test_into_a_pipe_a_line_is_as_the_node_sends_it_but_for_what_a_terminal_would_obey(
    cluster, connect, capsys
):
    assert shown(cluster, connect, capsys, TEXT, "x\x1b[2J\n") == TEXT + "x\\x1b[2J\n"
    assert "logjson" not in cluster.asked[0][2]
    line = json.dumps(RECORD) + "\n"
    assert shown(cluster, connect, capsys, line, as_json=True) == line


def test_on_a_terminal_it_looks_as_where_a_node_logs_to_one(cluster, connect, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    line = (
        json.dumps({**RECORD, "member": "n2", "id": "2f", "why": "\x1b[2J", "n\x1b": [1, "\x1b"]})
        + "\n"
    )
    first, *rest = shown(
        cluster, connect, capsys, line, "no json\x1b\n", '{"level":[]}\n'
    ).splitlines()
    assert first == f"the log of the node at {A}, from the level info on (Ctrl-C ends it)"
    assert rest[0].startswith("2026-12-01T00:00:00Z [warning  ] a member failed")
    assert "member=n2 id=2f" in rest[0]
    assert rest[1:] == ["no json\\x1b", '{"level":[]}']
    assert all(one.isprintable() for one in rest)


def test_an_unknown_level_is_wrong_usage_that_says_which_there_are():
    with pytest.raises(click.BadParameter, match="debug, info, warning, error"):
        cli.main(["monitor", "--level", "loud"], "hstore", standalone_mode=False)
    assert "--level LEVEL" in CliRunner().invoke(cli, ["monitor", "--help"]).output


def test_the_node_that_is_meant_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "hstore.cli.monitor.show",
        lambda address, connect, level, *, as_json: asked.append(
            (address, connect, level, as_json)
        ),
    )
    cli.main(["monitor", "-h", A, "--level", "debug"], "hstore", standalone_mode=False)
    assert asked == [(A, NodeClient, "debug", False)]
