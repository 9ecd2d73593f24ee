"""The members' addresses, in a file that can be read without opening the database.

It is for commands that look for the cluster from this directory: `join` without a host, and the
client commands. It is a hint, never evidence: the node that answers at an address has to prove which
it is. The database has the same and more, and never reads this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import own_files
from ..model.cluster_info import ClusterInfo
from ..model.values import Address, addresses

if TYPE_CHECKING:
    from ..node import Node

FILE = "members.json"

_BYTES_MAX = 1 << 20
"""A member takes about 200; what is longer is not this file."""


class SavedMember(msgspec.Struct, frozen=True):
    """One member: its addresses as `HOST:PORT`, its id as 16 hex digits."""

    id: str
    name: str
    address: str
    peer_address: str
    dns_address: str


class SavedMembers(msgspec.Struct, frozen=True):
    """The cluster that a directory belongs to, as it was last known there."""

    cluster_id: str
    zone: str
    members: tuple[SavedMember, ...]

    def api_addresses(self) -> list[Address]:
        """Return where the members' APIs were; what is no address is left out."""
        return addresses(one.address for one in self.members)

    def peer_addresses(self) -> list[Address]:
        """Return where the members were for other nodes; what is no address is left out."""
        return addresses(one.peer_address for one in self.members)


def read(directory: Path) -> SavedMembers | None:
    """Return the members saved in a data directory; None: there are none, or they cannot be read."""
    try:
        # A pipe at this name must not be waited for: a node reads this in its event loop.
        with os.fdopen(own_files.open_own(directory / FILE, os.O_RDONLY), "rb") as file:
            return msgspec.json.decode(file.read(_BYTES_MAX), type=SavedMembers)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write(directory: Path, saved: SavedMembers) -> None:
    """Replace what is saved; a crash at any moment leaves the old or the new.

    Raises:
        OSError: The disk refuses.
    """
    content = msgspec.json.format(msgspec.json.encode(saved))
    own_files.replace(directory / FILE, content, is_durable=True)


async def keep(node: Node, directory: Path, on_error: Callable[[OSError], object]) -> None:
    """Keep the file as the cluster is, until cancelled. Errors of writing go to `on_error`."""
    # Here, for the command line reads the file without a loop.
    import trio  # noqa: PLC0415

    written = read(directory)
    seen = -1
    while True:
        seen = await node.administration.wait_cluster_change(seen)
        saved = _of(node.status.info())
        own = f"{node.replica.facts.id:016x}"
        # A node that is not a member yet knows no members, or only by hearsay.
        if saved == written or own not in {member.id for member in saved.members}:
            continue
        try:
            await trio.to_thread.run_sync(write, directory, saved)
        except OSError as error:
            on_error(error)
        written = saved


def _of(info: ClusterInfo) -> SavedMembers:
    members = (
        SavedMember(one.id, one.name, one.address, one.peer_address, one.dns_address)
        for one in info.nodes
    )
    return SavedMembers(info.cluster_id, info.zone, tuple(members))
