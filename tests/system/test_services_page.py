"""The page of services (docs/services.md): every line in it is typed, in its order, at a cluster of three."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .cluster import HSTORE, WAIT_S, Cluster, eventually

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "services.md"

# Without names in DNS, and somebody who runs the checks, the page is about nothing.


def blocks(page: str, kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [block for of_kind, block in fenced if of_kind == kind]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def is_printed(wanted: list[str], printed: str) -> bool:
    """Tell whether all lines are printed.

    `...` stands for anything, and so do the name of the node, how many nodes there are, and any spaces.
    """
    spaced = (re.sub(r"\bn1\b|(?<=consul) +1", " ... ", one).split() for one in wanted)
    patterns = (" ?".join(words) for words in spaced)
    ours = [re.escape(one).replace(r"\ \?", " ?").replace(r"\.\.\.", ".*") for one in patterns]
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    return all(any(re.fullmatch(one, line) for line in lines) for one in ours)


@contextmanager
def left_to_run(
    processes: list[subprocess.Popen[bytes]], pid_file: Path, forget: Callable[[], object]
) -> Iterator[None]:
    try:
        yield
    finally:
        forget()
        if pid_file.exists():
            subprocess.run(["kill", *pid_file.read_text().split()], check=False)
        for process in processes:
            process.kill()
            process.wait()


def test_each_line_of_the_page_of_services_does_what_stands_below_it(
    shared: Cluster, tmp_path: Path
) -> None:
    node = shared.nodes[0]
    dns_port = int(node.address.rpartition(":")[2]) + 100
    page = PAGE.read_text()
    for ours, port in (("9001", free_port()), ("8080", free_port()), ("8600", dns_port)):
        page = page.replace(ours, str(port))
    page = page.replace("127.0.0.1:8500", node.address)
    [config] = [one for one in blocks(page, "") if "server-template" in one]
    (tmp_path / "haproxy.cfg").write_text(config)
    program = tmp_path / "hstore"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(HSTORE)} "$@"\n')
    program.chmod(0o755)
    env = {**shared.env, "HSTORE_HOST": node.address}
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    left: list[subprocess.Popen[bytes]] = []

    def typed(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        return done.stdout

    def shows(command: str, wanted: list[str]) -> bool:
        return is_printed(wanted, typed(command))

    pieces = "\n".join(blocks(page, "console")).split("$ ")[1:]
    commands = [(line, wanted) for line, *wanted in (piece.splitlines() for piece in pieces)]
    assert len(commands) > 15
    if shutil.which("haproxy") is None:
        commands = [one for one in commands if "haproxy" not in one[0] and "--retry" not in one[0]]
    ids = ("web-1", "web-2", "cache", "printer --node hall")
    forget = partial(typed, "; ".join(f"hstore deregister {one}" for one in ids))
    with left_to_run(left, tmp_path / "haproxy.pid", forget):
        for command, lines in commands:
            wanted = [line for line in lines if line.strip("\n .")]
            if command.startswith("hstore start"):
                continue  # The cluster runs.
            if command.endswith(" &"):
                left.append(
                    subprocess.Popen(["sh", "-c", f"exec {command[:-2]}"], cwd=tmp_path, env=env)
                )
                continue
            changes = re.match(r"hstore (register|deregister|maint)|mkdir|echo|haproxy", command)
            if changes:
                assert is_printed(wanted, typed(command)), command
            else:
                eventually(partial(shows, command, wanted), command)
