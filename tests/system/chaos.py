"""What happens to processes, their links, disks and logs, drawn from a seed.

Two sorts of faults. A *blow* strikes, lasts, and ends when all end; blows fall on top of each
other. A *mishap* needs an operator or a peer to end it, and other members that can answer, so it
comes to a healthy cluster, has a story of its own, and leaves a healthy cluster behind:

- a data directory is copied, and started beside its original: the copy ends;
- a member's disk is wiped, and its old line started again: it is refused, and comes back by
  `hstore join --replace`;
- a member's disk loses log that was flushed: it says `recovering`, gets its log back, and votes.

No acknowledged write may be lost by any of this, so a mishap takes from one member only, and the
others have all of their disks.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from hstore.node.model.cluster_info import ClusterInfo

from . import disks
from .clients import Record
from .cluster import WAIT_S, Node, eventually
from .disks import CannotMount, lose_the_end_of_the_log, small_disk
from .parted import Parted
from .sinks import Sink

_DISK_BYTES = 64 << 20
_SHORT_BYTES = 24 << 20
"""Less than the half of such a disk that hstore wants free, and more than deletions need."""
_FULL_BYTES = 256 << 10
_LOST_BYTES = (1_500, 6_000)
"""Some entries, and less than is written before they are lost."""

_COPY_PORT = 8501


class Battered(Parted):
    """Nodes to which all of this can happen. Each logs to a pipe, and has a disk of its own.

    Attributes:
        sinks: What each node logs to.
        disks: The file system of each node's directory; empty where there can be none.
        missing: Why there can be none.
    """

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        self.sinks: list[Sink] = []
        self.disks: list[Path] = []
        self.missing = ""
        self._stack = ExitStack()

    def up(self, *options: str) -> Self:
        """See `Cluster`."""
        for number, node in enumerate(self.nodes):
            sink = Sink(node.log_path)
            self.sinks.append(sink)
            self._stack.enter_context(sink.running())
            node.log_fd = sink.fd
            if not self.missing:
                self._mount(node, self.folder / f"disk{number}")
        return super().up(*options)

    def _mount(self, node: Node, folder: Path) -> None:
        try:
            self.disks.append(self._stack.enter_context(small_disk(folder, _DISK_BYTES)))
            node.directory = folder / "data"
        except CannotMount as error:
            self.missing = f"no disk gets short: {error}"

    def __exit__(self, *error: object) -> None:
        """Kill what runs, and let go of pipes and disks."""
        super().__exit__(*error)
        self._stack.close()


class Chaos:
    """What happens to the nodes, and how it ends. One node can have several troubles at a time."""

    def __init__(self, cluster: Battered, chance: random.Random) -> None:
        self._cluster = cluster
        self.chance = chance
        self._ends: list[Callable[[], None]] = []
        self._troubled: set[tuple[str, int]] = set()
        self._full: set[int] = set()
        self.happened: list[str] = []
        self.blows: dict[str, Callable[[Node], None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "isolate": self._pair(cluster.isolate, cluster.reunite, "routes"),
            "mute": self._pair(cluster.mute, cluster.unmute, "neighbours"),
            "unplug": self._pair(cluster.unplug, cluster.plug, "plug"),
            "kill all": self._kill_all,
            "block the log of": self._block_log,
        }
        if cluster.disks:
            self.blows["short disk at"] = partial(self._fill, left_bytes=_SHORT_BYTES)
            self.blows["full disk at"] = partial(self._fill, left_bytes=_FULL_BYTES)
        self.mishaps: dict[str, Callable[[Node, Record], None]] = {
            "copy": self._copy,
            "wipe": self._wipe,
            "lose log of": self._lose_log,
        }

    # -- blows ------------------------------------------------------------------------------

    def strike(self) -> None:
        """Do something to somebody."""
        kinds = list(self.blows)
        weights = [4, 3, 3, 3, 2, 1, 2, 2, 1][: len(kinds)]
        (kind,) = self.chance.choices(kinds, weights)
        self.hit(kind, self.chance.choice(self._cluster.nodes))

    def hit(self, kind: str, node: Node) -> None:
        """Do this to that node."""
        self.happened.append(f"{kind} {node.address}")
        self.blows[kind](node)

    def end(self, but: Node | None = None) -> None:
        """End all blows, and start who has ended, `but` this one."""
        for end in self._ends:
            end()
        for node in self._cluster.nodes:
            sink = self._cluster.sinks[self._cluster.number(node)]
            if sink.is_blocked and node.is_running:
                # Nothing else holds it up any more, and it had lines to write.
                eventually(partial(_answers, node), f"{node.address} answers while its log blocks")
            sink.flow()
        self._full |= {number for kind, number in self._troubled if kind == "full"}
        self._ends.clear()
        self._troubled.clear()
        self._start_ended(but)

    def wait_healthy(self) -> None:
        """Wait until the cluster is healthy, after `end`."""

        def look() -> ClusterInfo | None:
            self._start_ended()  # who met a full disk may end a moment after that has room again
            return self._cluster.look_healthy(len(self._cluster.nodes))

        eventually(look, "all are live voters with one leader", WAIT_S)
        self._full.clear()

    def _start_ended(self, but: Node | None = None) -> None:
        """Start who has ended; only a full disk, and we, may end a node."""
        for number, node in enumerate(self._cluster.nodes):
            if node.is_running or node is but:
                continue
            status = node.wait_end()
            if status != -signal.SIGKILL:
                assert number in self._full, f"{node.address} ended with status {status}"
                eventually(partial(_has, node, 0, "No space left"), "it says why it ended")
            node.start()

    def _pair(
        self, begin: Callable[[Node], None], end: Callable[[Node], None], trouble: str
    ) -> Callable[[Node], None]:
        def strike(node: Node) -> None:
            # Routes to a link that is down are gone with it, so these two are not mixed.
            links = {"routes", "neighbours", "plug"}
            if any(kind in links for kind, _ in self._troubled):
                return
            self._trouble(trouble, node)
            begin(node)
            self._ends.append(lambda: end(node))

        return strike

    def _trouble(self, kind: str, node: Node) -> bool:
        """Whether the node had no trouble of this kind; it has now."""
        trouble = (kind, self._cluster.number(node))
        is_new = trouble not in self._troubled
        self._troubled.add(trouble)
        return is_new

    def _kill(self, node: Node) -> None:
        if node.is_running:
            node.kill()

    def _kill_all(self, _node: Node) -> None:
        kill(self._cluster.nodes)

    def _freeze(self, node: Node) -> None:
        if not node.is_running:
            return
        node.signal(signal.SIGSTOP)

        def thaw() -> None:
            if node.is_running:
                node.signal(signal.SIGCONT)

        self._ends.append(thaw)

    def _block_log(self, node: Node) -> None:
        if self._trouble("log", node):
            self._cluster.sinks[self._cluster.number(node)].block()

    def _fill(self, node: Node, left_bytes: int) -> None:
        filler = disks.fill(self._cluster.disks[self._cluster.number(node)], left_bytes)
        if left_bytes == _FULL_BYTES:
            self._trouble("full", node)
        if self._trouble("disk", node):
            self._ends.append(filler.unlink)

    # -- mishaps ----------------------------------------------------------------------------

    def mishap(self, running: Record) -> None:
        """Have a mishap to somebody, from a healthy cluster to a healthy cluster."""
        kind = self.chance.choice(list(self.mishaps))
        self.have(kind, self.chance.choice(self._cluster.nodes), running)

    def have(self, kind: str, node: Node, running: Record) -> None:
        """Have this one, to that node."""
        self.happened.append(f"{kind} {node.address}")
        self.mishaps[kind](node, running)

    def _others(self, node: Node) -> Sequence[Node]:
        return [one for one in self._cluster.nodes if one is not node]

    def _perhaps_trouble(self, another: Node) -> None:
        """Now and then: another member has a trouble of its own meanwhile, until `_mend`."""
        if self.chance.random() < 0.5:
            kinds = self.blows.keys() & {"kill", "freeze", "block the log of", "short disk at"}
            self.hit(self.chance.choice(sorted(kinds)), another)

    def _mend(self) -> None:
        """End that, and wait until all is well."""
        self.end()
        self.wait_healthy()

    def _copy(self, original: Node, running: Record) -> None:
        """The copy ends, whoever leads and dies; the original does not notice."""
        cluster = self._cluster
        copy = cluster.place(cluster.number(original), _COPY_PORT)
        original.kill()
        shutil.copytree(original.directory, copy.directory)
        original.start()
        cluster.wait_healthy()
        process = original.pid
        self._perhaps_trouble(self.chance.choice(self._others(original)))
        copy.start()
        try:
            assert copy.wait_end(WAIT_S) == 1, copy.log()
            assert original.address in copy.log(), copy.log()
            assert original.is_running
            assert original.pid == process
        finally:
            if copy.is_running:
                copy.kill()
        self._mend()
        assert original.pid == process
        shutil.rmtree(copy.directory)
        copy.log_path.unlink()
        running.wait_more(5)

    def _wipe(self, node: Node, running: Record) -> None:
        """Its old line is refused, for the others live; `join --replace` brings it back."""
        cluster = self._cluster
        through, another = self.chance.sample(self._others(node), 2)
        info, name = through.info(), through.sees(node).name
        node.kill()
        shutil.rmtree(node.directory)
        before = len(node.log())
        self._perhaps_trouble(another)
        node.start()
        assert node.wait_end(WAIT_S) == 1, node.log()[before:]
        assert not (node.directory / "db").exists()
        said = partial(_has, node, before, f"`hstore leave -h {name}`", info.cluster_id)
        eventually(said, "the wiped node says how it comes back")
        self.end(but=node)
        running.wait_more(5)
        eventually(lambda: through.sees(node).health == "failed", "the wiped node is missed")
        old = through.sees(node).id
        node.join(through.address, "--replace", name)
        cluster.wait_healthy()
        now = through.sees(node)
        assert (now.name, now.id != old) == (name, True)

    def _lose_log(self, node: Node, running: Record) -> None:
        """It says `recovering` as long as it hears nobody, and then is a voter like the others."""
        cluster = self._cluster
        running.wait_more(60)
        cluster.wait_healthy()
        node.kill()
        lose_the_end_of_the_log(node, self.chance.randrange(*_LOST_BYTES))
        cluster.isolate(node)
        node.start()
        try:
            eventually(lambda: is_recovering(node), "the node says that it has lost log")
            self._perhaps_trouble(self.chance.choice(self._others(node)))
        finally:
            cluster.reunite(node)
        self._mend()
        running.wait_more(5)


def kill(nodes: Sequence[Node]) -> None:
    """Kill all of these that run, at once."""
    running = [node for node in nodes if node.is_running]
    for node in running:
        node.signal(signal.SIGKILL)
    for node in running:
        node.wait_end()


def is_recovering(node: Node) -> bool:
    """Whether a node says of itself that it has lost log, and why."""
    own = node.sees(node)
    return own.health == "recovering" and bool(own.reason)


def _answers(node: Node) -> bool:
    return node.request("GET", "/v1/status/leader", timeout=2.0).status in (200, 500)


def _has(node: Node, before: int, *words: str) -> bool:
    said = node.log()[before:]
    return all(word in said for word in words)
