"""Completion, by the shells themselves and by what they ask of the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

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
