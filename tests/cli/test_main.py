"""Commands from the line to the exit status, against a real HTTP server with prepared answers."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import click
import pytest

from hstore.cli import __main__ as programs
from hstore.cli import locking
from hstore.cli import main as cli
from hstore.cli.process import ending
from hstore.node.config import cluster_settings
from hstore.node.config.settings import load_search, unknown_variables
from hstore.node.model.commands import ClusterSettings


def test_read_prints_the_value_and_a_newline_or_the_bytes_alone(server, capfdbinary):
    server.answers["GET", "/v1/kv/foo?raw"] = (200, b"b\xffr")
    assert cli.run(["read", "-h", server.address, "-k", "foo"]) == 0
    assert capfdbinary.readouterr().out == b"b\xffr\n"
    assert cli.run(["read", "-h", server.address, "-k", "foo", "--raw"]) == 0
    assert capfdbinary.readouterr().out == b"b\xffr"


@pytest.mark.parametrize("is_all", [False, True])
def test_on_a_terminal_a_value_cannot_steer_it_but_for_raw(server, is_all, monkeypatch, tmp_path):
    value = "\x1b]0;x\x07\u202e\x9b31m é\n".encode()
    server.answers["GET", "/v1/kv/foo?raw"] = server.answers["GET", "/read"] = (200, value)
    row = {"Key": "foo", "Value": base64.b64encode(value).decode(), "ModifyIndex": 7}
    server.answers["GET", "/v1/kv/foo"] = (200, [row])
    key = [] if is_all else ["-k", "foo"]

    def printed(*options):
        with (tmp_path / "out").open("w+", encoding="utf-8") as out:
            out.isatty = lambda: True
            monkeypatch.setattr("sys.stdout", out)
            assert cli.run(["read", "-h", server.address, *key, *options]) == 0
            out.flush()
            return (tmp_path / "out").read_bytes()

    assert printed() == "\\x1b]0;x\\x07\\u202e\\u009b31m é\n\n".encode()
    assert printed("--raw").startswith(value)


def test_the_host_may_come_from_the_environment(server, capfd, monkeypatch, make):
    monkeypatch.setenv("HSTORE_HOST", server.address)
    server.set_cluster(make.info())
    server.answers["GET", "/read"] = (200, {"a": "1"})
    assert cli.run(["read"]) == 0
    assert json.loads(capfd.readouterr().out) == {"a": "1"}


def test_where_the_host_of_the_environment_is_dead_the_cluster_is_found_elsewhere(
    server, capfd, monkeypatch, make
):
    monkeypatch.setenv("HSTORE_HOST", "127.0.0.1:1")
    monkeypatch.setenv("HSTORE_DISCOVERY_HOSTS", server.address)
    server.set_cluster(make.info())
    server.answers["GET", "/read"] = (200, {"a": "1"})
    assert cli.run(["read"]) == 0
    assert json.loads(capfd.readouterr().out) == {"a": "1"}


def test_a_name_in_the_environment_is_a_node_of_the_cluster_that_is_found(
    server, capfd, monkeypatch, make
):
    monkeypatch.setenv("HSTORE_HOST", "n2")
    monkeypatch.setenv("HSTORE_DISCOVERY_HOSTS", server.address)
    there = make.node(2, address=server.address)
    server.set_cluster(make.info(make.node(1), there))
    server.answers["GET", "/read"] = (200, {"a": "1"})
    assert cli.run(["read"]) == 0


@pytest.mark.parametrize(
    ("said", "is_name"),
    [("n2", True), ("localhost", True), ("Db_1", False), ("db.example", False), ("[::1]", False)],
)
def test_what_the_environment_names_is_either_a_node_or_a_host_of_the_search(
    monkeypatch, said, is_name
):
    # Two rules differed: `Db_1` was a node's name for one and an address for the other.
    monkeypatch.setenv("HSTORE_HOST", said)
    context = cli.cli.commands["read"].make_context("read", [])
    assert context.params["host"] == (said if is_name else None)
    assert bool(load_search({}, {"HSTORE_HOST": said}).discovery.hosts) == (not is_name)


def test_the_help_names_the_defaults_that_a_new_cluster_has():
    # It said 100ms of the heartbeat, which has long been 200ms.
    helps = {name: str(one.help) for one in cli.cli.commands["start"].params for name in one.opts}
    for setting in cluster_settings.SETTINGS:
        if setting.key.startswith("dns."):
            continue  # These are in the file, and in `hstore config`.
        default = setting.show(getattr(ClusterSettings(), setting.field))
        assert f"[{default}]" in helps[f"--{setting.key.replace('_', '-')}"]


def test_read_without_a_key_prints_all(server, capfd):
    server.answers["GET", "/read"] = (200, {"a": "1", "b": "2"})
    assert cli.run(["read", "-h", server.address]) == 0
    assert json.loads(capfd.readouterr().out) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("command", "method", "path", "body"),
    [
        (["write", "-k", "a", "-v", "ä"], "POST", "/write", {"key": "a", "value": "ä"}),
        (["update", "-k", "a", "-v", ""], "POST", "/update", {"key": "a", "value": ""}),
        (["delete", "-k", "a"], "DELETE", "/delete/a", None),
    ],
)
def test_a_write_is_sent_once_and_its_revision_printed(server, capfd, command, method, path, body):
    server.answers[method, path] = (200, {"key": "a", "revision": 7})
    assert cli.run([*command, "-h", server.address]) == 0
    assert capfd.readouterr().out == "revision 7\n"
    [(_, _, sent)] = server.asked
    assert (json.loads(sent) if sent else None) == body


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        ((404, {"error": "no key a"}), 1, "hstore: no key a\n"),
        ((400, {"error": "the key is too long"}), 2, "hstore: the key is too long\n"),
        ((503, {"error": "no leader", "outcome": "not applied"}), 1, "hstore: no leader\n"),
    ],
)
def test_the_exit_status_tells_refused_from_wrong_usage(server, capfd, answer, status, message):
    server.answers["POST", "/update"] = answer
    assert cli.run(["update", "-k", "a", "-v", "b", "-h", server.address]) == status
    assert capfd.readouterr() == ("", message)


def test_a_node_that_is_not_there_is_status_3_in_one_line(capfd):
    assert cli.run(["read", "-h", "127.0.0.1:1", "-k", "a"]) == 3
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "127.0.0.1:1" in error


def test_a_proxy_of_the_environment_is_not_used(server, monkeypatch, capfd):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answers["GET", "/v1/kv/a?raw"] = (200, b"1")
    assert cli.run(["read", "-h", server.address, "-k", "a"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["read", "--what"],
        ["nothing"],
        ["write", "-k", "a"],
        ["stop"],
        ["kill"],
        ["restart"],
        ["leave"],
        ["demo", "0"],
        ["demo", "x"],
        ["list", "--zone", "a..b"],
        ["read", "-h", "127.0.0.1:99999"],
        ["start", "--cache-mb", "0"],
        ["start", "--config", "/nonexistent"],
    ],
)
def test_wrong_usage_is_status_2_on_standard_error(arguments, capfd):
    assert cli.run(arguments) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", [["bogus"], ["write", "-k", "a"], ["demo", "x"], ["--bad"]])
def test_wrong_usage_is_said_in_one_line_that_names_the_help(arguments, capfd):
    assert cli.run(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("hstore: ")
    assert "--help`" in line


def test_an_argument_that_is_not_utf8_is_wrong_usage(capfd):
    assert cli.run(["write", "-h", "127.0.0.1:1", "-k", "a", "-v", "\udcff"]) == 2
    assert "-v" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["lst"], "list"), (["reed", "-k", "a"], "read"), (["gett", "a"], "get"),
        (["wtach"], "watch"), (["LIST"], "list"), (["delte", "a"], "delete"),
    ],
)  # fmt: skip
def test_a_mistyped_command_is_answered_with_the_likely_one(words, meant, capfd):
    assert cli.run(words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"hstore: there is no command '{words[0]}'; did you mean {meant}?")


@pytest.mark.parametrize("word", ["xyzzy", "cheque", "stall", "x", "delete" * 100_000])
def test_a_mistyped_command_that_is_like_none_is_answered_without_a_guess(word, capfd):
    assert cli.run([word]) == 2
    assert "did you mean" not in capfd.readouterr().err


def test_a_value_may_be_a_file_or_standard_input_of_any_bytes(server, capfd, monkeypatch, tmp_path):
    (tmp_path / "f").write_bytes(b"text\n")
    server.answers["POST", "/write"] = (200, {"key": "a", "revision": 7})
    server.answers["PUT", "/v1/kv/a?flags=0"] = (200, b"true")
    assert cli.run(["write", "-h", server.address, "-k", "a", "-v", f"@{tmp_path}/f"]) == 0
    assert json.loads(server.asked[-1][2]) == {"key": "a", "value": "text\n"}
    for words in (
        ["set", "a", "-"],
        ["write", "-k", "a", "-v", "-"],
        ["set", "-k", "a", "--value=-"],
    ):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\xff\x00\n")))
        assert cli.run([*words, "-h", server.address]) == 0
        assert server.asked[-1][2] == b"\xff\x00\n"
    assert cli.run(["set", "-h", server.address, "a", "@@x"]) == 0
    assert json.loads(server.asked[-1][2])["value"] == "@x"


def test_a_value_that_cannot_be_read_is_wrong_usage_and_nothing_is_written(server, capfd, tmp_path):
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for said, status in (("none", 2), (".", 2), ("large", 1)):
        assert cli.run(["set", "-h", server.address, "a", f"@{tmp_path}/{said}"]) == status
        (line,) = capfd.readouterr().err.splitlines()
        assert str(tmp_path) in line
    assert server.asked == []


def test_json_is_printed_by_every_command_that_prints(server, capfd, make):
    server.set_cluster(make.info())
    setting = {"value": "1s", "source": "the log"}
    server.answers.update({
        ("GET", "/read/a"): (200, {"key": "a", "value": "1", "revision": 7}),
        ("GET", "/read"): (200, {"a": "1"}),
        ("GET", "/read?prefix=a&limit=64"): (200, {"a": "1", "ab": {"base64": "/w=="}}),
        ("GET", "/v1/kv/a?keys"): (200, ["a", "ab"]),
        ("POST", "/write"): (200, {"key": "a", "revision": 7}),
        ("POST", "/update"): (200, {"key": "a", "revision": 7}),
        ("DELETE", "/delete/a"): (200, {"key": "a", "revision": 7}),
        ("GET", "/v1/config?timeout=2s"): (200, {"dns_ttl": setting}),
        ("PUT", "/v1/config/dns_ttl"): (200, setting),
        ("POST", "/v1/node/rename"): (200, {"was": "n1"}),
    })  # fmt: skip
    for words, printed in (
        (["read", "a"], {"key": "a", "value": "1", "revision": 7}),
        (["read"], {"a": "1"}),
        (["scan", "a"], {"a": "1", "ab": {"base64": "/w=="}}),
        (["keys", "a"], ["a", "ab"]),
        (["set", "a", "1"], {"key": "a", "revision": 7}),
        (["update", "a", "1"], {"key": "a", "revision": 7}),
        (["del", "a"], {"key": "a", "revision": 7}),
        (["leader"], {"name": "n1", "address": "127.0.0.1:8500"}),
        (["config"], {"dns_ttl": setting}),
        (["config", "dns_ttl"], setting),
        (["config", "dns_ttl", "1s"], setting),
        (["rename", "x"], {"was": "n1", "name": "x"}),
    ):
        assert cli.run([*words, "--json", "-h", server.address]) == 0
        assert json.loads(capfd.readouterr().out) == printed
    assert cli.run(["nodes", "--json", "-h", server.address]) == 0
    assert json.loads(capfd.readouterr().out)["leader"] == "n1"


def test_list_shows_a_line_for_each_node_and_json_the_object_itself(server, capfd, make):
    server.set_cluster(make.info())
    assert cli.run(["list", "-h", server.address]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["NAME", "ADDRESS", "HEALTH", "TYPE"],
        ["n1", "127.0.0.1:8500", "alive", "leader"],
        ["n2", "127.0.0.1:8501", "alive", "follower"],
        ["n3", "127.0.0.1:8502", "alive", "follower"],
    ]
    assert not any(line.endswith(" ") for line in lines)
    assert cli.run(["list", "-h", server.address, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["leader"] == "n1"


def test_list_into_a_narrow_pipe_keeps_one_line_for_each_node(server, capfd, make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    server.set_cluster(make.info(make.node(1, name="a-name-of-some-length")))
    assert cli.run(["list", "-h", server.address]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "NAME                   ADDRESS         HEALTH  TYPE",
        "a-name-of-some-length  127.0.0.1:8500  alive   leader",
    ]


def test_list_without_a_leader_is_status_1_and_still_lists(server, capfd, make):
    server.set_cluster(make.info(leader=None))
    for options in ([], ["--json"]):
        assert cli.run(["list", "-h", server.address, *options]) == 1
        out, error = capfd.readouterr()
        assert "n2" in out
        assert "no leader" in error


def test_an_interruption_is_status_130_and_silent(monkeypatch, capfd):
    def interrupted(*_arguments):
        raise BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])])

    monkeypatch.setattr("hstore.cli.options.finder", interrupted)
    assert cli.run(["read", "-k", "a"]) == 130
    assert capfd.readouterr() == ("", "")


def test_a_defect_is_told_without_a_traceback_unless_it_is_asked_for(monkeypatch, capfd):
    def broken(*_arguments):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("hstore.cli.options.finder", broken)
    monkeypatch.delenv("HSTORE_DEBUG", raising=False)
    assert cli.run(["read", "-k", "a"]) == 1
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.setenv("HSTORE_DEBUG", "1")
    assert cli.run(["read", "-k", "a"]) == 1
    assert "Traceback" in capfd.readouterr().err


_NODES = {"rocksdict", "structlog", "httptools"}
HEAVY = {
    "--help": {"httpx", "rich", "trio", "rocksdict", "structlog", "httptools", "dnslib", "msgspec"},
    # What only a node or a search needs, and what httpx and rich bring along for purposes of their own.
    "list": _NODES | {"trio", "dnslib", "pygments", "markdown_it", "prompt_toolkit"},
    "read": _NODES | {"trio", "dnslib", "pygments", "rich", "prompt_toolkit"},
}


@pytest.mark.parametrize("command", HEAVY)
def test_a_command_imports_nothing_heavy_that_it_does_not_need(server, make, command):
    """What it costs in time no test can hold on every machine; what it imports, one can."""
    server.set_cluster(make.info())
    server.answers["GET", "/read"] = (200, {})
    arguments = [command] if command == "--help" else [command, "-h", server.address]
    program = f"""
import sys
from hstore.cli.main import run
status = run({arguments})
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY[command]}), status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_help_is_not_minus_h(capfd):
    assert cli.run(["list", "--help"]) == 0
    assert "-h, --host" in capfd.readouterr().out
    assert cli.run(["list", "-h"]) == 2


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("get", "[OPTIONS] [KEY]"),
        ("set", "[OPTIONS] KEY VALUE"),
        ("register", "[OPTIONS] NAME | FILE"),
        ("maint", "[OPTIONS] on|off [ID]"),
        ("list", "[OPTIONS]"),
        ("leader", "[OPTIONS]"),
    ],
)
def test_the_first_line_of_the_help_has_the_arguments_too(words, usage, capfd):
    assert cli.run([words, "--help"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == f"Usage: hstore {words} {usage}"


@pytest.mark.parametrize("words", [["get", "-k"], ["services", "--tag"], ["list", "-h"]])
def test_an_option_without_its_value_is_said_as_all_else(words, capfd):
    assert cli.run(words) == 2
    assert capfd.readouterr().err.startswith(f"hstore: Option '{words[-1]}' requires an argument")


def test_a_question_of_what_was_meant_needs_no_semicolon(capfd):
    assert cli.run(["list", "--bogus"]) == 2
    assert "'--host'? `hstore list --help`" in capfd.readouterr().err


@pytest.fixture
def ways(monkeypatch):
    """Which way a node would have been run, and with what."""
    called = []

    def way(name):
        def run_node(*arguments, **options):
            called.append((name, arguments, options))
            return 5

        return run_node

    monkeypatch.setattr("hstore.cli.process.background.run_in_background", way("background"))
    monkeypatch.setattr("hstore.cli.process.attached.run_with_shell", way("shell"))
    monkeypatch.setattr("hstore.cli.process.start.start_node", way("start"))
    monkeypatch.setattr("hstore.cli.process.start.join_cluster", way("join"))
    return called


@pytest.mark.parametrize(
    ("words", "on_terminal", "way"),
    [
        (["start"], True, "shell"),
        (["join"], True, "shell"),
        (["start"], False, "start"),
        (["join"], False, "join"),
        (["start", "--no-shell"], True, "start"),
        (["join", "--no-shell"], True, "join"),
        (["start", "--daemon"], True, "background"),
        (["join", "--daemon"], False, "background"),
    ],
)
def test_a_node_runs_beside_a_shell_only_on_a_terminal(ways, monkeypatch, words, on_terminal, way):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: on_terminal))
    assert cli.run(words) == 5
    assert [name for name, _, _ in ways] == [way]


def test_what_was_said_is_said_again_to_the_node_in_the_background(ways, monkeypatch):
    monkeypatch.setenv("HSTORE_HOST", "db")
    said = [
        "--daemon",
        "--learner",
        "-n",
        "x",
        "--zone",
        "a.b",
        "--data-dir",
        "d",
        "--http-hosts",
        "h",
    ]
    assert cli.run(["join", *said]) == 5
    [(_, (arguments, _env), _)] = ways
    command, *options = arguments
    assert command == "join"
    assert sorted(options) == sorted(
        ["--host=db", "--learner", "--name=x", "--zone=a.b", "--data-dir=d", "--http-hosts=h"]
    )


@pytest.mark.parametrize("command", ["start", "join"])
def test_every_setting_of_a_node_can_be_said_again(command):
    """The option of a setting is its name, so that a record can be read as a command line."""
    known = cli.cli.commands[command]
    for one in known.params:
        if isinstance(one, click.Option):
            assert f"--{str(one.name).replace('_', '-')}" in one.opts


@pytest.mark.parametrize("program", ["hstore", "server", "shell"])
def test_ctrl_c_while_a_program_is_being_loaded_ends_it_without_a_traceback(program):
    """A key pressed during the first tenth of a second: the signal comes amid the imports."""
    code = f"""
import signal, sys
from hstore.cli import __main__ as programs

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, {{handler}})
sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = ["--help"]
programs.{program}()
"""

    def run(handler):
        return subprocess.run(
            [sys.executable, "-c", code.format(handler=handler)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = run("signal.default_int_handler")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    ignores = run("signal.SIG_IGN")
    assert ignores.returncode == 0
    assert "Usage:" in ignores.stdout


def test_ctrl_c_is_again_what_it_was_once_a_program_is_loaded(monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "run", lambda _: str(signal.getsignal(signal.SIGINT)))
    with pytest.raises(SystemExit) as ended:
        programs.hstore()
    assert ended.value.code == str(handler)


@pytest.mark.parametrize("said", ["0", "16", "three", "1.5", "-1"])
def test_a_number_that_is_not_allowed_is_answered_with_those_that_are(capfd, said):
    # click says of "three" that it is "not a valid integer range".
    assert cli.run(["demo", "--", said]) == 2
    err = capfd.readouterr().err
    assert f"'{said}' is not allowed; allowed: a whole number from 1 to 15" in err


BAD_HOSTS = [
    "127.0.0.1:1,127.0.0.1:2",
    "a b",
    "db:99999",
    "http://db:8500",
    "300.0.0.1",
    "[::1",
    ":",
]


@pytest.mark.parametrize("said", BAD_HOSTS)
@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["read", "-k", "a"],
        ["write", "-k", "a", "-v", "1"],
        ["cli", "nodes"],
        ["config"],
        ["stop", "-h", "n1"],
        ["dns", "setup", "bind"],
        ["dns", "doctor"],
        ["start", "--no-shell"],
        ["join", "--no-shell"],
    ],
)
def test_a_host_in_the_environment_that_is_neither_name_nor_address_is_wrong_usage(
    monkeypatch, capfd, command, said
):
    # It was passed over, and the command went to whatever cluster a search found.
    monkeypatch.setenv("HSTORE_HOST", said)
    assert cli.run(command) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"hstore: HSTORE_HOST: '{said}' is not allowed; allowed: a node's name, ")
    assert "HOST:PORT or HOST" in err


BAD_VARIABLES = {
    "HSTORE_DNS": "10.0.0.53;10.0.0.54",
    "HSTORE_DISCOVERY_HOSTS": "db1,,db2",
    "HSTORE_DISCOVERY_MDNS": "maybe",
    "HSTORE_ZONE": "a..b",
    "HSTORE_DATA_DIR": " ",
    "HSTORE_CONFIG": " ",
}
BAD_VARIABLES_OF_A_NODE = {
    "HSTORE_LISTEN": "127.0.0.1:1,127.0.0.1:2",
    "HSTORE_ADVERTISE": "a b",
    "HSTORE_RECURSORS": "dns.example",
    "HSTORE_PEER_PORT": "tcp://10.0.0.1:1",
    "HSTORE_DNS_PORT": "0",
    "HSTORE_NAME": "N_1",
    "HSTORE_HTTP_HOSTS": "a b",
    "HSTORE_EXPECT": "many",
    "HSTORE_CACHE_MB": "-1",
    "HSTORE_LOG_LEVEL": "loud",
    "HSTORE_HEARTBEAT": "1",
    "HSTORE_ELECTION_TIMEOUT": "1",
    "HSTORE_HEALTH_INTERVAL": "1",
    "HSTORE_DNS_TTL": "1",
}


@pytest.mark.parametrize(
    ("variable", "said", "command"),
    [
        *(
            (name, said, command)
            for name, said in BAD_VARIABLES.items()
            for command in ("list", "start", "join")
        ),
        *(
            (name, said, command)
            for name, said in BAD_VARIABLES_OF_A_NODE.items()
            for command in ("start", "join")
        ),
    ],
)
def test_every_variable_with_a_bad_value_is_wrong_usage_and_named(
    monkeypatch, capfd, variable, said, command
):
    monkeypatch.setenv(variable, said)
    assert cli.run([command] if command == "list" else [command, "--no-shell"]) == 2
    err = capfd.readouterr().err
    assert f"in {variable} is not allowed; allowed: " in err
    assert repr(said) in err
    assert "defect" not in err


def test_the_bad_values_above_cover_every_variable_of_a_setting():
    tried = {*BAD_VARIABLES, *BAD_VARIABLES_OF_A_NODE, "HSTORE_HOST", "HSTORE_DEBUG"}
    for name in tried:
        assert unknown_variables({name: "x"}) == {}
    [listed] = [unknown_variables({f"{name}X": "x" for name in tried}).values()]
    assert set(listed) <= tried


def test_a_command_names_an_unknown_variable_and_never_its_value(monkeypatch, server, capfd):
    server.answers["GET", "/read"] = (200, {"a": "1"})
    monkeypatch.setenv("HSTORE_HOTS", "hunter2")
    monkeypatch.setenv("HSTORE_TOKEN", "hunter3")
    assert cli.run(["read", "-h", server.address]) == 0
    err = capfd.readouterr().err
    assert "HSTORE_HOTS is unknown to hstore, and ignored; perhaps HSTORE_HOST was meant" in err
    assert "HSTORE_TOKEN is unknown to hstore, and ignored\n" in err
    assert "hunter" not in err
    assert cli.run(["start", "--no-shell"]) == 2
    err = capfd.readouterr().err
    assert "HSTORE_HOTS: unknown variable; perhaps HSTORE_HOST was meant; allowed: " in err
    assert "hunter" not in err


def test_every_command_that_prints_a_result_prints_it_as_json_too():
    # Nodes, shells, scripts, files, and other programs.
    texts = {"start", "join", "cli", "demo", "completion", "setup", "lock"}
    commands = {**cli.cli.commands, **cli.dns.commands, **locking.session.commands}
    del commands["dns"], commands["session"]
    without = {
        name
        for name, one in commands.items()
        if not any("--json" in parameter.opts for parameter in one.params)
    }
    assert without == texts


@pytest.mark.parametrize(
    ("order", "result"), [("stop", "stopped"), ("kill", "killed"), ("leave", "removed")]
)
def test_the_end_of_a_node_as_json(order, result, monkeypatch, capfd):
    monkeypatch.setattr(ending, order, lambda _node: "a line for a person")
    assert cli.run([order, "-h", "127.0.0.1:1", "--json"]) == 0
    said = {"name": None, "address": "127.0.0.1:1", "result": result}
    assert json.loads(capfd.readouterr().out) == said
