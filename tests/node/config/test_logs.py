"""The forms of the log, its levels, and the names of members in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from hstore.node.config import logs
from hstore.node.config.log_forms import FORMS, LEVELS, PRIORITIES

NASTY = 'a\nb \x1b[2J \x9b31m \u202e "quoted" \\ é \ud800'


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    logs.know_members(lambda _id: "")
    structlog.configure(**before)


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_what_others_sent_is_escaped_in_the_log(capsys) -> None:
    logs.configure("info")
    structlog.get_logger().info(
        "said \x1b[2J", name="n\x9b31m\u202e", texts=["\x1b]0;x\x07"], why="a\nb"
    )
    (line,) = written(capsys)
    assert line.isprintable()
    assert "\\x1b[2J" in line
    assert "\\u202e" in line


@pytest.mark.parametrize("form", [*FORMS, ""])
def test_one_line_is_one_event_whatever_is_in_it(form, capsys) -> None:
    logs.configure("info", form)
    log = structlog.get_logger()
    log.warning("first", why=NASTY, nothing=None, number=3, is_so=True)
    try:
        int(NASTY)
    except ValueError:
        log.exception("second")
    lines = written(capsys)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "Traceback" in lines[1]


def test_json_has_time_level_and_event_first_and_every_value_as_it_was(capsys) -> None:
    logs.configure("debug", "json")
    structlog.get_logger().debug("something", why=NASTY, count=3, path=object, is_so=False)
    (line,) = written(capsys)
    found = json.loads(line)
    assert list(found) == ["time", "level", "event", "why", "count", "path", "is_so"]
    assert found["time"].endswith("Z")
    assert (found["level"], found["event"]) == ("debug", "something")
    assert (found["why"], found["count"], found["is_so"]) == (NASTY, 3, False)


@pytest.mark.parametrize("level", LEVELS)
def test_a_line_for_journald_begins_with_its_priority_and_has_no_time(level, capsys) -> None:
    logs.configure("debug", "journal")
    getattr(structlog.get_logger(), level)("something", count=3)
    assert written(capsys) == [f"<{PRIORITIES[level]}>level={level} event=something count=3"]


def test_text_is_what_a_node_logs_where_no_form_was_chosen(capsys) -> None:
    for form in ("", "text"):
        logs.configure("info", form)
        structlog.get_logger().info("is so", why="a b", is_so=True)
        (line,) = written(capsys)
        assert line.startswith("time=2")
        assert line.endswith('Z level=info event="is so" why="a b" is_so=true')


def test_on_a_terminal_a_chosen_form_counts_too(capsys, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for form, start in (("", "2"), ("text", "time="), ("json", "{"), ("journal", "<6>")):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        logs.configure("info", form)
        structlog.get_logger().info("something")
        (line,) = written(capsys)
        assert line.startswith(start)
        assert ("[info" in line) is (form == "")


def test_a_member_is_shown_by_name_and_id(capsys) -> None:
    logs.configure("info", "text")
    logs.know_members({1: "n1", 0x2F: "n2"}.get)  # type: ignore[arg-type]
    log = structlog.get_logger()
    log.info("one", term=2, member=0x2F, index=7)
    log.info("two", members=[1, 3])
    log.info("named already", member="n9", id="000000000000000a")
    lines = [line.partition("event=")[2] for line in written(capsys)]
    assert lines == [
        "one term=2 member=n2 id=000000000000002f index=7",
        'two members="n1 (0000000000000001), unknown (0000000000000003)"',
        '"named already" member=n9 id=000000000000000a',
    ]


def test_the_level_changes_while_the_process_runs(capsys) -> None:
    logs.configure("warning", "journal")
    log = structlog.get_logger()
    log.info("hidden")
    logs.set_level("info")
    log.info("shown")
    logs.set_level("error")
    log.warning("hidden")
    assert written(capsys) == ["<6>level=info event=shown"]


def test_the_end_of_a_process_is_a_line_of_the_log_where_a_program_reads_that() -> None:
    logs.configure("error", "text")
    assert logs.last_words("no disk\ndo so") == "hstore: no disk\ndo so"
    logs.configure("error", "json")
    found = json.loads(logs.last_words("no disk\ndo so"))
    assert (found["level"], found["event"], found["why"]) == (
        "error", "the process ends", "no disk\ndo so",
    )  # fmt: skip
    logs.configure("error", "journal")
    assert logs.last_words("no disk").startswith('<3>level=error event="the process ends" why=')
