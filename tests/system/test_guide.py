"""The guide of three machines (docs/three-machines.md): every line in it is typed, in its order.

A block has lines `MACHINE$ COMMAND`, and below each what it prints, as far as it matters: `...` stands
for anything. The machines are namespaces, with other addresses than those of the page.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hstore.node.discovery import run_record

from .cluster import HSTORE
from .test_three_machines import Machines, machines

__all__ = ["machines"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "three-machines.md"
NAMES = ("one", "two", "three")
PAGES_NETWORK, OURS = "192.0.2.", "10.213.7."


class Line(NamedTuple):
    machine: str
    command: str
    prints: list[str]


def lines_of(page: str) -> list[Line]:
    """Give the commands of all blocks, each with what it is said to print."""
    found: list[Line] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            prompt = re.match(r"(\w+)\$ (.+)", line)
            if prompt:
                found.append(Line(prompt[1], prompt[2], []))
            else:
                found[-1].prints.append(line)
    return found


def is_printed(wanted: str, output: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    return any(re.fullmatch(pattern, line) for line in output.splitlines())


def at_home(machines: Machines, machine: str) -> tuple[list[str], dict[str, str], Path]:
    """Give the words that put a command on a machine, its environment, and its working directory."""
    number = NAMES.index(machine)
    env = {name: value for name, value in machines.env_of(number).items() if "XDG" not in name}
    return machines.network.prefix(number), env, Path(env["HOME"])


def end_nodes(machines: Machines) -> None:
    """End what was started in the background, by the records of each machine."""
    for machine in NAMES:
        env = at_home(machines, machine)[1]
        for record in run_record.running(env):
            run_record.kill(record, 10)


def typed(machines: Machines, line: Line) -> Iterator[subprocess.Popen[str]]:
    """Type one line; give the process of one that is left to run."""
    prefix, env, home = at_home(machines, line.machine)
    words = shlex.split(line.command)
    is_left = words[-1] == "&"
    program = HSTORE if words[0] == "hstore" else words[:1]
    words = [one.replace("~", str(home)) for one in words[1 : -1 if is_left else None]]
    process = subprocess.Popen(
        [*prefix, *program, *words],
        cwd=home,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if is_left else subprocess.PIPE,
        stderr=subprocess.DEVNULL if is_left else subprocess.STDOUT,
        text=True,
    )
    if is_left:
        yield process
        return
    output = process.communicate(timeout=60)[0].replace(OURS, PAGES_NETWORK)
    assert process.returncode == 0, (line, output)
    for wanted in line.prints:
        assert is_printed(wanted, output), (line, output)


def test_every_line_of_the_guide_does_what_it_says(machines: Machines) -> None:
    page = PAGE.read_text()
    [file] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    left: list[subprocess.Popen[str]] = []
    for machine in NAMES:
        home = at_home(machines, machine)[2]
        (home / "hstore.toml").write_text(file.replace(PAGES_NETWORK, OURS))
    lines = lines_of(page.replace(PAGES_NETWORK, OURS))
    assert len(lines) > 20
    try:
        for line in lines:
            wanted = [one.replace(OURS, PAGES_NETWORK) for one in line.prints]
            left += typed(machines, line._replace(prints=wanted))
    finally:
        end_nodes(machines)
        for process in left:
            process.kill()
            process.wait()
