"""The part of the gallery about what is left out where nothing follows from it.

Ends of flushes that nobody is woken for, news of commits that is not answered, reads that wait before
the leader was asked.
"""

from __future__ import annotations

from .mutant import one_change as _mutant

_CORE = "node/raft/core.py"
_REPLICATION = "node/raft/replication.py"
_REPLICA = "node/driver/replica.py"
_KEYS = "node/driver/keys.py"
_FLUSHER = "node/storage/flusher.py"
_QUESTIONS = "node/api/dialect/questions.py"


QUIET = (
    _mutant(
        "commit-waits-for-an-end-that-nobody-tells", "A follower could apply, and is not woken.",
        _CORE, "return self.role is not Role.FOLLOWER or self.log.commit > self.log.handed_out",
        "return self.role is not Role.FOLLOWER",
    ),
    _mutant(
        "leader-sleeps-through-its-flush", "It counts its own entries with the next event only.",
        _CORE, "return self.role is not Role.FOLLOWER or self.log.commit > self.log.handed_out",
        "return self.log.commit > self.log.handed_out",
    ),
    _mutant(
        "appends-without-entries-are-not-answered", "Not only those that bring news.",
        _REPLICATION,
        "    if not message.is_news:\n        _accept(core, message.frm, last)",
        "    if message.entries:\n        _accept(core, message.frm, last)",
    ),
    _mutant(
        "what-is-asked-once-more-passes-for-news", "Whether entries have arrived is never answered.",
        _REPLICATION,
        "core.send(Append(core.id, message.frm, core.term, prev, prev_term, [], core.log.commit))",
        "core.send(\n                Append(core.id, message.frm, core.term, prev, prev_term, [], core.log.commit, True)"
        "\n            )",
    ),
    _mutant(
        "end-that-came-before-it-was-wanted-is-lost", "The driver says so, and does not look again.",
        _FLUSHER, "        if is_wanted and self._reported < self._finished:\n            self._wake()\n",
        "", layer="B",
    ),
    _mutant(
        "driver-never-wants-an-end", "A leader waits for the next turn as a follower may.",
        _REPLICA, "self.flushes.want_end(is_wanted=self._needs_flush_end())",
        "self.flushes.want_end(is_wanted=False)", layer="B",
    ),
    _mutant(
        "read-is-proven-by-what-was-asked-before-it", "Any answer of the leader will do.",
        _KEYS, "return fresh_at is not None and fresh_at > moment", "return fresh_at is not None",
        layer="B",
    ),
    _mutant(
        "unasked-read-that-is-due-waits-on", "It asks nobody, and is answered when its time is over.",
        _QUESTIONS, "        return self._asked(found) if found is not None else None",
        "        is_proven = self._exchange.keys.is_fresh_since(self._began_at)\n"
        "        return super().look() if found is not None and is_proven else None",
        layer="B",
    ),
)  # fmt: skip
