"""Sessions, locks and transactions by commands: what is sent, what is printed, what a mistake says."""

from __future__ import annotations

import base64
import io
import json
import sys
from types import SimpleNamespace

import httpx
import pytest

from hstore.cli import main as cli
from hstore.cli.client.errors import NotFound
from hstore.cli.shell.lines import is_write
from hstore.cli.shell.shell import run_shell
from hstore.node.errors import ConfigError, Refused

A = "127.0.0.1:8500"
ID = "8f0e2c1a-0000-4000-8000-0123456789ab"
SESSION = {
    "ID": ID, "Name": "web 1", "Node": "n1", "LockDelay": 15_000_000_000, "Behavior": "release",
    "TTL": "30s", "NodeChecks": ["serfHealth"], "ServiceChecks": None, "CreateIndex": 7,
}  # fmt: skip
NO_SESSION = f"there is no session {ID}; it has ended, or was never made"
SHOWN = {
    "id": ID, "name": "web 1", "node": "n1", "ttl": "30s", "lock_delay": "15s",
    "behavior": "release", "node_checks": ["serfHealth"],
}  # fmt: skip


def row(key="k", value=b"v", **more):
    shown = base64.b64encode(value).decode() or None
    row = {"Key": key, "Value": shown, "Flags": 0, "ModifyIndex": 17, "LockIndex": 3}
    return {**row, **more}


def written(is_done=True, revision=17):
    return httpx.Response(200, json=is_done, headers={"X-Hstore-Revision": str(revision)})


@pytest.fixture
def finder(cluster, make, make_finder):
    cluster.set(A, "/v1/cluster", make.info())
    return make_finder([A])


@pytest.fixture
def say(finder, capfd):
    """Run one command, and return what it printed."""

    def run(*words):
        assert run_shell(finder, None, cli.cli, words) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def fails(finder):
    """Run one command, and return its error."""

    def run(*words):
        with pytest.raises((Refused, ConfigError, NotFound)) as caught:
            run_shell(finder, None, cli.cli, words)
        return str(caught.value)

    return run


@pytest.fixture
def pipe(finder, monkeypatch):
    """Run a shell on the lines of a pipe; return its exit status."""

    def run(lines):
        stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(lines))
        monkeypatch.setattr(sys, "stdin", stdin)
        return run_shell(finder, None, cli.cli)

    return run


def taken(cluster, path, answer):
    """Keep the bodies that are sent to a path."""
    bodies = []

    def take(request):
        bodies.append(json.loads(request.content))
        return answer() if callable(answer) else answer

    cluster.set(A, path, take)
    return bodies


def asked(cluster):
    return [(method, path) for _, method, path in cluster.asked if path != "/v1/cluster"]


# --- sessions ---------------------------------------------------------------------------------


def test_a_session_is_made_of_what_was_said_and_nothing_else(cluster, say):
    bodies = taken(cluster, "/v1/session/create", lambda: httpx.Response(200, json={"ID": ID}))
    assert say("session", "create") == f"{ID}\n"
    words = ["--ttl", "30s", "--delay", "0s", "-n", "web", "--behavior", "delete", "--no-checks"]
    assert say("session", "create", *words, "--json") == f'{{"id":"{ID}"}}\n'
    all_ = {"TTL": "30s", "LockDelay": "0s", "Name": "web", "Behavior": "delete", "NodeChecks": []}
    assert bodies == [{}, all_]


def test_sessions_are_shown_as_a_table_and_as_json(cluster, say):
    second = {
        **SESSION,
        "ID": ID.replace("8f", "9f"),
        "TTL": "",
        "Name": "a\x1b[31m",
        "LockDelay": 500_000_000,
    }
    cluster.set(A, "/v1/session/list", [[SESSION, second], [SESSION], []])
    first, *rows = say("session", "list").splitlines()
    assert first.split() == ["ID", "NODE", "TTL", "LOCK", "DELAY", "BEHAVIOR", "NAME"]
    assert rows[0].split() == [ID, "n1", "30s", "15s", "release", "web", "1"]
    assert rows[1].split()[2:] == ["-", "500ms", "release", "a\\x1b[31m"]
    assert json.loads(say("session", "list", "--json")) == [SHOWN]
    assert say("session", "list") == ""


def test_one_session_is_shown_renewed_and_destroyed(cluster, say, fails):
    cluster.set(A, f"/v1/session/info/{ID}", [[SESSION], []])
    assert json.loads(say("session", "info", ID, "--json")) == SHOWN
    assert fails("session", "info", ID) == NO_SESSION
    gone = httpx.Response(404, text=f"Session id '{ID}' not found")
    cluster.set(A, f"/v1/session/renew/{ID}", [[SESSION], gone])
    assert say("session", "renew", ID) == "renewed for 30s\n"
    assert fails("session", "renew", ID) == NO_SESSION
    cluster.set(A, f"/v1/session/destroy/{ID}", [True])
    assert say("session", "destroy", ID) == "destroyed\n"
    assert "the session is empty" in fails("session", "destroy", "")


def test_a_mistyped_word_behind_session_is_answered_with_the_likely_one(fails):
    assert "there is no command 'creat'; did you mean create?" in fails("session", "creat")
    assert "session needs another word" in fails("session")


# --- locks ------------------------------------------------------------------------------------


def test_a_lock_is_taken_with_its_index_and_freed_with_its_value(cluster, say):
    held = row(Session=ID)
    cluster.set(A, "/v1/kv/k", [written(), [held], [held], written(revision=18)])
    assert say("acquire", "k", "v", "--session", ID) == "revision 17\nlock index 3\n"
    assert say("release", "k", "--session", ID) == "revision 18\n"
    assert asked(cluster) == [
        ("PUT", f"/v1/kv/k?acquire={ID}&flags=0"),
        ("GET", "/v1/kv/k"),
        ("GET", "/v1/kv/k"),
        ("PUT", f"/v1/kv/k?release={ID}&flags=0"),
    ]


def test_a_release_keeps_the_value_unless_one_is_given(cluster, say):
    sent = []

    def answer(request):
        if request.method == "GET":
            return [row(value=b"\xff", Session=ID)]
        sent.append(request.content)
        return written()

    cluster.set(A, "/v1/kv/k", answer)
    say("unlock", "k", "--session", ID)
    say("release", "k", "free", "--session", ID)
    assert sent == [b"\xff", b"free"]


def test_who_does_not_get_a_lock_is_told_who_has_it(cluster, fails):
    other = {**SESSION, "ID": ID.replace("8f", "9f")}
    cluster.set(A, "/v1/kv/k", [written(is_done=False), [row(Session=other["ID"])]])
    cluster.set(A, f"/v1/session/info/{other['ID']}", [[other]])
    assert f'"web 1", session {other["ID"]} holds it' in fails("acquire", "k", "v", "--session", ID)
    cluster.set(A, "/v1/kv/k", [written(is_done=False), [row()]])
    assert "the lock delay of its last holder is not over" in fails(
        "acquire", "k", "v", "--session", ID
    )
    cluster.set(A, "/v1/kv/k", [[row()]])
    assert "not locked by this session: nobody holds it" in fails("release", "k", "--session", ID)
    unknown = httpx.Response(500, text=f'invalid session "{ID}"')
    cluster.set(A, "/v1/kv/k", [unknown])
    assert fails("acquire", "k", "v", "--session", ID) == NO_SESSION


def test_get_says_to_a_person_who_holds_the_lock(cluster, finder, capfd, monkeypatch):
    cluster.set(A, "/v1/kv/k", [[row(Session=ID)], [row()], httpx.Response(404)])
    cluster.set(A, f"/v1/session/info/{ID}", [[SESSION]])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run_shell(finder, None, cli.cli, ["get", "k"]) == 0
    assert capfd.readouterr() == ("v\n", f'(locked by "web 1", session {ID})\n')
    assert run_shell(finder, None, cli.cli, ["get", "k"]) == 0
    assert capfd.readouterr() == ("v\n", "")
    with pytest.raises(NotFound, match="there is no key k"):
        run_shell(finder, None, cli.cli, ["get", "k"])


def test_lock_runs_a_command_so_the_shell_has_another_word_for_it(fails):
    assert "`hstore lock` in a terminal, or here `acquire KEY" in fails("lock", "k", "v")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("session create", True), ("session destroy x", True), ("session list", False),
     ("session", False), ("acquire k v", True), ("txn", True)],
)  # fmt: skip
def test_after_ctrl_c_only_a_write_may_have_taken_effect(line, expected):
    assert is_write(cli.cli, line) is expected


# --- transactions -----------------------------------------------------------------------------


def results(*rows, status=200, revision=21):
    content = {"Results": [{"KV": one} for one in rows], "Errors": None}
    return lambda: httpx.Response(
        status, json=content, headers={"X-Hstore-Revision": str(revision)}
    )


def value(text):
    return base64.b64encode(text.encode()).decode()


OPERATIONS = [
    ("set a 1", {"Verb": "set", "Key": "a", "Value": value("1")}),
    ('set "a b" "two words"', {"Verb": "set", "Key": "a b", "Value": value("two words")}),
    ("cas a 17 1", {"Verb": "cas", "Key": "a", "Index": 17, "Value": value("1")}),
    ("delete a", {"Verb": "delete", "Key": "a"}),
    ("del a", {"Verb": "delete", "Key": "a"}),
    ("delete-cas a 17", {"Verb": "delete-cas", "Key": "a", "Index": 17}),
    ("delete-tree a/", {"Verb": "delete-tree", "Key": "a/"}),
    ("get a", {"Verb": "get", "Key": "a"}),
    ("get-or-empty a", {"Verb": "get-or-empty", "Key": "a"}),
    ('get-tree ""', {"Verb": "get-tree", "Key": ""}),
    ("check a 17", {"Verb": "check-index", "Key": "a", "Index": 17}),
    ("check a 0", {"Verb": "check-not-exists", "Key": "a"}),
    ("check-index a 17", {"Verb": "check-index", "Key": "a", "Index": 17}),
    ("check-not-exists a", {"Verb": "check-not-exists", "Key": "a"}),
    (f"check-session a {ID}", {"Verb": "check-session", "Key": "a", "Session": ID}),
    (f"acquire a 1 {ID}", {"Verb": "lock", "Key": "a", "Value": value("1"), "Session": ID}),
    (f"lock a 1 {ID}", {"Verb": "lock", "Key": "a", "Value": value("1"), "Session": ID}),
    (f"release a 1 {ID}", {"Verb": "unlock", "Key": "a", "Value": value("1"), "Session": ID}),
    (f"unlock a 1 {ID}", {"Verb": "unlock", "Key": "a", "Value": value("1"), "Session": ID}),
]  # fmt: skip


@pytest.mark.parametrize("end", [b"", b"\n", b"end\n"])
def test_each_line_of_a_transaction_is_an_operation(cluster, pipe, capfd, end):
    bodies = taken(cluster, "/v1/txn", results())
    lines = "".join(f"{line}\n" for line, _ in OPERATIONS).encode()
    cluster.set(A, "/read/z", {"key": "z", "value": "after", "revision": 1})
    assert pipe(b"txn\n" + lines + end + (b"get z\n" if end else b"")) == 0
    assert bodies == [[{"KV": body} for _, body in OPERATIONS]]
    assert capfd.readouterr().out == "revision 21\n" + ("after\n" if end else "")


def test_operations_may_stand_in_the_line_each_in_a_word(cluster, pipe, say, capfd):
    bodies = taken(cluster, "/v1/txn", results())
    assert say("txn", "check a 17", "set a 1") == "revision 21\n"
    assert pipe(b"txn 'check a 17' 'set a 1'\n") == 0
    assert bodies[0] == bodies[1] == [{"KV": OPERATIONS[10][1]}, {"KV": OPERATIONS[0][1]}]
    assert capfd.readouterr().out == "revision 21\n"


def test_the_command_line_reads_the_operations_from_standard_input(
    cluster, finder, capfd, monkeypatch
):
    bodies = taken(cluster, "/v1/txn", results())
    monkeypatch.setattr("hstore.cli.options.finder", lambda _zone: finder)
    stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"set a 1\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert cli.run(["txn"]) == 0
    assert bodies == [[{"KV": OPERATIONS[0][1]}]]
    assert capfd.readouterr().out == "revision 21\n"


def test_what_a_transaction_reads_is_shown_in_its_order(cluster, say):
    rows = [
        row("t/a", b"1"), row("t/b", b""),  # the tree
        row("t/x", b"", Value=None),  # set
        row("e", b"", ModifyIndex=0),  # get-or-empty
        row("l", b"", Value=None, LockIndex=4, Session=ID),  # lock
        row("g", b"2 3"),  # get
    ]  # fmt: skip
    words = ["get-tree t/", "set t/x 1", "delete d", "get-or-empty e", f"lock l 1 {ID}", "get g"]
    taken(cluster, "/v1/txn", results(*rows))
    assert say("txn", *words).splitlines() == [
        't/a 1', 't/b ""', "e is not there", "l lock index 4", 'g "2 3"', "revision 21"
    ]  # fmt: skip
    shown = json.loads(say("txn", *words, "--json"))
    assert shown["revision"] == 21
    assert shown["rows"][0] == {
        "key": "t/a", "value": "1", "revision": 17, "lock_index": 3, "session": ""
    }  # fmt: skip
    assert len(shown["rows"]) == 6


def test_without_a_word_of_the_revision_it_is_that_of_what_was_written(cluster, say):
    taken(cluster, "/v1/txn", results(row(ModifyIndex=12), row(ModifyIndex=44), revision=0))
    assert say("txn", "set k 1", "get k") == "k v\nrevision 12\n"
    taken(cluster, "/v1/txn", results(revision=0))
    assert say("txn", "delete a") == "done\n"
    assert say("txn", "check a 0") == "done\n"


def test_a_transaction_that_only_reads_may_ask_another_node(cluster, finder, make, capfd):
    def gone(_request):
        raise httpx.ReadTimeout("late")

    cluster.set(A, "/v1/txn", gone)
    cluster.set("127.0.0.1:8501", "/v1/cluster", make.info())
    cluster.set("127.0.0.1:8501", "/v1/txn", results(row("a", b"1"))())
    lines = b"list\ntxn 'get a'\n"
    stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        assert run_shell(finder, None, cli.cli) == 0
    assert capfd.readouterr().out.endswith("a 1\n")


def test_each_operation_that_failed_is_named_and_nothing_was_changed(cluster, fails):
    errors = [
        {"OpIndex": 0, "What": 'key "a", index is stale'},
        {"OpIndex": 2, "What": "key \x1b[31m"},
        {"OpIndex": 9, "What": "?"},
    ]
    refused = httpx.Response(409, json={"Results": None, "Errors": errors})
    taken(cluster, "/v1/txn", refused)
    assert fails("txn", "check a 17", "set b 1", 'get "x y"').splitlines() == [
        "nothing was changed:",
        '  check a: key "a", index is stale',
        '  get "x y": key \\x1b[31m',
        "  operation 10: ?",
    ]


def test_after_a_wrong_line_the_rest_of_the_transaction_is_no_command(cluster, pipe, capfd):
    """Pasted into a shell, its last lines would be carried out alone."""
    bodies = taken(cluster, "/v1/txn", results())
    deleted = taken(cluster, "/delete/c", results())
    lines = b'txn\nset a 1\nchek b 17\nset "x\ncas a 1\nset k -\ndelete c\nend\nset z 1\n'
    assert pipe(lines) == 2
    told = capfd.readouterr().err
    assert told.startswith("hstore: line 1: nothing was sent:\n")
    assert "operation 2: there is no chek; did you mean check?" in told
    assert 'operation 3: a quote " is not closed' in told
    assert "operation 4: usage: cas KEY REVISION VALUE" in told
    assert "operation 5: standard input is" in told
    assert bodies == deleted == []
    assert ("POST", "/write") not in asked(cluster)


def test_there_is_a_bound_for_operations_and_for_what_is_said_of_them(cluster, pipe, capfd):
    bodies = taken(cluster, "/v1/txn", results())
    assert pipe(b"txn\n" + b"set a 1\n" * 1000 + b"end\n") == 2
    assert "there are more than 128 operations" in capfd.readouterr().err
    assert pipe(b"txn\n" + b"bogus\n" * 1000 + b"end\n") == 2
    assert len(capfd.readouterr().err.splitlines()) < 200
    assert pipe(b"txn\n\n") == 0
    assert "nothing was sent" in capfd.readouterr().err
    assert bodies == []


def test_help_knows_the_words_behind_session(finder, say, capfd):
    said = say("help", "session", "create")
    assert said.startswith("Usage: session create [OPTIONS]")
    assert "--ttl TIME" in said
    assert "create" in say("help", "session")
    with pytest.raises(ConfigError, match="there is no command creat; did you mean create"):
        run_shell(finder, None, cli.cli, ["help", "session", "creat"])
    with pytest.raises(ConfigError, match="usage: help"):
        run_shell(finder, None, cli.cli, ["help", "set", "get"])
