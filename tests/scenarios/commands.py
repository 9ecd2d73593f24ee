"""The commands of interaction files, run on our nodes; what they print reads as in those files.

What is printed is only what can be compared (see `facts.py`), so a file of our own can be written
from it; the words of a log are not printed, but for the changes of a configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from hstore.node.raft import messages
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind, Configuration, Transition
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role

from .datadriven import Command
from .nodes import (
    ELECTION_TICKS,
    KINDS,
    LOCAL_KINDS,
    UNLIMITED,
    Node,
    Parcel,
    Proposal,
    Ready,
    Settings,
    Shared,
    Write,
    make_node,
    parcel_of,
)

LEVELS = ("debug", "info", "warn", "error", "fatal", "none")

ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}

_MAX_ROUNDS = 1000
"""Of one `stabilize`: what takes longer never ends."""

_CHANGES = {
    "v": ConfigChangeKind.ADD_VOTER,
    "l": ConfigChangeKind.ADD_LEARNER,
    "r": ConfigChangeKind.REMOVE,
}


class NotOffered(Exception):
    """Our core has no counterpart of the command, and the formats' page says it need not."""


def changes_of(command: Command) -> tuple[str, tuple[ConfigChange, ...]]:
    """Read `v1 l2 r3 u4`; return it in one line, and the changes.

    `u` tells of a node's data elsewhere: it changes nobody's membership, like a change of node 0.
    """
    words = " ".join(command.input).split()
    changes = []
    for word in words:
        if word[0] not in "vlru" or not word[1:].isdecimal():
            raise command.error(f"unknown change {word}")
        node = 0 if word[0] == "u" else int(word[1:])
        changes.append(ConfigChange(_CHANGES.get(word[0], ConfigChangeKind.REMOVE), node))
    return " ".join(words), tuple(changes)


def describe_configuration(config: Configuration) -> str:
    def shown(nodes: Iterable[int]) -> str:
        return f"({' '.join(map(str, nodes))})"

    text = f"voters={shown(config.voters)}"
    if config.outgoing:
        text += f"&&{shown(config.outgoing)}"
    if config.learners:
        text += f" learners={shown(config.learners)}"
    if config.learners_next:
        text += f" learners_next={shown(config.learners_next)}"
    return text + (" autoleave" if config.auto_leave else "")


class Cluster:
    """The nodes of one file, and what is on its way between them.

    Attributes:
        nodes: By id, from 1 on.
        pool: Parcels that nobody has received yet, oldest first.
        texts: How the entries of membership changes read, by (term, index).
        entries: How every entry of any log read, by (term, index).
        silences: Why an answer of ours was left out, since this was last emptied.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.pool: list[Parcel] = []
        self.texts: dict[tuple[int, int], str] = {}
        self.entries: dict[tuple[int, int], str] = {}
        self.silences: list[str] = []
        self.level = 0
        self._configurations: dict[int, Configuration] = {}

    @property
    def is_quiet(self) -> bool:
        return LEVELS[self.level] == "none"

    def run(self, command: Command) -> list[str]:
        """Run one command; return what it prints.

        Raises:
            ScenarioError: The command or an argument is not known, or cannot be run here.
            NotOffered: See there.
        """
        handler = _COMMANDS.get(command.name)
        if handler is None:
            raise command.error("unknown command")
        level = self.level
        lines = handler(self, command)
        is_quiet = self.is_quiet
        if command.name == "stabilize":
            self.level = level
        return ["ok"] if is_quiet or not lines else lines

    # -- what a command names ---------------------------------------------------------------

    def node(self, command: Command, number: int) -> Node:
        if number not in self.nodes:
            raise command.error(f"there is no node {number}")
        return self.nodes[number]

    def first(self, command: Command) -> Node:
        numbers = command.numbers()
        if len(numbers) != 1:
            raise command.error("takes one node")
        return self.node(command, numbers[0])

    def chosen(self, command: Command) -> list[Node]:
        return [self.node(command, number) for number in command.numbers()]

    # -- how things read --------------------------------------------------------------------

    def describe_entry(self, entry: Entry) -> str:
        key = entry.term, entry.index
        if entry.kind == EntryKind.CONFIG:
            text = self.texts.get(key, "EntryConfChangeV2")
        else:
            text = f"EntryNormal {json.dumps(entry.data.decode())}"
        self.entries[key] = text
        return f"{entry.term}/{entry.index} {text}"

    def describe_parcel(self, parcel: Parcel) -> Iterator[str]:
        message = parcel.content
        head = f"{parcel.frm:x}->{parcel.to:x} {parcel.kind}"
        match message:
            case messages.VoteRequest() | messages.PreVoteRequest():
                log = f"{message.last_term}/{message.last_index}"
                yield f"{head} Term:{message.term} Log:{log}"
            case messages.VoteResponse() | messages.PreVoteResponse():
                verdict = "" if message.granted else " Rejected (Hint: 0)"
                yield f"{head} Term:{message.term} Log:0/0{verdict}"
            case messages.Append():
                log = f"{message.prev_term}/{message.prev_index}"
                commit = f" Commit:{message.commit}" if message.commit else ""
                entries = [self.describe_entry(entry) for entry in message.entries]
                yield from _with_entries(f"{head} Term:{message.term} Log:{log}{commit}", entries)
            case messages.AppendResponse():
                verdict = f" Rejected (Hint: {message.hint_index})" if message.rejected else ""
                log = f"{message.hint_term}/{message.index}"
                yield f"{head} Term:{message.term} Log:{log}{verdict}"
            case messages.Heartbeat():
                yield f"{head} Term:{message.term} Log:0/0 Commit:{message.commit}"
            case messages.InstallSnapshot():
                yield f"{head} Term:{message.term} Log:0/0"
                yield f"  Snapshot: {_describe_snapshot(message.meta)}"
            case messages.HeartbeatResponse() | messages.TimeoutNow():
                yield f"{head} Term:{message.term} Log:0/0"
            case Proposal():
                yield f"{head} Term:0 Log:0/0 Entries:[0/0 {message.text}]"
            case _:
                source = "AppendThread" if parcel.kind == "MsgStorageAppendResp" else "ApplyThread"
                frm = source if parcel.is_local else f"{parcel.frm:x}"
                entries = [self.describe_entry(entry) for entry in parcel.entries]
                yield from _with_entries(
                    f"{frm}->{parcel.to:x} {parcel.kind} Term:0 Log:0/0", entries
                )

    def describe_ready(self, number: int, ready: Ready) -> list[str]:
        lines = list(self._describe_rest(number, ready))
        if not lines:
            return ["<empty Ready>"]
        return [f"Ready MustSync={str(ready.is_synced).lower()}:", *lines]

    def _describe_rest(self, number: int, ready: Ready) -> Iterator[str]:
        if ready.role is not None:
            yield f"Lead:{ready.leader:x} State:{ROLES[ready.role]}"
        hard = ready.hard_state
        if hard is not None:
            vote = f" Vote:{hard.vote}" if hard.vote else ""
            yield f"HardState Term:{hard.term}{vote} Commit:{hard.commit}"
        if ready.entries:
            yield "Entries:"
            yield from map(self.describe_entry, ready.entries)
        if ready.snapshot is not None:
            yield f"Snapshot {_describe_snapshot(ready.snapshot)}"
        if ready.committed:
            yield "CommittedEntries:"
            yield from map(self.describe_entry, ready.committed)
        if ready.parcels or ready.write or ready.batch:
            yield "Messages:"
        for parcel in ready.parcels:
            yield from self.describe_parcel(parcel)
        if ready.write is not None:
            yield from self.describe_write(number, ready.write, has_answers=True)
        if ready.batch:
            word = self.nodes[number].word_of(ready.batch)
            yield from self.describe_batch(number, ready.batch, list(self.describe_parcel(word)))

    def describe_write(
        self, number: int, write: Write, *, has_answers: bool = False
    ) -> Iterator[str]:
        """Say what a node's disk is asked for; `has_answers`: and what waits for that."""
        hard = write.hard_state or HardState()
        head = f"{number:x}->AppendThread MsgStorageAppend Term:{hard.term} Log:0/0"
        head += f" Commit:{hard.commit}" if hard.commit else ""
        head += f" Vote:{hard.vote}" if hard.vote else ""
        answers = [line for p in write.answers for line in self.describe_parcel(p)]
        entries = [self.describe_entry(entry) for entry in write.entries]
        yield from _with_entries(head, entries, answers if has_answers else ())

    def describe_batch(
        self, number: int, batch: list[Entry], answers: Sequence[str] = ()
    ) -> Iterator[str]:
        """Say what a node's state machine is asked for, and what waits for that."""
        head = f"{number:x}->ApplyThread MsgStorageApply Term:0 Log:0/0"
        yield from _with_entries(head, [self.describe_entry(entry) for entry in batch], answers)

    def switched(self) -> Iterator[str]:
        """Say which nodes have another configuration than when this was last asked."""
        for number, node in self.nodes.items():
            config = node.configuration()
            if config != self._configurations.get(number):
                self._configurations[number] = config
                if self.level <= LEVELS.index("info"):
                    text = describe_configuration(config)
                    yield f"INFO {number} switched to configuration {text}"

    # -- the steps of nodes -----------------------------------------------------------------

    def process_ready(self, node: Node) -> Iterator[str]:
        ready = node.ready()
        yield from self.describe_ready(node.id, ready)
        self.pool += ready.parcels
        yield from self.switched()

    def deliver(
        self, to: int, *, kind: str | None = None, is_dropped: bool = False
    ) -> Iterator[str]:
        chosen: list[Parcel] = []
        kept: list[Parcel] = []
        for parcel in self.pool:
            is_chosen = parcel.to == to and kind in (None, parcel.kind)
            is_chosen = is_chosen and not (is_dropped and parcel.is_local)
            (chosen if is_chosen else kept).append(parcel)
        self.pool = kept
        for parcel in chosen:
            begin, *rest = self.describe_parcel(parcel)
            yield f"dropped: {begin}" if is_dropped else begin
            yield from rest
        if not is_dropped:
            yield from self.nodes[to].receive_all(chosen)
        yield from self.switched()

    def process_append(self, node: Node) -> Iterator[str]:
        if not node.append_work:
            yield "no append work to perform"
            return
        write = node.append_work[0]
        parcels = node.append()
        self.pool += parcels
        yield "Processing:"
        yield from self.describe_write(node.id, write)
        yield "Responses:"
        for parcel in parcels:
            yield from self.describe_parcel(parcel)

    def process_apply(self, node: Node) -> Iterator[str]:
        if not node.apply_work:
            yield "no apply work to perform"
            return
        batch = node.apply_work[0]
        parcels = node.apply()
        self.pool += parcels
        yield "Processing:"
        yield from self.describe_batch(node.id, batch)
        yield "Responses:"
        for parcel in parcels:
            yield from self.describe_parcel(parcel)

    def settle(self, nodes: list[Node]) -> Iterator[str]:
        """Run these nodes, and deliver what is for them, until nothing is left to be done.

        Raises:
            RuntimeError: There is no end to it.
        """
        for _ in range(_MAX_ROUNDS):
            is_done = True
            for section in self._round(nodes):
                is_done = False
                yield from section
            if is_done:
                return
        raise RuntimeError("there is no end to it")

    def _round(self, nodes: list[Node]) -> Iterator[list[str]]:
        for node in nodes:
            if node.has_ready():
                yield _section(node, "handling Ready", self.process_ready(node))
        for node in nodes:
            if any(parcel.to == node.id for parcel in self.pool):
                yield _section(node, "receiving messages", self.deliver(node.id))
        for node in nodes:
            if node.append_work:
                lines = [
                    line for _ in tuple(node.append_work) for line in self.process_append(node)
                ]
                yield _section(node, "processing append thread", lines)
        for node in nodes:
            if node.apply_work:
                lines = [line for _ in tuple(node.apply_work) for line in self.process_apply(node)]
                yield _section(node, "processing apply thread", lines)


def _section(node: Node, title: str, lines: Iterable[str]) -> list[str]:
    return [f"> {node.id} {title}", *(f"  {line}" for line in lines)]


def _with_entries(head: str, entries: Sequence[str], answers: Sequence[str] = ()) -> Iterator[str]:
    """Say what a message carries: one entry on its own line, several on lines of theirs."""
    responses = " Responses:[" if answers else ""
    if len(entries) > 1:
        yield f"{head} Entries:["
        yield from (f"  {entry}" for entry in entries)
        yield f"]{responses}"
    else:
        carried = f" Entries:[{entries[0]}]" if entries else ""
        yield f"{head}{carried}{responses}"
    if answers:
        yield from (f"  {line}" for line in answers)
        yield "]"


def _describe_snapshot(meta: SnapshotMeta) -> str:
    def shown(nodes: Iterable[int]) -> str:
        return f"[{' '.join(map(str, nodes))}]"

    config = meta.config
    return (
        f"Index:{meta.index} Term:{meta.term} ConfState:Voters:{shown(config.voters)} "
        f"VotersOutgoing:{shown(config.outgoing)} Learners:{shown(config.learners)} "
        f"LearnersNext:{shown(config.learners_next)} AutoLeave:{str(config.auto_leave).lower()}"
    )


# -- the commands ------------------------------------------------------------------------------


def _add_nodes(cluster: Cluster, command: Command) -> list[str]:
    command.only(
        "voters", "learners", "index", "content", "inflight", "prevote", "checkquorum",
        "max-committed-size-per-ready", "disable-conf-change-validation", "read-only",
        "step-down-on-removal", "async-storage-writes",
    )  # fmt: skip
    numbers = command.numbers()
    if len(numbers) != 1:
        raise command.error("takes the number of nodes to add")
    if command.value("read-only", "safe") not in ("safe", "lease-based"):
        raise command.error("read-only= is safe or lease-based")
    # How a removed leader goes on (`step-down-on-removal`) is no option here: it steps down.
    command.flag("step-down-on-removal")
    config = Configuration(
        voters=tuple(sorted(command.value_numbers("voters"))),
        learners=tuple(sorted(command.value_numbers("learners"))),
    )
    index = command.number("index", 0)
    if bool(index) != bool(config.voters or config.learners) or index == 1:
        raise command.error("members come with an index above 1, and the other way round")
    options = Options(
        election_ticks=ELECTION_TICKS,
        pre_vote=command.flag("prevote"),
        check_quorum=command.flag("checkquorum"),
        max_append_bytes=UNLIMITED,
        max_inflight_messages=command.number("inflight", UNLIMITED),
        max_inflight_bytes=UNLIMITED,
        max_apply_bytes=command.number("max-committed-size-per-ready", UNLIMITED),
        promotion_gap=UNLIMITED,
    )
    settings = Settings(
        is_async=command.flag("async-storage-writes"),
        is_validating=not command.flag("disable-conf-change-validation"),
    )
    start = SnapshotMeta(index, 1 if index else 0, config)
    shared = Shared(cluster.texts, cluster.silences.append)
    for _ in range(numbers[0]):
        number = len(cluster.nodes) + 1
        cluster.nodes[number] = make_node(number, options, settings, start, shared)
    return list(cluster.switched())


def _campaign(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    cluster.first(command).campaign()
    return []


def _compact(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    numbers = command.numbers()
    if len(numbers) != 2:
        raise command.error("takes a node and an index")
    node = cluster.node(command, numbers[0])
    if numbers[1] > node.core.log.applied:
        raise command.error(f"only {node.core.log.applied} is applied")
    node.compact(numbers[1])
    return _log_of(cluster, node)


def _deliver_msgs(cluster: Cluster, command: Command) -> list[str]:
    command.only("drop", "type")
    kind = command.value("type") or None
    if kind is not None and kind not in KINDS.values() and kind not in LOCAL_KINDS:
        raise command.error(f"unknown kind of message {kind}")
    lines: list[str] = []
    for number in command.numbers():
        cluster.node(command, number)
        lines += cluster.deliver(number, kind=kind)
    for number in command.value_numbers("drop"):
        lines += cluster.deliver(number, kind=kind, is_dropped=True)
    return lines or ["no messages"]


def _log_level(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    cluster.level = _level(command, command.arguments[0].key if command.arguments else "")
    return []


def _level(command: Command, name: str) -> int:
    if name.lower() not in LEVELS:
        raise command.error(f"the levels are {', '.join(LEVELS)}")
    return LEVELS.index(name.lower())


def _each(
    title: str, step: Callable[[Cluster, Node], Iterable[str]]
) -> Callable[[Cluster, Command], list[str]]:
    def run(cluster: Cluster, command: Command) -> list[str]:
        command.only()
        nodes = cluster.chosen(command)
        if len(nodes) == 1:
            return list(step(cluster, nodes[0]))
        return [line for node in nodes for line in _section(node, title, step(cluster, node))]

    return run


def _propose(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    if len(command.arguments) != 2 or not command.arguments[0].key.isdecimal():
        raise command.error("takes a node and one word")
    node = cluster.node(command, int(command.arguments[0].key))
    word = command.arguments[1].key
    answer = node.propose(Proposal(f"EntryNormal {json.dumps(word)}", word.encode()))
    return [] if answer is None else [answer]


def _propose_conf_change(cluster: Cluster, command: Command) -> list[str]:
    command.only("v1", "transition")
    node = cluster.first(command)
    text, changes = changes_of(command)
    name = command.value("transition", "auto")
    if name not in {transition.value for transition in Transition}:
        raise command.error(f"unknown transition {name}")
    transition = Transition(name)
    kind = "EntryConfChangeV2"
    if command.flag("v1"):
        if len(changes) != 1 or transition is not Transition.AUTO:
            raise command.error("v1 takes one change and no transition")
        kind = "EntryConfChange"
    text = f"{kind} {text}".strip()
    answer = node.propose(Proposal(text, changes=changes, transition=transition))
    return [] if answer is None else [answer]


def _log_of(cluster: Cluster, node: Node) -> list[str]:
    disk = node.disk
    if not disk.entries:
        first = disk.snapshot.index + 1
        return [f"log is empty: first index={first}, last index={disk.last_index}"]
    return [cluster.describe_entry(entry) for entry in disk.entries]


def _raft_log(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    return _log_of(cluster, cluster.first(command))


def _raft_state(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    lines = []
    for number, node in cluster.nodes.items():
        core = node.core
        voter = "(Voter)" if node.configuration().is_voter(number) else "(Non-Voter)"
        lines.append(f"{number}: {ROLES[core.role]} {voter} Term:{core.term} Lead:{core.leader}")
    return lines


def _report_unreachable(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    nodes = cluster.chosen(command)
    if len(nodes) != 2:
        raise command.error("takes the node that reports and the one it reports")
    nodes[0].unreachable.add(nodes[1].id)
    return []


def _send_snapshot(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    nodes = cluster.chosen(command)
    if len(nodes) != 2 or nodes[0] is nodes[1]:
        raise command.error("takes the node that sends and the one that receives")
    if nodes[0].core.role is not Role.LEADER:
        raise command.error("a snapshot is the word of a leader here, and this node does not lead")
    parcel = parcel_of(nodes[0].snapshot_for(nodes[1].id))
    cluster.pool.append(parcel)
    return list(cluster.describe_parcel(parcel))


def _set_timeout(cluster: Cluster, command: Command) -> list[str]:
    command.only("timeout")
    timeout = command.number("timeout", 0)
    if not timeout:
        raise command.error("takes timeout=, in ticks")
    cluster.first(command).core.timeout = timeout
    return []


def _stabilize(cluster: Cluster, command: Command) -> list[str]:
    command.only("log-level")
    level = command.value("log-level")
    if level:
        cluster.level = _level(command, level)
    nodes = cluster.chosen(command) or list(cluster.nodes.values())
    return list(cluster.settle(nodes))


def _status(cluster: Cluster, command: Command) -> list[str]:
    command.only()
    node = cluster.first(command)
    core = node.core
    if core.role is not Role.LEADER:
        return []
    config = node.configuration()
    lines = []
    for member in config.all_members():
        progress = core.progress.get(member)
        text = "StateReplicate" if member == core.id else "StateProbe"
        if progress is not None:
            text = f"State{progress.state.value.capitalize()} match={progress.match}"
        learner = " learner" if member in config.learners else ""
        lines.append(f"{member}: {text}{learner}")
    return lines


def _ticks(count: int) -> Callable[[Cluster, Command], list[str]]:
    def run(cluster: Cluster, command: Command) -> list[str]:
        command.only()
        cluster.first(command).tick(count)
        return []

    return run


def _transfer_leadership(cluster: Cluster, command: Command) -> list[str]:
    command.only("from", "to")
    if command.numbers():
        raise command.error("takes from= and to=")
    frm, to = (cluster.node(command, command.number(key, 0)) for key in ("from", "to"))
    frm.transfer(to.id)
    return []


def _forget_leader(_cluster: Cluster, _command: Command) -> list[str]:
    raise NotOffered("a node of ours cannot be told to forget its leader")


def _breakpoint(_cluster: Cluster, _command: Command) -> list[str]:
    return []


_COMMANDS: dict[str, Callable[[Cluster, Command], list[str]]] = {
    "_breakpoint": _breakpoint,
    "add-nodes": _add_nodes,
    "campaign": _campaign,
    "compact": _compact,
    "deliver-msgs": _deliver_msgs,
    "forget-leader": _forget_leader,
    "log-level": _log_level,
    "process-append-thread": _each("processing append thread", Cluster.process_append),
    "process-apply-thread": _each("processing apply thread", Cluster.process_apply),
    "process-ready": _each("handling Ready", Cluster.process_ready),
    "propose": _propose,
    "propose-conf-change": _propose_conf_change,
    "raft-log": _raft_log,
    "raft-state": _raft_state,
    "report-unreachable": _report_unreachable,
    "send-snapshot": _send_snapshot,
    "set-randomized-election-timeout": _set_timeout,
    "stabilize": _stabilize,
    "status": _status,
    "tick-election": _ticks(ELECTION_TICKS),
    "tick-heartbeat": _ticks(1),
    "transfer-leadership": _transfer_leadership,
}
