"""The shell's commands, its exit statuses, and the node it talks to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import stat
import sys
import termios
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import httpx
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from hstore.cli import main as cli
from hstore.cli.client.errors import NotFound, Unreachable
from hstore.cli.completion import KEYS_MAX
from hstore.cli.shell import shell, words
from hstore.cli.shell.commands import Context, Output
from hstore.cli.shell.connection import GIVE_UP_S, Connection
from hstore.cli.shell.lines import ELSEWHERE, is_write
from hstore.cli.shell.shell import HISTORY_BYTES_MAX, history_path, open_history
from hstore.cli.shell.shell import run_shell as run_shell_of
from hstore.cli.shell.suggestions import ShellCompleter
from hstore.cli.vocabulary import KeyCommand
from hstore.node.errors import Compacted, ConfigError, HstoreError, OutcomeUnknown, Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


def run_shell(finder, host, words=()):
    return run_shell_of(finder, host, cli.cli, words)


def written(revision):
    return httpx.Response(200, json=True, headers={"X-Hstore-Revision": str(revision)})


def refusal(status, **body):
    return httpx.Response(status, json=body)


def events(*blocks):
    return httpx.Response(200, content="".join(f"{block}\n\n" for block in blocks).encode())


@pytest.fixture
def finder(cluster, make, make_finder):
    for address in (A, B, C):
        cluster.set(address, "/v1/cluster", make.info())
    return make_finder([A])


@pytest.fixture
def say(finder, capfdbinary):
    """Run one command, and return what it printed."""

    def run(*words):
        assert run_shell(finder, None, words) == 0
        return capfdbinary.readouterr().out

    return run


def asked(cluster, address=A):
    return [(m, p) for at, m, p in cluster.asked if at == address and p != "/v1/cluster"]


@pytest.mark.parametrize(
    ("words", "method", "path", "answer", "printed"),
    [
        (["get", "a/b"], "GET", "/v1/kv/a%2Fb?raw", httpx.Response(200, content="ä\x1b".encode()), "ä\x1b\n"),
        (["set", "a", "v"], "POST", "/write", {"key": "a", "revision": 7}, "revision 7\n"),
        (["update", "a", "v"], "POST", "/update", {"key": "a", "revision": 8}, "revision 8\n"),
        (["del", "a"], "DELETE", "/delete/a", {"key": "a", "revision": 9}, "revision 9\n"),
        (["cas", "a", "7", "v"], "PUT", "/v1/kv/a?cas=7", written(8), "revision 8\n"),
        (["keys"], "GET", "/v1/kv/?keys", ["a", 'b"\\', "c\nd"], 'a\nb"\\\nc\nd\n'),
        (["keys", "a b"], "GET", "/v1/kv/a%20b?keys", ["a b"], "a b\n"),
        (
            ["scan", "p/", "2"], "GET", "/read?prefix=p%2F&limit=2",
            {"p/a b": "1\n", "p/c": {"base64": "/w=="}}, '"p/a b" "1\\n"\np/c base64:/w==\n',
        ),
        (["leader"], "GET", "/v1/cluster", None, f"n1 {A}\n"),
    ],
)  # fmt: skip
def test_each_command_asks_once_and_prints(cluster, say, words, method, path, answer, printed):
    if answer is not None:
        cluster.set(A, httpx.URL(path).path, [answer])
    assert say(*words).decode() == printed
    if answer is not None:
        assert asked(cluster) == [(method, path)]


def test_a_value_that_is_no_text_is_written_as_bytes_and_shown_as_base64(cluster, say, tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\x00")
    cluster.set(A, "/v1/kv/a", [written(7), written(8), httpx.Response(200, json=True)])
    cluster.set(A, "/read/a", [{"key": "a", "value_base64": "/wA=", "revision": 7}] * 3)
    assert say("set", "a", f"@{tmp_path}/file") == b"revision 7\n"
    assert say("get", "a", "--json") == b'{"key":"a","value_base64":"/wA=","revision":7}\n'
    assert say("update", "a", f"@{tmp_path}/file") == b"revision 8\n"
    assert asked(cluster)[-1] == ("PUT", "/v1/kv/a?cas=7")
    assert say("update", "a", f"@{tmp_path}/file") == b"written\n"  # the node does not tell it


def test_nodes_is_the_table_of_list(say):
    assert say("nodes").decode().split()[:4] == ["NAME", "ADDRESS", "HEALTH", "TYPE"]


def test_scan_pages_and_says_that_there_is_more(cluster, finder, capfd):
    pages = [{f"k{n:03}": "" for n in range(64)}, {f"k{n:03}": "" for n in range(64, 100)}]
    cluster.set(A, "/read", pages)
    assert run_shell(finder, None, ["scan"]) == 0
    printed = capfd.readouterr()
    assert len(printed.out.splitlines()) == 100
    assert "the first 100" in printed.err
    assert asked(cluster)[1][1] == "/read?prefix=&limit=36&after=k063"


@pytest.mark.parametrize(
    ("words", "path", "answer", "kind", "message"),
    [
        (["get", "a"], "/v1/kv/a", refusal(404, error="no key a"), NotFound, "no key a"),
        (["del", "a"], "/delete/a", refusal(404, error="no key a"), NotFound, "no key a"),
        (["keys", "z"], "/v1/kv/z", refusal(404, error="no key starts"), NotFound, "no key"),
        (["scan", "z"], "/read", {}, NotFound, "no key starts with z"),
        (["cas", "a", "0", "v"], "/v1/kv/a", False, Refused, "revision 12, not 0"),
        (["set", "a", "v"], "/write", httpx.ReadTimeout("late"), OutcomeUnknown, "read it back"),
        (["bogus"], "", None, ConfigError, "no command bogus"),
        (["set", "a"], "", None, ConfigError, "usage: set KEY VALUE"),
        (["get", ""], "", None, ConfigError, "key is empty"),
        (["cas", "a", "x", "v"], "", None, ConfigError, "x is not a revision"),
        (["cas", "a", "9" * 30, "v"], "", None, ConfigError, "is not a revision"),
        (["help", "x"], "", None, ConfigError, "no command x"),
        (["watch"], "/v1/watch", refusal(410, error="compacted: x"), Compacted, "compacted"),
    ],
)
def test_what_goes_wrong_has_its_exit_status_in_a_line(
    cluster, finder, words, path, answer, kind, message
):
    cluster.set(A, "/read/a", {"key": "a", "value": "", "revision": 12})
    if path:
        cluster.set(A, path, answer)
    with pytest.raises(kind, match=message) as caught:
        run_shell(finder, None, words)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, HstoreError)


def test_help_needs_no_cluster_and_has_an_example_of_every_command(make_finder, capfd):
    finder = make_finder([])
    assert run_shell(finder, None, ["help"]) == 0
    listed = capfd.readouterr().out
    for name, command in cli.cli.commands.items():
        if name in ELSEWHERE:
            continue
        assert name in re.split(r"[, \n]+", listed)
        assert run_shell(finder, None, ["help", name]) == 0
        told = capfd.readouterr().out
        if isinstance(command, KeyCommand):
            assert command.usage(name) in told
            assert f"> {name}" in told
    for name in ("exit", "quit", "?", "help"):
        assert run_shell(finder, None, ["help", name]) == 0
    assert run_shell(finder, None, ["?", "set"]) == 0
    assert run_shell(finder, None, ["exit"]) == run_shell(finder, None, ["quit"]) == 0


@pytest.fixture
def pipe(finder, monkeypatch):
    """Run a shell on the lines of a pipe; return its exit status."""

    def run(lines):
        stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(lines))
        monkeypatch.setattr(sys, "stdin", stdin)
        return run_shell(finder, None)

    return run


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        (b"get b", 1, "no key"),
        (b'get "x', 2, 'a quote " is not closed'),
        (b"bogus", 2, "there is no command bogus; `help` lists the commands"),
        (b"sett a b", 2, "there is no command sett; did you mean set?"),
        (b"set a", 2, "usage: set KEY VALUE; `help set` has examples"),
        (
            b"get --rwa a",
            2,
            "No such option '--rwa'. Did you mean '--raw'?; `help get` has examples",
        ),
        (b"set a -", 2, 'standard input is the shell\'s own: write "-" for the character'),
        (b"start", 2, "start is no command of the shell: `hstore start` in a terminal"),
        (b"set a v", 3, "no node can be reached at 127.0.0.1:850"),
    ],
)
def test_lines_of_a_pipe_end_with_the_first_that_fails_and_its_status(
    cluster, pipe, capfd, line, status, error
):
    # The lines after it may need what it should have done.
    cluster.set(A, "/read/a", [{"key": "a", "value": "1", "revision": 1}] * 9)
    cluster.set(A, "/read/b", refusal(404, error="no key"))
    assert pipe(b"# a comment\n\nget a\n  # " + line + b"\n" + line + b"\nget a\n") == status
    printed = capfd.readouterr()
    assert printed.out == "1\n"
    (told,) = [one for one in printed.err.splitlines() if not one.startswith("(")]
    assert told.startswith(f"hstore: line 5: {error}")


def test_lines_of_a_pipe_that_all_succeed_are_status_0_up_to_exit(cluster, pipe, capfd):
    cluster.set(A, "/read/a", [{"key": "a", "value": "1", "revision": 1}] * 9)
    assert pipe(b"get a\nquit\nbogus\n") == 0
    assert capfd.readouterr() == ("1\n", "")


def test_a_list_without_a_leader_fails_as_a_line_too(cluster, pipe, make, capfd):
    cluster.set(A, "/v1/cluster", make.info(leader=None))
    cluster.set(A, "/v1/health", refusal(503, error="no leader"))
    assert pipe(b"list\nleader\n") == 1
    assert "line 2" not in capfd.readouterr().err


SPELLINGS = [
    (["get foo", "read foo", "read -k foo", "get --key=foo", "hstore get foo"], None),
    (["set foo 1", "write foo 1", "write -k foo -v 1", "set -v 1 foo", "set -k foo 1"], "/write"),
    (["set foo -- -1", "set foo -1", 'set foo "-1"', "write -k foo -v -1"], "/write"),
    (["update foo 1", "update -k foo -v 1"], "/update"),
    (["del foo", "delete foo", "delete -k foo", "del -k foo"], "/delete/foo"),
    (["cas foo 0 1", "cas -k foo 0 -v 1", "cas foo --revision 0 1"], "/v1/kv/foo"),
    (["keys f", "keys --prefix f"], None),
    (["scan f 5", "scan --prefix f --limit 5", "scan f --limit=5"], None),
    (["list", "nodes"], None),
    (["leader"], None),
]


@pytest.mark.parametrize("spellings", [one for one, _ in SPELLINGS], ids=lambda one: one[0])
def test_every_spelling_means_the_same_in_the_shell_and_on_the_command_line(
    cluster, pipe, make, capfd, spellings, monkeypatch, finder
):
    """One implementation stands behind them: they send the same request and print the same."""
    kv = httpx.Response(200, content=b"1", headers={"X-Hstore-Revision": "7"})
    answers = {
        "/read/foo": {"key": "foo", "value": "1", "revision": 7},
        "/write": {"key": "foo", "revision": 7},
        "/update": {"key": "foo", "revision": 7},
        "/delete/foo": {"key": "foo", "revision": 7},
        "/read": {"foo": "1"},
    }
    monkeypatch.setattr("hstore.cli.options.finder", lambda _zone: finder)

    def outcome(run, line):
        for path, answer in answers.items():
            cluster.set(A, path, answer)
        cluster.set(A, "/v1/kv/foo", written(7) if line.startswith("cas") else kv)
        cluster.set(A, "/v1/kv/f", ["foo"])
        cluster.asked.clear()
        assert run(line) == 0
        requests = [(m, p) for _, m, p in cluster.asked if p != "/v1/cluster"]
        return requests, capfd.readouterr().out

    in_shell = [outcome(lambda line: pipe(line.encode() + b"\n"), one) for one in spellings]
    words = [one.removeprefix("hstore ").replace('"', "") for one in spellings]
    given = [one if one != "set foo -1" else "set foo -1" for one in words]
    on_line = [outcome(lambda line: cli.run(line.split()), one) for one in given]
    assert len({str(one) for one in in_shell}) == len({str(one) for one in on_line}) == 1
    assert in_shell[0][1] == on_line[0][1]


def test_what_stands_in_quotes_is_no_option_and_no_file(cluster, pipe, capfd):
    sent = []

    def take(request):
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"key": "a", "revision": 1})

    cluster.set(A, "/write", take)
    lines = b'set "-k" "@file"\nset a @@text\nset "#a" "-"\nset a \\@b\nset a "@@c"\n'
    assert pipe(lines) == 0
    assert [(one["key"], one["value"]) for one in sent] == [
        ("-k", "@file"), ("a", "@text"), ("#a", "-"), ("a", "@b"), ("a", "@@c"),
    ]  # fmt: skip


def test_other_commands_of_the_command_line_run_at_the_shells_node(
    server, make, capfd, monkeypatch
):
    server.set_cluster(make.info())
    server.answers["GET", "/v1/config?timeout=2s"] = (
        200,
        {"dns_ttl": {"value": "1s", "source": "x"}},
    )
    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"config dns_ttl\n"))
    )
    assert cli.run(["cli", "-h", server.address]) == 0
    assert capfd.readouterr().out == "1s\n"
    # But none ends or renames a node that is not named.
    for line in (b"stop\n", b"kill\n", b"leave\n", b"rename x\n"):
        stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(line))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.run(["cli", "-h", server.address]) == 2
        assert "-h" in capfd.readouterr().err
    assert [path for method, path, _ in server.asked if method == "POST"] == []


def test_orders_in_a_shell_are_for_its_cluster_and_not_for_one_that_a_search_finds(
    server, make, capfd, monkeypatch
):
    server.set_cluster(make.info(make.node(1, address=server.address), make.node(2)))
    monkeypatch.setattr("hstore.cli.search.find.Finder.find", lambda *_: pytest.fail("a search"))
    monkeypatch.setattr("hstore.cli.search.find.Finder.find_if_any", lambda *_: pytest.fail("too"))
    for order in (b"stop --all\n", b"rename -h n1 web\n", b"stop -h n1\n"):
        stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(order))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.run(["cli", "-h", server.address]) != 0  # the server does not know these
        capfd.readouterr()
    asked = [path for method, path, _ in server.asked if method == "POST"]
    assert asked == ["/v1/cluster/stop", "/v1/node/rename", "/v1/node/stop"]


def test_an_error_of_several_lines_stays_one(pipe, finder, capfd, monkeypatch):
    refused = Refused("not here\non the machine of n1: `hstore stop -h n1`")
    monkeypatch.setattr(Connection, "begin", lambda _: (_ for _ in ()).throw(refused))
    assert pipe(b"leader\n") == 1
    assert capfd.readouterr().err == f"hstore: line 1: {refused}\n"


def test_a_line_without_end_is_refused_before_it_is_read(pipe, capfd, monkeypatch):
    monkeypatch.setattr(words, "LINE_BYTES_MAX", 20)
    assert pipe(b"help exit\nset a " + b"x" * 100 + b"\nhelp exit\n") == 2
    printed = capfd.readouterr()
    assert "line 2: the line is longer" in printed.err
    assert printed.out.count("exit\n") == 2


def test_the_command_line_takes_everything_behind_the_command_as_words(server, capfd, make):
    server.answers["POST", "/write"] = (200, {"key": "-h", "revision": 7})
    server.set_cluster(make.info())
    assert cli.run(["cli", "-h", server.address, "set", "--", "-h", "--json"]) == 0
    assert capfd.readouterr().out == "revision 7\n"
    assert server.asked[-1][2] == b'{"key":"-h","value":"--json"}'
    assert cli.run(["cli", "-h", "127.0.0.1:1", "get", "a"]) == 3
    assert cli.run(["cli", "-h", server.address, "get", "a"]) == 1


def test_a_value_cannot_send_escape_sequences_to_a_terminal(capfd):
    Output(is_terminal=True).value(b"a\x1b[31m\n\tb\r")
    assert capfd.readouterr().out == "a\\x1b[31m\n\tb\\r\n"


class Terminal(NamedTuple):
    """A terminal: `screen` is the end of the window, `keys` that of the programs in it."""

    screen: int
    keys: io.TextIOWrapper

    def is_canonical(self) -> bool:
        return bool(termios.tcgetattr(self.keys)[3] & termios.ICANON)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    screen, keys = os.openpty()
    with os.fdopen(keys) as stream:
        yield Terminal(screen, stream)
    with contextlib.suppress(OSError):  # A test may have closed it.
        os.close(screen)


@pytest.fixture
def talk(finder, monkeypatch, terminal):
    """Have a shell at a terminal ask for lines, which are given; return its exit status."""

    def run(*lines):
        coming = iter(lines)

        def ask(_text, *, handle_sigint):
            # With it, prompt_toolkit lets Python's own handler in while it puts its own away.
            assert not handle_sigint
            # As the prompt begins or ends: a moment in which Ctrl-C is not yet or no longer a key.
            signal.raise_signal(signal.SIGINT)
            line = next(coming)
            if callable(line):
                line = line()
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr(shell, "_prompt", lambda *_: SimpleNamespace(prompt=ask))
        monkeypatch.setattr(sys, "stdin", terminal.keys)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return run_shell(finder, None)

    return run


def test_ctrl_c_beside_the_prompt_and_beside_a_command_ends_nothing(talk, capfd):
    handler = signal.getsignal(signal.SIGINT)
    assert talk("help exit", KeyboardInterrupt, "help get", EOFError) == 0
    printed = capfd.readouterr()
    assert "exit\n" in printed.out
    assert "get [KEY]\n" in printed.out
    assert "interrupted" not in printed.err
    assert signal.getsignal(signal.SIGINT) is handler


def test_from_the_first_prompt_on_no_key_is_kept_as_a_mark_until_the_shell_ends(talk, terminal):
    modes = []

    def look():
        modes.append(terminal.is_canonical())
        return "help exit"

    assert terminal.is_canonical()
    assert talk(look, look, EOFError) == 0
    assert modes == [False, False]
    assert terminal.is_canonical()


def test_a_terminal_that_is_closed_ends_the_shell_without_an_error(talk, terminal):
    def close():
        os.close(terminal.screen)
        return EOFError()

    assert talk(close) == 0


def test_ctrl_c_ends_the_command_that_runs_and_says_it_of_a_write(cluster, talk, capfd):
    def interrupt(_request):
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the command went on")

    for path in ("/v1/kv/a", "/write"):
        cluster.set(A, path, interrupt)
    assert talk("get a", "set a 1", "help get", "exit") == 0
    printed = capfd.readouterr()
    # Each of the two ends the line it interrupted.
    assert "Ctrl-D leaves\n\n\nget [KEY]\n" in printed.out
    assert printed.err.count("the write may or may not take effect") == 1


# --- the node it talks to ---------------------------------------------------------------------


@pytest.fixture
def session(finder):
    told: list[str] = []
    with Connection(finder, None, told.append) as one:
        one.told = told  # type: ignore[attr-defined]
        yield one


def test_a_read_goes_to_another_node_and_says_so(cluster, session):
    cluster.set(A, "/read/a", httpx.ReadTimeout("late"))
    cluster.set(B, "/v1/cluster", None)
    cluster.set(C, "/read/a", {"key": "a", "value": "1", "revision": 1})
    assert session.read(lambda client: client.get("a")).data == b"1"
    assert session.address == C
    assert session.told == [f"the node at {A} did not answer in time: now at {C}"]


def test_where_another_cluster_has_a_members_address_by_now_nothing_is_sent(cluster, session, make):
    session.connect()
    cluster.set(A, "/write", httpx.ConnectError("refused"))
    cluster.set(B, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    cluster.set(B, "/write", {"key": "a", "revision": 7})
    cluster.set(C, "/write", {"key": "a", "revision": 9})
    assert session.write(lambda client: client.write("a", "1")) == 9
    assert session.address == C


def test_a_write_goes_elsewhere_only_when_it_was_certainly_not_sent(cluster, session):
    cluster.set(B, "/write", {"key": "a", "revision": 7})
    cluster.set(A, "/write", httpx.ConnectTimeout("late"))
    assert session.write(lambda client: client.write("a", "1")) == 7
    assert session.address == B
    for lost in (httpx.ReadTimeout("late"), httpx.WriteError("reset")):
        cluster.set(B, "/write", lost)
        before = len(cluster.asked)
        with pytest.raises(OutcomeUnknown):
            session.write(lambda client: client.write("a", "1"))
        assert len(cluster.asked) == before + 1
    # Nor when something answers that is no node of ours, but may stand before one.
    cluster.set(B, "/write", httpx.Response(502, text="<html>"))
    with pytest.raises(Unreachable):
        session.write(lambda client: client.write("a", "1"))
    assert session.address == B


def test_each_node_is_tried_once_and_the_last_error_stands(cluster, session):
    session.connect()
    for address in (A, B, C):
        cluster.set(address, "/v1/cluster", None)
    with pytest.raises(Unreachable, match="8500"):
        session.write(lambda client: client.write("a", "1"))
    assert [at for at, _, path in cluster.asked if path == "/write"] == [A]
    # They are there again.
    cluster.set(A, "/write", {"key": "a", "revision": 7})
    assert session.write(lambda client: client.write("a", "1")) == 7


def test_a_watch_goes_on_at_another_node_after_what_was_seen(cluster, session):
    first = '{"key":"a","revision":11,"value":"x\u2028y"}'
    second = '{"key":"a","revision":12,"deleted":true}'
    other = '{"key":"b","revision":12,"deleted":true}'
    # Cut off between the two deletions of one revision.
    cluster.set(A, "/v1/watch", events("id: 10", f"id: 11\ndata: {first}", f"data: {second}"))
    again = events("id: 11", f"data: {second}", f"id: 12\ndata: {other}", "id: 20")
    cluster.set(B, "/v1/watch", again)
    cluster.set(C, "/v1/watch", events('event: error\ndata: {"error":"compacted: gone"}'))
    watching = session.watch("p/")
    seen = [next(watching) for _ in range(4)]
    assert [(one.key, one.revision, one.value) for one in seen] == [
        ("a", 11, "x\u2028y".encode()), ("a", 12, None), ("a", 12, None), ("b", 12, None),
    ]  # fmt: skip
    for address in (A, B):
        cluster.set(address, "/v1/cluster", None)
    with pytest.raises(Compacted, match="gone"):
        next(watching)
    paths = [(at, path) for at, _, path in cluster.asked if "watch" in path]
    query = "/v1/watch?prefix=p%2F"
    assert paths[0] == (A, query)
    assert paths[1] == (B, f"{query}&after=11")
    assert paths[-1][1] == f"{query}&after=20"


def test_a_watch_without_any_node_ends(cluster, session, clock):
    session.connect()
    for address in (A, B, C):
        cluster.set(address, "/v1/cluster", None)
    with pytest.raises(Unreachable):
        next(session.watch(""))
    assert GIVE_UP_S < clock.now() < GIVE_UP_S + 1


# --- Tab, and the history ---------------------------------------------------------------------


def complete(completer, text):
    found = completer.get_completions(Document(text), CompleteEvent())
    return [(one.text, one.start_position) for one in found]


def completer_of(session):
    session.connect()
    session.finder.connect(A, 1).__exit__(None, None, None)
    return ShellCompleter(Context(session, Output(is_terminal=False)), cli.cli)


def test_tab_offers_commands_options_and_keys(cluster, session):
    completer = completer_of(session)
    assert complete(completer, "sc") == [("scan ", -2)]
    assert complete(completer, "help wa") == [("watch ", -2)]
    assert complete(completer, "demo ") == complete(completer, "hstore sta") == []
    assert ("restart ", -2) in complete(completer, "re")
    cluster.set(A, "/v1/kv/a", [["a b", "ab"], ["a b"], ["a b", "ab"]])
    assert complete(completer, "get a") == [('"a b" ', -1), ("ab ", -1)]
    assert complete(completer, 'get "a') == [('"a b" ', -2)]
    assert complete(completer, "read -k a") == [('"a b" ', -1), ("ab ", -1)]
    assert complete(completer, "get --r") == [("--raw ", -3)]
    assert cluster.asked[-1] == (A, "GET", "/v1/kv/a?keys&stale")
    assert complete(completer, "set a b") == []
    assert complete(completer, "bogus a") == []


def test_tab_is_silent_when_there_are_no_keys_and_short_when_there_are_many(cluster, session):
    completer = completer_of(session)
    for answer in (None, refusal(404, error="no key"), httpx.ReadTimeout("late")):
        cluster.set(A, "/v1/kv/a", answer)
        assert complete(completer, "get a") == []
    cluster.set(A, "/v1/kv/", [[f"k{n}" for n in range(KEYS_MAX * 2)]])
    assert len(complete(completer, "get ")) == KEYS_MAX
    assert (
        complete(
            ShellCompleter(
                Context(Connection(session.finder, None, print), Output(is_terminal=False)), cli.cli
            ),
            "get ",
        )
        == []
    )


def test_the_history_is_its_owners_alone_and_bounded(tmp_path):
    path = history_path({"XDG_STATE_HOME": str(tmp_path / "state")})
    history = open_history(path)
    history.append_string("set foo bar")
    history.append_string(" set secret x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(open_history(path).load_history_strings()) == ["set foo bar"]
    path.chmod(0o644)
    for number in range(40_000):
        history.store_string(f"get key-{number}")
    assert path.stat().st_size > HISTORY_BYTES_MAX
    lines = list(open_history(path).load_history_strings())
    assert path.stat().st_size <= HISTORY_BYTES_MAX / 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert lines[0] == "get key-39999"
    assert lines == [f"get key-{number}" for number in range(39_999, 39_999 - len(lines), -1)]


def test_without_a_place_for_the_history_there_is_one_in_memory(tmp_path):
    (tmp_path / "file").write_text("")
    history = open_history(tmp_path / "file" / "history")
    history.append_string("get a")
    assert history.get_strings() == ["get a"]
    assert history_path({"XDG_STATE_HOME": "relative"}).parts[-2:] == ("hstore", "history")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("set k v", True),
        ("  del k", True),
        ("cas k 0 v", True),
        ("update k v", True),
        ("write -k a", True),
    ]
    + [(line, False) for line in ("watch", "get k", "scan", "sett k", "", "   ")],
)
def test_only_of_a_write_is_it_said_that_it_may_have_taken_effect(line, expected):
    assert is_write(cli.cli, line) is expected
