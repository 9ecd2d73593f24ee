"""The nodes of this machine, by address or name, from their run records.

Owns which record a user means. The record of a running node comes first, then the members of a live
cluster, and the record of a node that has ended last: its name and address may be another node's by
now, and an old record must never end that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hstore.dns.ip_literals import is_loopback
from hstore.node.discovery import run_record
from hstore.node.errors import HstoreError, Refused
from hstore.node.model import values

from ..client.errors import Unreachable
from .find import Found, member

if TYPE_CHECKING:
    from hstore.node.discovery.run_record import RunRecord

    from .find import Finder


class NamedNode(NamedTuple):
    """A node that a user named.

    Attributes:
        said: `ADDR|NAME`, as the user gave it.
        address: Of its API.
        record: Of its last run on this machine, if there is one.
        neighbours: API addresses of other nodes that run here by their records.
        finder: Finds its cluster.
        env: Tells where the run records are.
    """

    said: str
    address: str
    record: RunRecord | None
    neighbours: tuple[str, ...]
    finder: Finder
    env: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        """Name it in a message; an old record at its address may be another node's."""
        return f"{self.name} at {self.address}" if self.name else f"the node at {self.address}"

    @property
    def name(self) -> str:
        """Its name by its record; empty: it has none here, or one that may be of another node."""
        is_its = self.is_by_name or self.is_running_here
        return self.record.name if self.record and is_its else ""

    @property
    def is_running_here(self) -> bool:
        """Whether its recorded process runs."""
        return self.record is not None and run_record.is_running(self.record)

    @property
    def is_by_name(self) -> bool:
        """Whether the user gave its name: another node that has its address now is not meant."""
        return values.is_name(self.said) and self.record is not None


def named_node(said: str, env: Mapping[str, str], finder: Finder) -> NamedNode:
    """Return the node that `ADDR|NAME` stands for.

    Raises:
        ConfigError: It is neither.
        Refused: No node has that name, nodes of two clusters have it, or the node is of another
            zone than the user named.
    """
    here = [one for one in run_record.records(env) if _is_here(one)]
    address, record = _which(said, here, finder)
    if finder.is_zone_given:
        _refuse_other_zone(address, record, finder)
    if record and run_record.is_running(record):
        address = loopback_of(record) or address
    neighbours = tuple(one.address for one in here if one != record and run_record.is_running(one))
    return NamedNode(said, address, record, neighbours, finder, env)


def ask(address: str, finder: Finder) -> Found | None:
    """Return the cluster of the node at an address, or None when none answers there."""
    try:
        return finder.wait_for(address, wait_s=0)
    except HstoreError:
        return None


def _which(said: str, here: list[RunRecord], finder: Finder) -> tuple[str, RunRecord | None]:
    if values.is_name(said):
        called = [one for one in here if one.name == said and one.zone == finder.zone]
        running = _one_of([one for one in called if run_record.is_running(one)])
        if running:
            return running.address, running
        found = finder.find_if_any()
        node = member(found.info, said) if found else None
        if node:
            return node.address, next((one for one in here if one.node_id == node.id), None)
        ended = _one_of(called)
        if ended:
            return ended.address, ended
    address = finder.address_of(said)
    there = [one for one in here if _is_at(one, address)]
    # A running node first; of those that have ended, the latest.
    there.sort(key=lambda one: not run_record.is_running(one))
    return address, there[0] if there else None


def _refuse_other_zone(address: str, record: RunRecord | None, finder: Finder) -> None:
    """Refuse a node that is not of the named zone, as itself says, or its record if it is silent."""
    try:
        finder.wait_for(address, wait_s=0)
    except Unreachable:
        if record and record.zone != finder.zone:
            name = f"{record.name or 'a node'} at {address}"
            raise finder.other_zone(
                f"cluster {record.cluster_id} of zone {record.zone} ({name})"
            ) from None


def loopback_of(record: RunRecord) -> str:
    """Return the loopback address of a node that listens at every address; else nothing.

    Only a connection from loopback may have a node do what is reserved for its own machine.
    """
    listens = values.split_address(record.listen)
    return f"127.0.0.1:{listens.port}" if values.is_wildcard(listens.host) else ""


def _one_of(records: list[RunRecord]) -> RunRecord | None:
    if len({one.cluster_id for one in records}) > 1:
        several = ", ".join(f"{one.address} (cluster {one.cluster_id})" for one in records)
        raise Refused(
            f"nodes of several clusters on this machine are called {records[0].name}: {several}; "
            "name one by its address"
        )
    return records[0] if records else None


def _is_here(record: RunRecord) -> bool:
    return not run_record.is_running(record) or run_record.shares_network(record)


def _is_at(record: RunRecord, address: str) -> bool:
    """Tell whether a node is, or was, at an address as a user writes it."""
    if address in (record.address, record.listen):
        return True
    try:
        wanted = values.address(address)
        listens = values.split_address(record.listen)
    except ValueError:
        return False
    if str(wanted) in (record.address, record.listen):
        return True
    every = values.is_wildcard(listens.host) and is_loopback(wanted.host)
    return every and wanted.port == listens.port
