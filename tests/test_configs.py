"""What lies in configs/ for users to copy: it loads, it is valid, and it names what exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from hstore.cli.main import cli
from hstore.cli.process import together
from hstore.node.config.settings import DNS_OFFSET, PEER_OFFSET, load_settings
from hstore.node.errors import ConfigError
from hstore.node.model.values import API_PORT

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ROOT = CONFIGS.parent
ENV = {"HOME": "/home/ada"}
EXAMPLES = sorted(CONFIGS.glob("*.toml"))


def flat(table, prefix=""):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def assert_hstore_knows(words):
    """Let click parse a command line as it stands in a file, without running it."""
    name, *arguments = words
    with cli.commands[name].make_context(name, arguments, parent=click.Context(cli)):
        pass


def commands_in(text):
    """Give the `hstore COMMAND ...` lines that a comment has in backticks."""
    return [shlex.split(one) for one in re.findall(r"`hstore ((?:start|join) [^`]+)`", text)]


def test_the_examples_are_there():
    names = {path.stem for path in EXAMPLES}
    assert names == {"example", "seed", "joiner", "server", "together"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_loaded_as_it_is_and_nothing_in_it_is_passed_over(path):
    settings = load_settings({"config": path}, ENV)
    assert settings.given == set(flat(tomllib.loads(path.read_text())))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_commands_in_an_example_are_commands(path):
    for words in commands_in(path.read_text()):
        assert_hstore_knows(words)


def test_the_server_has_every_setting_that_the_example_explains():
    explained = re.findall(
        r"^(?:# )?(\w+) = ", (CONFIGS / "example.toml").read_text(), re.MULTILINE
    )
    written = flat(tomllib.loads((CONFIGS / "server.toml").read_text()))
    assert set(explained) - {key.rpartition(".")[2] for key in written} == set()


def test_the_joiner_belongs_to_the_cluster_of_the_seed():
    seed = load_settings({"config": CONFIGS / "seed.toml"}, ENV)
    text = (CONFIGS / "joiner.toml").read_text()
    assert f"hstore join -h {seed.api_address}" in text
    assert seed.name != load_settings({"config": CONFIGS / "joiner.toml"}, ENV).name


def test_each_machine_of_one_file_finds_itself_in_it_and_the_first_begins(monkeypatch):
    settings = load_settings({"config": CONFIGS / "together.toml"}, ENV)
    listed = [str(one) for one in settings.discovery.listed]
    assert len(listed) == settings.expect == 3
    for own in listed:
        monkeypatch.setattr(together, "is_this_machine", lambda one, own=own: one == own)
        placed = together.place(settings, ENV)
        together.refuse_unlisted(placed)
        assert placed.api_address == own


def test_the_server_is_in_its_own_list():
    together.refuse_unlisted(load_settings({"config": CONFIGS / "server.toml"}, ENV))


# --- systemd ----------------------------------------------------------------------------------


def unit():
    lines = (CONFIGS / "hstore.service").read_text().splitlines()
    pairs = [line.partition("=")[::2] for line in lines if not line.startswith("#")]
    return {key: [value for one, value in pairs if one == key] for key, _ in pairs}


@pytest.mark.parametrize("node", ["start", "join -h 192.0.2.1:8500"])
def test_the_unit_runs_a_command_that_hstore_knows(node):
    (line,) = unit()["ExecStart"]
    assert "NODE=start" in unit()["Environment"]
    program, *words = line.replace("$NODE", node).split()
    assert Path(program).name == "hstore"
    assert_hstore_knows(words)


def test_the_unit_waits_for_the_network_and_starts_again_whatever_a_restart_can_mend():
    """An address that is not up yet is status 1; only a wrong configuration is 2."""
    assert "network-online.target" in unit()["After"][0]
    assert "network-online.target" in unit()["Wants"][0]
    assert unit()["Restart"] == ["on-failure"]
    assert unit()["RestartPreventExitStatus"] == [str(ConfigError.exit_code)]


def test_the_unit_is_never_given_up():
    """A node on a full disk stops, and is to come back whenever there is room again."""
    assert unit()["StartLimitIntervalSec"] == ["0"]
    assert unit()["Restart"] == ["on-failure"]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze, which a machine without systemd cannot have")
    text = (CONFIGS / "hstore.service").read_text()
    # It looks whether the program is there.
    program = str(Path(sys.executable).with_name("hstore"))
    copy = tmp_path / "hstore.service"
    copy.write_text(text.replace("/opt/hstore/bin/hstore $NODE", f"{program} $NODE"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    # It also reads the machine's own units, and complains of those in the same breath.
    assert [line for line in done.stderr.splitlines() if "hstore" in line] == []


def test_a_wrong_configuration_is_not_started_again_and_a_crash_is():
    assert unit()["Restart"] == ["on-failure"]
    assert unit()["RestartPreventExitStatus"] == ["2"]


# --- the container ----------------------------------------------------------------------------


def dockerfile():
    """Give (instruction, rest) of each line, continued lines joined."""
    text = re.sub(r"\\\n", " ", (CONFIGS / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def of(instruction):
    return [rest for name, rest in dockerfile() if name == instruction]


def test_the_image_takes_what_the_package_is_built_from():
    copied = [rest.split() for rest in of("COPY") if not rest.startswith("--from")]
    sources = {source for *several, _ in copied for source in several}
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert sources == {*folders, "pyproject.toml", "README.md", "LICENSE"}


def test_the_image_has_a_python_that_hstore_supports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    versions = {int(version) for one in of("FROM") for version in re.findall(r":3\.(\d+)", one)}
    assert versions
    assert versions <= set(range(low, high))


def test_the_container_is_not_root_and_shows_the_default_ports():
    names = [name for name, _ in dockerfile()]
    assert of("USER") == ["hstore"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    ports = [API_PORT, API_PORT + PEER_OFFSET, API_PORT + DNS_OFFSET]
    assert of("EXPOSE")[0].split() == [*(f"{port}/tcp" for port in ports), f"{ports[2]}/udp"]


def test_the_container_runs_commands_that_hstore_knows():
    (entry,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert json.loads(entry) == ["hstore"]
    assert_hstore_knows(json.loads(command))
    text = re.sub(r"\\\n#", " ", (CONFIGS / "Dockerfile").read_text())
    runs = re.findall(r"docker run .* hstore\s+((?:start|join) .*)", text)
    assert len(runs) == 2
    for line in runs:
        assert_hstore_knows(line.split())


def test_the_container_keeps_its_data_where_the_volume_is():
    variables = dict(one.split("=", 1) for one in of("ENV")[0].split())
    settings = load_settings({}, {**ENV, "HSTORE_DATA_DIR": variables["HSTORE_DATA_DIR"]})
    assert Path(of("VOLUME")[0]) in settings.data_dir.parents
