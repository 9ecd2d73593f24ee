"""A cluster that this process has just founded: whether it can still be given up.

A seed whose disk was lost, and that is started again with the line it always had, founds a second
cluster at the address of a member of the first. As long as no node has joined the new cluster and no
client has written to it, ending it loses nothing.
"""

from __future__ import annotations

import msgspec

from ..driver.facts import Facts
from ..model import commands
from ..model.checks import SetCheck
from ..model.commands import Checkpoint, InitCluster, PutMember
from ..raft import membership
from ..raft.entry import Entry, EntryKind
from ..raft.membership import Configuration


class Founding:
    """The beginning of the cluster of one node.

    Args:
        facts: Of its replica.
        is_founder: Whether this process has made the node's data directory for a new cluster.
    """

    def __init__(self, facts: Facts, *, is_founder: bool) -> None:
        self._facts = facts
        self._is_fresh = is_founder

    def is_fresh(self) -> bool:
        """Whether this process founded the cluster, and its log has only what a founder appends itself.

        An entry that is not committed yet counts: its client may be answered at any moment.
        """
        if self._is_fresh:
            log = self._facts.whole_log()
            self._is_fresh = log is not None and all(map(self._is_of_the_founder, log))
        return self._is_fresh

    def _is_of_the_founder(self, entry: Entry) -> bool:
        """Whether a founder alone, without any client, appends such an entry."""
        if entry.kind == EntryKind.NOOP:
            return True
        if entry.kind == EntryKind.CONFIG:
            return membership.decode(entry.data) == Configuration(voters=(self._facts.id,))
        try:
            command = commands.decode(entry.data)
        except msgspec.MsgspecError:
            return False
        if isinstance(command, PutMember):
            return command.member.id == self._facts.id
        # Its leader keeps the checks of members, and it is the only one.
        return isinstance(command, InitCluster | Checkpoint | SetCheck)
