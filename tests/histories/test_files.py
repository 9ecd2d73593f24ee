"""The formats of published histories, line by line, and the command that judges a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import edn, jepsen
from .__main__ import main
from .models import Cas, Read, Write
from .operation import Operation
from .pairing import FormatError
from .texts import Append, Get, Put


def log(*lines: str) -> list[Operation[jepsen.Action]]:
    return jepsen.read([f"INFO  jepsen.util - {line}" for line in lines])


def what(operations: list[Operation[jepsen.Action]]) -> list[tuple[float, float | None, object]]:
    return [(o.call, o.end, o.action) for o in operations]


# --- Jepsen's log -----------------------------------------------------------------------------


def test_a_log_has_reads_writes_and_cas_by_the_numbers_of_their_lines() -> None:
    assert what(
        log(
            "0\t:invoke\t:read\tnil",
            "1\t:invoke\t:write\t3",
            "0\t:ok\t:read\tnil",
            "1\t:ok\t:write\t3",
            "2   :invoke :cas    [3 4]",
            "3   :invoke :cas    [1 2]",
            "2   :ok     :cas    [3 4]",
            "3   :fail   :cas    [1 2]",
            "0\t:invoke\t:read\tnil",
            "0\t:ok\t:read\t4",
        )
    ) == [
        (1, 3, Read(None)),
        (2, 4, Write(3)),
        (5, 7, Cas(3, 4, is_done=True)),
        (6, 8, Cas(1, 2, is_done=False)),
        (9, 10, Read(4)),
    ]


@pytest.mark.parametrize(
    ("asked", "answer", "left"),
    [
        (":write\t1", ":info\t:write\t:timed-out", Write(1)),
        (":write\t1", ":fail\t:write\t:timed-out", Write(1)),
        (":write\t1", ":info\t:write\t1", Write(1)),
        (":cas\t[1 2]", ":info\t:cas\t:timed-out", Cas(1, 2)),
        (":cas\t[1 2]", ":fail\t:cas\t:timed-out", Cas(1, 2)),
        (":cas\t[1 2]", ":info\t:cas\t[1 2]\tconnection reset", Cas(1, 2)),
        (":read\tnil", ":fail\t:read\t:timed-out", None),
        (":read\tnil", ":info\t:read\t:timed-out", None),
        (":read\tnil", ":fail\t:read\tnil", None),
        (":write\t1", ":fail\t:write\t1", None),
    ],
)
def test_an_answer_that_says_nothing_leaves_a_change_open(
    asked: str, answer: str, left: jepsen.Action | None
) -> None:
    found = log(f"7\t:invoke\t{asked}", f"7\t{answer}")

    assert what(found) == ([] if left is None else [(1, None, left)])


def test_a_process_that_never_answers_and_one_that_calls_anew_leave_their_calls_open() -> None:
    assert what(
        log("1 :invoke :write 1", "1 :invoke :write 2", "1 :ok :write 2", "6 :invoke :cas [1 2]")
    ) == [(1, None, Write(1)), (2, 3, Write(2)), (4, None, Cas(1, 2))]


def test_lines_of_others_and_the_ends_of_lines_do_not_matter() -> None:
    assert what(
        jepsen.read(
            [
                "INFO  jepsen.core - Running test\r",
                "\r",
                "INFO  jepsen.util - :nemesis\t:info\t:start\tnil\r",
                "2015-03-01 12:00:00,001 INFO jepsen.util - 4\t:invoke\t:write\t0  \r",
                'INFO  jepsen.util - :nemesis :info :start "Cut off {:n1 #{:n2}}"',
                "4 :ok :write 0",
            ]
        )
    ) == [(4, 6, Write(0))]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["0 :ok :read 1"], "line 1: process 0 is answered and has not called"),
        (["0 :invoke :write 1", "0 :ok :write 2"], "line 2: process 0 called"),
        (["0 :invoke :write 1", "0 :ok :read 1"], "line 2: process 0 called :write"),
        (["0 :invoke :write nil"], "line 1: nil cannot be written"),
        (["0 :invoke :cas 1"], "line 1: not two numbers"),
        (["0 :invoke :read nil", "0 :ok :read x"], "line 2: not a number: 'x'"),
        (["0 :invoke :enqueue 1"], "line 1: a register does not know :enqueue"),
    ],
)
def test_a_broken_log_is_refused_with_its_line(lines: list[str], error: str) -> None:
    with pytest.raises(FormatError, match=error):
        jepsen.read(lines)


# --- maps of texts ----------------------------------------------------------------------------


def test_a_map_has_gets_puts_and_appends_by_key() -> None:
    assert edn.read(
        [
            '{:process 0, :type :invoke, :f :append, :key "a", :value "x, {y}"}\n',
            '{:process 1, :type :invoke, :f :get, :key "b", :value nil}\r\n',
            "",
            '{:f :ok-not, :process :nemesis, :type :info, :value "cut"}',
            '{:value "x, {y}", :process 0, :key "a", :f :append, :type :ok, :time 12}',
            '{:process 1, :type :ok, :f :get, :key "b", :value ""}',
            r'{:process 2 :type :invoke :f :put :key "a" :value "say \"hi\" \\ \n\u00e4"}',
        ]
    ) == [
        Operation(1, 5, Append("x, {y}"), "a", "0"),
        Operation(2, 6, Get(""), "b", "1"),
        Operation(7, None, Put('say "hi" \\ \nä'), "a", "2"),
    ]


@pytest.mark.parametrize(
    ("f", "answer", "is_left"),
    [
        (":put", ":type :info, :value :timed-out", True),
        (":append", ':type :info, :value "v"', True),
        (":append", ":type :fail, :value :timed-out", True),
        (":append", ':type :fail, :value "v", :error :timed-out', True),
        (":append", ':type :fail, :value "v"', False),
        (":get", ":type :info, :value nil", False),
        (":get", ":type :fail, :value :timed-out", False),
    ],
)
def test_an_answer_that_says_nothing_leaves_a_change_of_a_map_open(
    f: str, answer: str, is_left: bool
) -> None:
    found = edn.read(
        [
            f'{{:process 3, :type :invoke, :f {f}, :key "k", :value "v"}}',
            f'{{:process 3, {answer}, :f {f}, :key "k"}}',
        ]
    )

    assert [o.is_open for o in found] == [True] * is_left


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{:process 0, :type :invoke}", "line 1: without :f"),
        ('{:process 0, :type :invoke, :f :put, :key "a"}', "line 1: a call without"),
        ("{:process 0, :type :invoke, :f :get, :value nil}", "line 1: a call without"),
        ('{:process 0, :type :invoke, :f :pop, :key "a"}', "line 1: .*does not know :pop"),
        ('{:process 0, :type :ok, :f :get, :key "a", :value "x"}', "has not called"),
        ('{:process 0, :type :invoke, :f :get, :key "a}', "line 1: not a field"),
        (":process 0 :type :invoke", "line 1: not a map"),
    ],
)
def test_a_broken_map_is_refused_with_its_line(line: str, error: str) -> None:
    with pytest.raises(FormatError, match=error):
        edn.read([line])


# --- a folder ---------------------------------------------------------------------------------

FINE = "0 :invoke :write 1\n0 :ok :write 1\n0 :invoke :read nil\n0 :ok :read 1\n"
STALE = FINE.replace(":ok :read 1", ":ok :read nil")
MAP = (
    '{:process 0, :type :invoke, :f :append, :key "0", :value "a"}\n'
    '{:process 0, :type :ok, :f :append, :key "0", :value "a"}\n'
    '{:process 0, :type :invoke, :f :get, :key "1", :value nil}\n'
    '{:process 0, :type :ok, :f :get, :key "1", :value ""}\n'
)


def judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["histories", str(folder), *more])
    status = main()
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_folder_is_judged_by_name_whatever_the_names_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.txt").write_text(FINE)
    (tmp_path / "a.log").write_text(STALE)
    (tmp_path / "c").write_bytes(b"\xef\xbb\xbf" + MAP.replace("\n", "\r\n").encode())
    (tmp_path / ".hidden").write_text("?")

    assert judged(tmp_path, monkeypatch, capsys) == (
        0,
        "a.log not-linearizable\nb.txt linearizable\nc linearizable\n",
        "",
    )


def test_a_file_that_cannot_be_read_is_an_error_and_the_others_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.log").write_text("hello\n")
    (tmp_path / "2.log").write_text(FINE)
    (tmp_path / "3.log").write_text(FINE + "1 :ok :read 1\n")
    (tmp_path / "4.log").write_bytes(b"\xff\xfe")

    status, out, err = judged(tmp_path, monkeypatch, capsys)

    assert (status, out) == (2, "2.log linearizable\n")
    assert [line.split(": ")[0][-5:] for line in err.splitlines()] == ["1.log", "3.log", "4.log"]
    assert "line 5" in err


def test_what_is_too_hard_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.log").write_text(FINE)

    status, out, err = judged(tmp_path, monkeypatch, capsys, "--steps", "0")

    assert (status, out) == (1, "1.log undecided\n")
    assert "--steps" in err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_without_histories_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,
) -> None:
    folder = tmp_path if is_there else tmp_path / "none"

    status, out, err = judged(folder, monkeypatch, capsys)

    assert (status, out) == (2, "")
    assert "there is no" in err
