"""The same commands under other names: each line of the table becomes one line of `hstore`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hstore.cli import mgmt as mgmt_script
from hstore.cli import spellings
from hstore.cli.main import cli

MGMT = Path(mgmt_script.__file__)


@pytest.fixture
def ran(monkeypatch):
    """Replace every command by one that keeps what it was called with; its status is 7."""
    calls: list[list[str]] = []

    def keep(name):
        @click.pass_context
        def callback(context, words):
            calls.append([context.command_path, *words])
            return 7

        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)
        settings = {"ignore_unknown_options": True}
        return click.Command(name, settings, callback, params=[words])

    for name in (*spellings._SERVER_NAMES, *spellings._CLIENT_NAMES, "cli"):
        monkeypatch.setitem(cli.commands, name, keep(name))
    return calls


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("-r server -c start", "start"),
        ("-r server -c start -n a -h 127.0.0.1:9000", "start -n a -h 127.0.0.1:9000"),
        ("-r server -c join -h 127.0.0.1:9000 -n b", "join -h 127.0.0.1:9000 -n b"),
        ("-r server -c join --listen 127.0.0.1:9001", "join --listen 127.0.0.1:9001"),
        ("-r server -c join --replace n2 -n b", "join -n b --replace n2"),
        ("-r server -c list", "list"),
        ("-r server -c list --watch -h n1", "list -h n1 --watch"),
        ("-r server -c kill -h n1", "kill -h n1"),
        ("-r server -c stop -h n1", "stop -h n1"),
        ("-r server -c stop --all", "stop --all"),
        ("-r server -c restart -h n1", "restart -h n1"),
        ("-r client -c read", "read"),
        ("-h n1 -k a -c read -r client", "read -h n1 -k a"),
        ("-r client -c write -k a -v -5", "write -k a -v -5"),
        ("-r client -c update -k a -v b", "update -k a -v b"),
        ("-r client -c delete -k a -h n1", "delete -k a -h n1"),
        ("-r client -c get -k a", "get -k a"),
        ("-r client -c set -k a -v @file", "set -k a -v @file"),
        ("-r client -c del -k a", "del -k a"),
        ("-r server -c nodes --json", "nodes --json"),
    ],
)
def test_each_line_of_the_table_is_a_line_of_hstore(ran, line, runs):
    assert spellings.run_mgmt(line.split()) == 7
    ((path, *words),) = ran
    assert f"{path} {' '.join(words)}".strip() == f"hstore {runs}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "-r takes server or client"),
        ("-c list", "-r takes server or client"),
        ("-r both -c list", "-r takes server or client"),
        ("-r server", "-r server takes -c start, join, list, kill, stop, restart"),
        ("-r server -c read -k a", "-r server takes -c start"),
        ("-r client -c start", "-r client takes -c read, write, update, delete"),
        ("-r client -c leave", "-r client takes -c read"),
        ("-r server -c stop", "-c stop needs -h"),
        ("-r server -c start -k a", "-c start takes no -k"),
        ("-r server -c list -n a", "-c list takes no -n"),
        ("-r client -c write", "-c write needs -k and -v"),
        ("-r client -c update -k a", "-c update needs -v"),
        ("-r client -c delete", "-c delete needs -k"),
        ("-r client -c delete -k a -v b", "-c delete takes no -v"),
        ("-r client -c read -k", "'-k' requires an argument"),
        ("-r client -c raed -k a", "did you mean read?"),
        ("-r client -c set -k a", "-c set needs -v"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line_with_status_2(ran, capfd, line, said):
    assert spellings.run_mgmt(line.split()) == 2
    out, error = capfd.readouterr()
    assert (out, error.count("\n"), ran) == ("", 1, [])
    assert said in error


def test_what_the_command_itself_does_not_know_is_refused_by_it(capfd):
    assert spellings.run_mgmt(["-r", "client", "-c", "read", "--bogus"]) == 2
    assert "--bogus" in capfd.readouterr().err


def test_an_empty_value_is_a_value(ran):
    assert spellings.run_mgmt(["-r", "client", "-c", "write", "-k", "a", "-v", ""]) == 7
    assert ran == [["hstore write", "-k", "a", "-v", ""]]


def test_hstore_server_has_the_commands_about_nodes_and_no_others(ran, capfd):
    assert list(spellings.server_group().commands) == [*spellings.SERVER_COMMANDS, "nodes"]
    assert spellings.run_server(["stop", "-h", "n1"]) == 7
    assert ran == [["hstore-server stop", "-h", "n1"]]
    assert spellings.run_server(["read"]) == 2
    assert "hstore-server --help" in capfd.readouterr().err


def test_hstore_cli_is_the_command_cli(ran):
    assert spellings.run_shell(["-h", "n1", "get", "a"]) == 7
    assert ran == [["hstore-cli", "-h", "n1", "get", "a"]]


@pytest.fixture
def checkout(tmp_path):
    """Give a checkout with nothing in it but the script."""
    (tmp_path / "cli").mkdir()
    shutil.copy(MGMT, tmp_path / "cli" / "mgmt.py")
    return tmp_path


def run_script(script, *arguments, python=(sys.executable,)):
    environment = {"PATH": os.environ["PATH"]}
    command = [*python, str(script), *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


# Without `site` no installed package is seen, as with a Python that has no hstore.
BARE = (sys.executable, "-S")


def test_a_python_with_hstore_runs_the_script_itself(checkout):
    status, out, error = run_script(checkout / "cli" / "mgmt.py", "--help")
    assert (status, error) == (0, "")
    assert "-r server" in out


def test_a_python_without_hstore_hands_over_to_the_one_of_the_checkout(checkout):
    (checkout / ".venv").symlink_to(sys.prefix)
    arguments = ("-r", "client", "-c", "read", "-h", "127.0.0.1:1", "-k", "a b")
    status, out, error = run_script(checkout / "cli" / "mgmt.py", *arguments, python=BARE)
    assert (status, out, error.count("\n")) == (3, "", 1)
    assert "127.0.0.1:1" in error


def test_where_no_python_has_hstore_it_says_how_to_make_one(checkout):
    status, out, error = run_script(checkout / "cli" / "mgmt.py", "-r", "server", python=BARE)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert f"make -C {checkout} .venv/installed" in error


def test_a_checkout_whose_python_lacks_hstore_too_is_not_asked_for_ever(checkout):
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True, timeout=60
    )
    status, _, error = run_script(checkout / "cli" / "mgmt.py", "-r", "server", python=BARE)
    assert (status, error.count("\n")) == (2, 1)
    assert "make -C" in error


def test_it_is_a_module_of_the_installed_package(tmp_path):
    command = [sys.executable, "-m", "hstore.cli.mgmt", "-r", "server", "-c", "start", "-k", "a"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "takes no -k" in done.stderr


def test_the_modules_beside_the_script_are_no_top_level_modules(checkout):
    """As a script its own folder would come first in the path, with names such as `client`."""
    (checkout / "cli" / "click.py").write_text("raise SystemExit('the wrong click')")
    status, out, error = run_script(checkout / "cli" / "mgmt.py", "--help")
    assert (status, error) == (0, "")
    assert "-r server" in out
