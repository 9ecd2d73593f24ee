"""The part of the gallery that needs whole nodes: mistakes in the driver, its requests, its state."""

from __future__ import annotations

from .mutant import Mutant

_REPLICA = "node/driver/replica.py"
_REQUESTS = "node/driver/requests.py"
_CLUSTER_TIME = "node/state/cluster_time.py"
_IDEMPOTENCY = "node/state/idempotency.py"
_KEYS = "node/state/kv/keys.py"
_MACHINE = "node/state/machine.py"
_MEMBERS = "node/state/members.py"
_ONLY_VOTER = "node/process/only_voter.py"
_FACTS = "node/driver/facts.py"

_FLUSHES = "node/driver/flushes.py"
_INTAKE = "node/driver/intake.py"
_DISK = "node/driver/disk_writer.py"


def _mutant(name: str, bugs: tuple[int, ...], about: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, bugs, about, ((file, old, new),), layer="B")


DRIVER = (
    _mutant(
        "driver-answers-before-the-flush", (5, 44), "What waits for the disk leaves at once.",
        _FLUSHES, "        self._then += persist.then\n",
        "        self._ended(self._covered_seq, persist.then)\n",
    ),
    _mutant(
        "driver-calls-durable-before-the-flush", (4, 5), "The core hears of it at once.",
        _FLUSHES, "        self._then += persist.then\n",
        "        self._then += persist.then\n        self._ended(persist.seq, [])\n",
    ),
    _mutant(
        "driver-calls-durable-what-came-later", (65, 56), "Also what was written during the flush.",
        _FLUSHES, "        self._ended(seq, then)", "        self._ended(self._written_seq, then)",
    ),
    _mutant(
        "driver-answers-what-came-later", (5, 56), "What was written during the flush leaves, too.",
        _FLUSHES, "        self._ended(seq, then)", "        self._ended(seq, then + self._then)",
    ),
    _mutant(
        "driver-goes-on-after-a-failed-flush", (58, 5), "As if it had not been.",
        _FLUSHES, "            await self._storage.flush()\n",
        "            try:\n                await self._storage.flush()\n"
        "            except Exception:\n                self.count -= 1\n",
    ),
    _mutant(
        "driver-acknowledges-what-is-in-its-log", (4, 19), "Before anybody else has it.",
        _REQUESTS, "        request.index, request.term = index, term\n",
        "        request.index, request.term = index, term\n"
        "        request.finish(Outcome(True, index))\n",
    ),
    _mutant(
        "deadlines-are-forgotten", (61, 22), "Who gets no answer waits for ever.",
        _REQUESTS, "        keep: deque[Request] = deque()\n",
        "        keep: deque[Request] = deque()\n        if now:\n            return\n",
    ),
    _mutant(
        "driver-writes-no-vote", (44, 67), "A hard state without entries is left out.",
        _DISK, "            hard_state = persist.hard_state\n",
        "            hard_state = persist.hard_state if persist.entries else None\n",
    ),
    _mutant(
        "driver-does-not-truncate", (56, 71), "The disk keeps what the log has cut off.",
        _DISK, "self._storage.append(hard_state, persist.truncate_from, persist.entries)",
        "self._storage.append(hard_state, None, persist.entries)",
    ),
    _mutant(
        "driver-serves-reads-before-they-are-applied", (2, 21), "The index is not waited for.",
        _INTAKE, "waiting.reads_for_index.add(index, asked_at", "waiting.reads_for_index.add(0, asked_at",
    ),
    _mutant(
        "driver-reads-without-asking", (19, 34), "Whoever believes to lead answers from its state.",
        _INTAKE, "            events.append(happened.ReadIndex(rid))",
        "            waiting.reads_for_index.add(0, *waiting.asked_reads.pop(rid))",
    ),
    _mutant(
        "driver-says-nothing-of-a-sent-snapshot", (9,), "The core waits for it for ever.",
        _REPLICA, "self.feed(happened.SnapshotSent(peer, index, ok))",
        "self.want_turn()",
    ),
    _mutant(
        "driver-keeps-the-old-state-in-memory", (32, 57), "An installed snapshot is not read again.",
        _DISK, "        self._state.reload()\n", "",
    ),
    _mutant(
        "driver-acknowledges-what-took-its-place", (37, 32), "The terms are not compared.",
        _REQUESTS, "if entry.term == request.term:", "if entry.term >= request.term:",
    ),
    _mutant(
        "driver-sends-a-forwarded-write-again", (38,), "After a broken link, whatever came of it.",
        _REQUESTS, "                request.finish(unknown(why))",
        "                self.queued.append(request)",
    ),
    _mutant(
        "replies-on-a-lost-link-are-forgotten", (), "They are not sent again on the next one.",
        _REPLICA,
        "        for replies in self._replies.kept(peer) if peer not in self.state.removed else ():\n",
        "        for replies in ():\n",
    ),
    _mutant(
        "failed-reads-are-forgotten", (22, 61), "They are not asked again.",
        _REQUESTS, "            self.new_reads += reads\n            return", "            return",
    ),
    _mutant(
        "keyed-write-takes-effect-again", (38, 33), "Its key is not looked up.",
        _IDEMPOTENCY, "    if known is not None:\n", "    if known is not None and not write.key:\n",
    ),
    _mutant(
        "keyed-write-is-remembered-and-not-done", (38, 33), "The command it carries has no effect.",
        _IDEMPOTENCY, "outcome = _carry_out(batch, entry, write.command)",
        "outcome = Outcome(True, entry.index)",
    ),
    _mutant(
        "what-tables-hold-in-memory-is-not-taken-over", (32, 57), "The store alone has the changes.",
        _MACHINE, "if batch.values is not self._values:", "if batch.values is self._values:",
    ),
    _mutant(
        "time-is-what-the-leader-says", (49,), "Though its clock is behind what the log has seen.",
        _CLUSTER_TIME, "if stamp_ms > table.time_ms:", "if stamp_ms:",
    ),
    _mutant(
        "recovered-node-keeps-the-clusters-id", (16, 48), "It is the old cluster, with a majority of one.",
        _ONLY_VOTER, "    identity = Identity(cluster_id, storage.identity.node_id)",
        "    identity = storage.identity",
    ),
    _mutant(
        "recovered-node-keeps-the-voters", (16, 48), "The members that are gone still vote.",
        _ONLY_VOTER, "    config = Configuration(voters=(own,))",
        "    config = Configuration(voters=tuple(sorted((own, *others))))",
    ),
    _mutant(
        "recovered-node-keeps-the-members", (16,), "They stay in the state, and are let in again.",
        _MEMBERS, "    gone = (members.keys() | set(command.others)) - {command.id}\n",
        "    gone = set(command.others) - members.keys()\n",
    ),
    _mutant(
        "recovered-node-gives-indexes-again", (33, 37), "Those of the log that was lost.",
        _ONLY_VOTER, "    last = max(_last_index(found), found.recover_to)\n",
        "    last = _last_index(found)\n",
    ),
    _mutant(
        "lost-log-is-not-shown", (18,), "A node that does not vote says nothing of it.",
        _FACTS, 'return self._lost_log if self._core.is_recovering else ""', 'return ""',
    ),
    _mutant(
        "comparison-with-the-revision-is-skipped", (33, 49), "A conditional write always succeeds.",
        _KEYS, "if not allowed or (command.cas is not None and command.cas != revision):",
        "if not allowed:",
    ),
)  # fmt: skip
