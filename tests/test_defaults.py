"""The defaults and limits that `--help` and the users' pages state are those of the code.

A figure that a page gives is compared with what the code has, where a test can find it. A new default
in a `--help` has to be put here, or the first test fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

from hstore.cli.keys import SCAN_LIMIT
from hstore.cli.main import cli
from hstore.cli.process.demo import run_demo
from hstore.cli.services import registering
from hstore.node.api import monitor
from hstore.node.api.http.params import KEY_BYTES_MAX, TIMEOUT_S_DEFAULT, VALUE_BYTES_MAX
from hstore.node.checks import timeouts
from hstore.node.cluster import health
from hstore.node.config import cluster_settings
from hstore.node.config.log_forms import FORMS
from hstore.node.config.settings import DNS_OFFSET, PEER_OFFSET, load_settings
from hstore.node.model.commands import ClusterSettings
from hstore.node.model.locks import LOCK_DELAY_NS, Behavior
from hstore.node.model.values import API_PORT
from hstore.node.process import descriptors, log_file

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETTINGS = load_settings({}, {"HOME": "/home/ada"})
CLUSTER = ClusterSettings()

# What is in brackets in a help and is no value of a setting.
IN_WORDS = {
    "HSTORE_HOST, else a search", "NAME", "chosen by the leader", "its node's", "never",
    "program, host, pid", "the member that is asked", "this machine's",
}  # fmt: skip


def commands(
    group: click.Group = cli, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def stated() -> dict[tuple[str, str], str]:
    """Give what the helps of options have in brackets, by command and option."""
    return {
        (name, one.opts[-1]): found
        for name, command in commands()
        for one in command.params
        if isinstance(one, click.Option)
        for found in re.findall(r"\[([^\]]+)\]", one.help or "")
        if found not in IN_WORDS
    }


def expected(name: str, option: str) -> str:
    if name == "join" and option == "--listen":
        return f"the first free port from {API_PORT}"
    if name == "lock" and option in {"--ttl", "--delay"}:
        (lock,) = (command for given, command in commands() if given == "lock")
        (one,) = (param for param in lock.params if option in param.opts)
        return str(one.default)
    for setting in cluster_settings.SETTINGS:
        if option == "--" + setting.key.replace("_", "-"):
            return setting.show(getattr(CLUSTER, setting.field))
    return {
        "--interval": registering.INTERVAL,
        "--timeout": f"{timeouts.HTTP_TIMEOUT_S:.0f}s",
        "--limit": str(SCAN_LIMIT),
        # Of sessions, where a client says nothing.
        "--delay": f"{LOCK_DELAY_NS // 10**9}s",
        "--behavior": str(get_args(Behavior)[0]),
        "--listen": str(SETTINGS.listen),
        "--peer-port": f"API port - {-PEER_OFFSET}",
        "--dns-port": f"API port + {DNS_OFFSET}",
        "--cache-mb": str(SETTINGS.cache_mb),
        "--log-level": SETTINGS.log_level,
        "--log-format": FORMS[0],
        "--level": monitor.LEVEL,
        "--discovery-mdns": "yes" if SETTINGS.discovery.mdns else "no",
    }[option]


def test_every_default_that_a_help_states_is_the_one_of_the_code() -> None:
    found = stated()
    assert found == {key: expected(*key) for key in found}
    options = {option for _, option in found}
    assert {"--heartbeat", "--election-timeout", "--health-interval", "--dns-ttl"} < options


def test_a_demo_has_as_many_nodes_as_its_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(f"{run_demo.__module__}.run_demo", lambda count, _env: counts.append(count))
    cli.main(["demo"], "hstore", standalone_mode=False)
    assert f"Run N nodes ({counts[0]})" in (cli.commands["demo"].help or "")
    assert f"| N nodes ({counts[0]}) in" in (DOCS / "command-line.md").read_text()


INTERVAL_S = CLUSTER.health_interval_ms / 1000
STATED = [
    ("http.md", r"`\?timeout=2s` bounds a wait \((\d+) s unless said\)", f"{TIMEOUT_S_DEFAULT:g}"),
    (
        "http.md",
        r"Keys are UTF-8 of 1 to ([\d,]+) bytes, values up to (\d+) MiB",
        f"{KEY_BYTES_MAX:,} {VALUE_BYTES_MAX >> 20}",
    ),
    ("dns.md", r"cluster setting `dns_ttl`, (\d+) s by default", f"{CLUSTER.dns_ttl_s}"),
    (
        "command-line.md",
        r"has not answered for (\d+) health-check intervals \((\d+) s\)",
        f"{health._SUSPECT_INTERVALS:g} {health._SUSPECT_INTERVALS * INTERVAL_S:g}",
    ),
    (
        "command-line.md",
        r"has not answered for (\d+), or its port",
        f"{health._FAILED_INTERVALS:g}",
    ),
    ("command-line.md", r"two files of (\d+) MiB", f"{log_file.BYTES_MAX >> 20}"),
    ("command-line.md", r"limit of open files to ([\d,]+)", f"{descriptors._WANTED:,}"),
    ("command-line.md", r"below (\d+) it does not start", f"{descriptors.NEEDED}"),
]


@pytest.mark.parametrize(("page", "pattern", "value"), STATED)
def test_a_figure_on_a_page_is_the_one_of_the_code(page: str, pattern: str, value: str) -> None:
    found = re.search(pattern, (DOCS / page).read_text())
    assert found, f"{page} does not say {pattern!r} any more"
    assert " ".join(found.groups()) == value
