"""The part of the gallery in the storage: what a restart makes of a damaged disk.

The simulator's disks go through the product's own decisions at every start (`recovery.py`,
`codec.py`), so a mistake in them is one that its clusters have to live with.
"""

from __future__ import annotations

from .mutant import Mutant

_CODEC = "node/storage/codec.py"
_CORE = "node/raft/core.py"
_RECOVERY = "node/storage/recovery.py"


def _mutant(name: str, bugs: tuple[int, ...], about: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, bugs, about, changes)


_CRC_CHECK = """len(record) < _DATA_AT or _CRC.unpack_from(record)[0] != crc32(
        record[_CHAIN_AT:], index & 0xFFFFFFFF
    ):"""

STORAGE = (
    _mutant(
        "loss-is-forgotten-over-a-restart", (18, 37), "The next start takes the rest for all.",
        (_RECOVERY, "    loss = disk.loss\n", "    loss = None\n"),
    ),
    _mutant(
        "damaged-entries-are-believed", (17, 71), "Neither CRC nor chain is compared.",
        (_CODEC, _CRC_CHECK, "len(record) < _DATA_AT:"),
        (_CODEC, "if blake2b(chain + record[_HEAD_AT:], digest_size=CHAIN_SIZE).digest() != found:",
         "if not found:"),
    ),
    _mutant(
        "damaged-log-is-a-torn-tail", (18, 32), "What cannot be read is cut off, and that was it.",
        (_RECOVERY, "if log.damaged or is_short or _is_older(disk.hard_state, witness):",
         "if is_short or _is_older(disk.hard_state, witness):"),
    ),
    _mutant(
        "damaged-hard-state-is-zero", (45, 44), "Its term begins anew.",
        (_RECOVERY, "    if witness is not None:\n        ballots", ("    if found is not None and "
         "witness is not None:\n        ballots")),
        (_RECOVERY, "(log.entries[-1].term if log.entries else 0, 0)", "(0, 0)"),
    ),
    _mutant(
        "what-is-left-is-all-there-was", (18, 37), "It counts again before it has what it lost.",
        (_RECOVERY, "    lost_to = max(promised)", "    lost_to = log.last"),
    ),
    _mutant(
        "log-with-a-hole-keeps-the-old-members", (16, 48), "It is compacted past a change of them.",
        (_RECOVERY, "if snapshot.index < index <= at:", "if snapshot.index < index < 0:"),
    ),
    _mutant(
        "commit-beyond-the-log-at-start", (46, 18), "The commit index on disk is believed.",
        (_RECOVERY, "min(max(hard_state.commit, applied), log.last)", "max(hard_state.commit, applied)"),
        (_CORE, "self.log.commit_to(min(hard_state.commit, self.log.last_index))",
         "self.log.commit_to(hard_state.commit)"),
    ),
    _mutant(
        "lost-log-is-missed-by-nobody", (18, 63), "The core is not told what was lost.",
        (_RECOVERY, "loss.recover_to if loss else 0,", "0,"),
    ),
)  # fmt: skip
