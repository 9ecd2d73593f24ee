"""Completion, by the shells themselves and by what they ask of the program."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from hstore.cli import completion
from hstore.cli import main as cli
from hstore.cli.client.errors import Unreachable
from hstore.cli.search import sources
from hstore.node.model.cluster_info import NodeInfo

# Each asks its own completion function what follows `hstore li` and `hstore-server jo`.
ASKED = {
    "bash": """
        eval "$(hstore completion bash)"
        COMP_WORDS=(hstore li) COMP_CWORD=1; _hstore_completion hstore
        COMP_WORDS=(hstore-server jo) COMP_CWORD=1; _hstore_server_completion hstore-server
        printf '%s\\n' "${COMPREPLY[@]}"
        """,
    "zsh": """
        autoload -U compinit; compinit -u -D
        eval "$(hstore completion zsh)"
        [[ $_comps[hstore] = _hstore_completion ]] || exit 1
        _describe() { print -l -- "${(P)3[@]%%:*}" }
        words=(hstore li) CURRENT=2; _hstore_completion
        words=(hstore-server jo) CURRENT=2; _hstore_server_completion
        """,
    "fish": """
        hstore completion fish | source
        complete -C 'hstore li' | string replace -r '\\t.*' ''
        complete -C 'hstore-server jo' | string replace -r '\\t.*' ''
        """,
}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_shell_completes_the_commands_of_each_program(require_tool, tmp_path, shell):
    program = require_tool(shell)
    no_rc = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    ours = str(Path(sys.executable).parent)
    done = subprocess.run(
        [program, no_rc, "-c", ASKED[shell]],
        env={"PATH": f"{ours}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["list", "join"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_says_first_how_it_is_installed(shell, capfd):
    assert cli.run(["completion", shell]) == 0
    first = capfd.readouterr().out.partition("\n")[0]
    assert first.startswith("#")
    assert f"hstore completion {shell}" in first


def offered(incomplete, command="list", option="-h"):
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    return [item.value for item in asked.get_completions([command, option], incomplete)]


def test_a_host_is_completed_to_names_and_where_one_was_begun_to_addresses(
    make, cluster, make_finder, monkeypatch
):
    cluster.set("127.0.0.1:8500", "/v1/cluster", make.info(make.node(1), make.node(12)))
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder(["127.0.0.1:8500"]))
    assert offered("") == ["n1", "n12"]
    assert offered("n1", "stop") == ["n1", "n12"]
    assert offered("n12") == ["n12"]
    assert offered("127.0.0.1:85") == ["127.0.0.1:8500", "127.0.0.1:8511"]
    assert offered("x") == []
    assert offered("n12", "join", "--replace") == ["n12"]
    monkeypatch.setenv("HSTORE_HOST", "a b")  # a command would say so
    assert offered("n12", "join", "--replace") == ["n12"]


HOSTILE = [
    "$(touch x)",
    "`x`",
    "a;b",
    "a b",
    "a'b",
    'a"b',
    "a*",
    "a,b",
    "~x",
    "-k",
    "=x",
    "a&",
    "ä",
    "a\\",
]


def test_keys_are_offered_from_a_nodes_own_copy_if_no_shell_reads_them_as_more(
    make, cluster, make_finder, monkeypatch
):
    at = "127.0.0.1:8500"
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([at]))
    cluster.set(at, "/v1/cluster", make.info())
    cluster.set(at, "/v1/kv/", [["a/b", *HOSTILE, "a:b=c@d%+-._"]] * 20)
    harmless = ["a/b", "a:b=c@d%+-._"]
    for command, option in (("read", "-k"), ("get", "-k"), ("keys", "--prefix"), ("set", "-k")):
        assert offered("", command, option) == harmless
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    for words in (["get"], ["del"], ["watch"], ["set", "--json"], ["cas"]):
        assert [item.value for item in asked.get_completions(words, "")] == harmless
    for words in (["set", "a/b"], ["get", "-k", "a/b"], ["list"], ["leader"]):
        assert not {item.value for item in asked.get_completions(words, "")} & set(harmless)
    assert (at, "GET", "/v1/kv/?keys&stale") in cluster.asked
    many = [f"k{number}" for number in range(5000)]
    cluster.set(at, "/v1/kv/", [many])
    assert offered("", "read", "-k") == many[: completion.KEYS_MAX]


def test_the_node_at_minus_h_is_asked_for_keys(make, cluster, make_finder, monkeypatch):
    here, there = "127.0.0.1:8500", "10.0.0.7:8500"
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([here]))
    cluster.set(here, "/v1/cluster", make.info(make.node(1), make.node(2, address=there)))
    cluster.set(there, "/v1/cluster", make.info())
    cluster.set(there, "/v1/kv/", [["theirs"], ["theirs"]])
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    for said in ("n2", there):
        assert [one.value for one in asked.get_completions(["get", "-h", said, "-k"], "")] == [
            "theirs"
        ]
    assert [one.value for one in asked.get_completions(["get", "-h", "n9", "-k"], "")] == []


def test_settings_their_values_and_levels_are_offered(make, cluster, make_finder, monkeypatch):
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([]))
    cluster.set("127.0.0.1:8500", "/v1/cluster", make.info(make.node(1), make.node(2)))
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")

    def values_of(*words, incomplete=""):
        return [item.value for item in asked.get_completions(list(words), incomplete)]

    assert values_of("config") == [
        "zone", "heartbeat", "election_timeout", "health_interval", "dns_ttl", "datacenter",
        "session_ttl_min", "session_node_grace", "alt_domains", "check_update_interval",
        "dns.service_ttl", "dns.only_passing", "dns.empty", "dns.max_stale", "log_level",
        "n1.type", "n2.type",
    ]  # fmt: skip
    assert values_of("config", incomplete="n2.t") == ["n2.type"]
    assert values_of("config", incomplete="he") == ["heartbeat", "health_interval"]
    assert values_of("config", "n1.type") == ["voter", "learner"]
    assert values_of("config", "log_level", incomplete="w") == ["warning"]
    assert values_of("config", "heartbeat") == []
    assert values_of("start", "--log-level") == ["debug", "info", "warning", "error"]
    assert values_of("dns", "setup", incomplete="un") == ["unbound"]


def test_sessions_are_offered_with_their_names_if_they_are_sessions_ids(
    make, cluster, make_finder, monkeypatch
):
    at = "127.0.0.1:8500"
    cluster.set(at, "/v1/cluster", make.info())
    one, two = "8f0e2c1a-0000-4000-8000-0123456789ab", "9f0e2c1a-0000-4000-8000-0123456789ab"
    found = [{"ID": one, "Name": "web\x1b`1"}, {"ID": two}, {"ID": "8$(id)"}]
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([at]))
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    for words in (["session", "renew"], ["acquire", "--session"], ["release", "k", "--session"]):
        cluster.set(at, "/v1/session/list", [found])
        given = asked.get_completions(words, "8")
        assert [(item.value, item.help) for item in given] == [(one, "web?x1b?1")]
    assert (at, "GET", "/v1/session/list?stale") in cluster.asked
    assert asked.get_completions(["session", "renew"], "8") == []  # no answer
    words = ["lock", "-h", at, "k"]
    assert [item.type for item in asked.get_completions(words, "l")] == ["file"]


def test_a_node_whose_name_is_none_is_not_offered(make, cluster, make_finder, monkeypatch):
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([]))
    wild = [make.node(n, name=one, address="$(x):1") for n, one in enumerate(HOSTILE, 1)]
    cluster.set("127.0.0.1:8500", "/v1/cluster", make.info(*wild))
    assert offered("") == []
    asked = ShellComplete(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    assert not [one for one in asked.get_completions(["config"], "") if "type" in str(one.value)]


def test_a_completion_that_a_node_holds_up_ends_after_a_second(tmp_path):
    """It takes connections and sends a byte now and then, so that no timeout of a request ends it."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    is_over = threading.Event()

    def drip():
        taken = []
        listener.settimeout(0.05)
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                taken.append(listener.accept()[0])
            for one in taken:
                with contextlib.suppress(OSError):
                    one.send(b"H")
        for one in taken:
            one.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(drip)
        began = time.monotonic()
        try:
            done = subprocess.run(
                [str(Path(sys.executable).parent / "hstore")],
                env={
                    "PATH": os.environ["PATH"], "HOME": str(tmp_path), "COMP_CWORD": "4",
                    "COMP_WORDS": f"hstore get -h 127.0.0.1:{port} ", "_HSTORE_COMPLETE": "bash_complete",
                },
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            is_over.set()
    listener.close()
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert time.monotonic() - began < 10


def test_bash_gets_the_part_of_a_word_that_its_readline_replaces(monkeypatch):
    kind = completion._Bash(cli.cli, {}, "hstore", "_HSTORE_COMPLETE")
    monkeypatch.setenv("COMP_WORDBREAKS", " \t\n\"'><=;|&(:@")
    item = CompletionItem("services:web")
    for line, words, typed, told in (
        ("hstore get ", ["get"], "", "services:web"),
        ("hstore get serv", ["get"], "serv", "services:web"),
        ("hstore get services:w", ["get"], "services:w", "web"),
        ('hstore get "services:w', ["get"], "services:w", "services:web"),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        assert kind.get_completion_args() == (words, typed)
        assert kind.format_completion(item) == f"plain,{told}"


def test_without_a_cluster_there_is_no_completion_and_no_error(make_finder, monkeypatch, capfd):
    monkeypatch.setattr(sources, "finder_of", lambda _flags, _env: make_finder([]))
    assert offered("") == []

    def fail(_flags, _env):
        raise Unreachable("none")

    monkeypatch.setattr(sources, "finder_of", fail)
    assert offered("") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("$(touch x)", "127.0.0.1:8500"),
        ("`id`", "127.0.0.1:8500"),
        ("n1;id", "127.0.0.1:8500"),
        ("N1", "127.0.0.1:8500"),
        ("n1\n", "127.0.0.1:8500"),
        ("n1", "$(id):8500"),
        ("n1", "127.0.0.1:8500;id"),
    ],
)
def test_nothing_is_offered_that_no_node_is_called(name, address):
    node = NodeInfo(name, "1", address, address, address, "leader", True, "alive", *(None,) * 6)
    assert completion._items(node, "") == []


def test_what_is_said_of_a_node_that_is_offered_is_plain():
    node = NodeInfo("n1", "1", *("127.0.0.1:8500",) * 3, "lead\ner", True, "ali've", *(None,) * 6)
    (item,) = completion._items(node, "n")
    assert (item.value, item.help) == ("n1", "lead?er, ali?ve, 127.0.0.1:8500")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_completion_that_is_interrupted_writes_nothing_into_the_line(shell):
    script = completion.completion_script(shell)
    assert (
        script.count(" 2>/dev/null)")
        == script.count(f"={shell}_complete")
        == len(completion.PROGRAMS)
    )
