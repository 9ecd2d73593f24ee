"""`hstore demo`: a cluster of real processes in a temporary directory, removed at the end.

The nodes are children that watch a pipe whose writing end only this process holds. When this process
ends, even by SIGKILL, the kernel closes the pipe, and the nodes end: none is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.text import Text

from hstore.node.config.settings import load_settings
from hstore.node.config.sources import VARIABLE_PREFIX
from hstore.node.errors import HstoreError, Refused
from hstore.node.model import values
from hstore.node.model.cluster_info import ClusterInfo
from hstore.node.net.sockets import bind_first_free

from ..search.clock import Clock
from ..search.find import connect
from ..show.tables import changes
from ..show.watch import Sighting, follow, show, write_line
from ..streams import ending_with_reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FrameType

# On a slow machine: starting Python, opening the database, electing.
_START_S = 30.0
_PAUSE_S = 0.1

# The data is thrown away: a clean stop only lets the nodes write the end of their logs.
_STOP_S = 2.0

# Another program may take a port after we saw it free and before the child binds it.
_SEED_ATTEMPTS = 3

_LOG_LINES_SHOWN = 5


class _Ended(BaseException):
    """SIGTERM or SIGHUP came. Not an `Exception`, so that no handler on the way catches it."""


def run_demo(count: int, env: Mapping[str, str], console: Console | None = None) -> int:
    """Run `count` nodes and show them until Ctrl-C, SIGTERM or SIGHUP; return the exit status.

    Raises:
        Refused: A node did not start; the message has the last lines of its log.
    """
    console = console or Console()
    with ending_with_reader(), _ends_by_signal(), contextlib.suppress(_Ended, KeyboardInterrupt):
        with tempfile.TemporaryDirectory(prefix="hstore-demo-") as folder:
            with Children(Path(folder), env, Clock()) as children:
                _run(count, children, console)
    return 0


class Children:
    """The node processes of a demo. Closes: all of them, at the end of `with`.

    Args:
        folder: Where their data and logs go.
        env: The environment; the nodes get it without `HSTORE_*`.
        clock: The time.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._env = {
            name: value for name, value in env.items() if not name.startswith(VARIABLE_PREFIX)
        }
        # Run records go here too: a node of a demo must not be offered for a restart later.
        self._env["XDG_STATE_HOME"] = str(folder)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._read_end, self._write_end = os.pipe()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End all processes and wait for them."""
        os.close(self._write_end)
        for one in self._running.values():
            one.terminate()
        end = self.clock.now() + _STOP_S
        for one in self._running.values():
            try:
                one.wait(max(0.0, end - self.clock.now()))
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        os.close(self._read_end)

    def spawn(self, name: str, *arguments: str) -> None:
        """Start `hstore ARGUMENTS` as the node `name`."""
        command = [sys.executable, "-m", "hstore.cli", *arguments, "-n", name, "--no-shell"]
        command += ["--data-dir", str(self.folder / name), "--parent-pipe", str(self._read_end)]
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603  # our own program, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                pass_fds=[self._read_end],
                # Ctrl-C reaches this process only, which then ends the nodes in good order.
                start_new_session=True,
            )

    def end(self, name: str) -> None:
        """End a node at once."""
        self._running[name].kill()
        self._running[name].wait()

    def has_ended(self, name: str) -> bool:
        """Tell whether a node's process has ended."""
        return self._running[name].poll() is not None

    def all_have_ended(self) -> bool:
        """Tell whether no process is left."""
        return all(self.has_ended(name) for name in self._running)

    def last_words(self, name: str) -> str:
        """Return the end of a node's log."""
        lines = self._log(name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES_SHOWN:])

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _run(count: int, children: Children, console: Console) -> None:
    write_line(console, f"a demo of {count} nodes in {children.folder}, removed when it ends")
    seed = _start_seed(children)
    for number in range(2, count + 1):
        children.spawn(f"n{number}", "join", "-h", seed)
    sightings = _watch(seed, count, children)
    if console.is_terminal:
        show(
            sightings,
            console,
            footer=lambda info: Text("\n".join(to_try(info, count))),
            end="ends all nodes",
        )
    else:
        for line in demo_lines(sightings, count):
            write_line(console, line)


def demo_lines(sightings: Iterable[Sighting], count: int) -> Iterator[str]:
    """Yield a line for each change, and the lines of `to_try` once all nodes are voters."""
    before: ClusterInfo | None = None
    is_complete_shown = False
    for sighting in sightings:
        if not isinstance(sighting, ClusterInfo):
            continue
        yield from changes(before, sighting)
        before = sighting
        if not is_complete_shown and is_complete(sighting, count):
            is_complete_shown = True
            yield from to_try(sighting, count)


def is_complete(info: ClusterInfo, count: int) -> bool:
    """Tell whether all nodes of the demo are voters and one of them leads."""
    return info.leader is not None and sum(node.voter for node in info.nodes) >= count


def to_try(info: ClusterInfo, count: int) -> list[str]:
    """Return lines with the addresses of a complete demo and commands to try on it."""
    if not is_complete(info, count):
        return [f"waiting until all {count} nodes vote"]
    # Those that answer: whoever has killed a node as proposed tries the next line, too.
    live = [node for node in info.nodes if node.is_live] or info.nodes
    first, last = live[0], live[-1]
    dns = values.split_address(first.dns_address)
    hstore = program(sys.argv[0])
    return [
        "",
        *(f"{node.name}: http://{node.address}  DNS {node.dns_address}" for node in info.nodes),
        "to try in another terminal:",
        f"  the dashboard, in a browser: http://{first.address}/ui/",
        f"  {hstore} write -h {first.address} -k foo -v bar",
        f"  curl http://{last.address}/read/foo",
        f"  dig @{dns.host} -p {dns.port} leader.{info.zone} +short",
        f"  {hstore} list -h {first.address} --watch",
        f"  {hstore} kill -h {_leader_address(info)}",
        "Ctrl-C ends all nodes",
    ]


def program(own: str) -> str:
    """Return how a shell in this terminal starts the program whose path is `own`.

    `make run` starts `.venv/bin/hstore` where no `hstore` is on the path: then it is the absolute
    path, quoted for the shell. Where `own` is no program (`python -m hstore.cli`, or `python -c` with
    code that calls this), Python starts it as a module.
    """
    if Path(own).name == "__main__.py" or not Path(own).exists():
        return f"{shlex.quote(sys.executable)} -m hstore.cli"
    on_path = shutil.which("hstore")
    if on_path is not None and Path(on_path).samefile(own):
        return "hstore"
    return shlex.quote(str(Path(own).absolute()))


def _leader_address(info: ClusterInfo) -> str:
    return next((node.address for node in info.nodes if node.name == info.leader), "ADDR")


def _start_seed(children: Children) -> str:
    """Start the first node at the first free ports from 8500 and return its address."""
    env = {"HOME": str(children.folder)}
    for _ in range(_SEED_ATTEMPTS):
        settings, sockets = bind_first_free(load_settings({}, env), env)
        sockets.close()
        children.spawn("n1", "start", "-h", settings.api_address, "--new-cluster")
        if _wait_answer(settings.api_address, children):
            return settings.api_address
        children.end("n1")
    raise Refused(f"the first node of the demo did not start:\n{children.last_words('n1')}")


def _wait_answer(address: str, children: Children) -> bool:
    """Wait until the first node leads its cluster; False when its process ended instead."""
    end = children.clock.now() + _START_S
    while children.clock.now() < end and not children.has_ended("n1"):
        with contextlib.suppress(HstoreError), connect(address, 1.0) as client:
            if client.cluster().leader == "n1":
                return True
        children.clock.sleep(_PAUSE_S)
    return False


def _watch(seed: str, count: int, children: Children) -> Iterator[Sighting]:
    """Yield what a watch of the cluster sees, until every node has ended.

    Raises:
        Refused: A node ended before it was in the cluster.
    """
    joined: set[str] = set()
    for sighting in follow([seed], connect, children.clock):
        if isinstance(sighting, ClusterInfo):
            joined |= {node.name for node in sighting.nodes}
        elif children.all_have_ended():
            raise Refused("every node of the demo has ended")
        for number in range(2, count + 1):
            name = f"n{number}"
            if name not in joined and children.has_ended(name):
                raise Refused(f"{name} did not join:\n{children.last_words(name)}")
        yield sighting


@contextlib.contextmanager
def _ends_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise, so that every `with` on the stack ends what it started."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Ended

    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
