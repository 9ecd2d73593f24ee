"""Which nodes there are: so far the members.

Owns what is held in memory of them. What commands do with members is in `members.py`.
"""

from __future__ import annotations

from ..model.commands import Member
from ..storage.interface import StateReader
from . import records
from .batch import Batch, InMemory, Values


def _load_members(view: StateReader) -> dict[int, Member]:
    found = view.scan(records.MEMBER, records.MEMBER_END)
    return {records.id_of(key): records.decode_member(record) for key, record in found}


MEMBERS = InMemory("members", _load_members)
"""By id. Never changed in place."""

IN_MEMORY = (MEMBERS,)


def numbers(values: Values) -> frozenset[int]:
    """Return the catalog numbers of all nodes."""
    members: dict[int, Member] = values[MEMBERS]
    return frozenset(member.catalog_number for member in members.values())


def is_node(batch: Batch, number: int) -> bool:
    """Whether the catalog has a node with this number."""
    members = batch.value(MEMBERS)
    found = members.get(number)
    if found is not None and found.catalog_number == number:
        return True
    # One that took another member's place has that one's number.
    return any(member.catalog_number == number for member in members.values())
