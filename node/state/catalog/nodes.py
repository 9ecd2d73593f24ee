"""Which nodes the catalog has: the members, and the external nodes.

Owns what is held in memory of the members, and the last index that changed the list of nodes. What
commands do with members is in `members.py`, with external nodes in `externals.py`. Both share one
namespace of names, which are found without regard to case, and one of numbers.
"""

from __future__ import annotations

from ...model import values
from ...model.commands import Member
from ...storage.interface import StateReader
from .. import records
from ..batch import Batch, InMemory, Values
from ..kv import deletions
from ..watching.changes import NODES, Change
from .index import CATALOG, CatalogIndex
from .records import fold


def _load_members(view: StateReader) -> dict[int, Member]:
    found = view.scan(records.MEMBER, records.MEMBER_END)
    return {records.id_of(key): records.decode_member(record) for key, record in found}


MEMBERS = InMemory("members", _load_members)
"""By id. Never changed in place."""

IN_MEMORY = (MEMBERS,)


def numbers(tables: Values) -> frozenset[int]:
    """Return the catalog numbers of all nodes."""
    members: dict[int, Member] = tables[MEMBERS]
    catalog: CatalogIndex = tables[CATALOG]
    of_members = {member.catalog_number for member in members.values()}
    return frozenset(of_members.union(catalog.externals))


def member_at(tables: Values, number: int) -> Member | None:
    """Return the member whose node has this catalog number, or None."""
    members: dict[int, Member] = tables[MEMBERS]
    found = members.get(number)
    if found is not None and found.catalog_number == number:
        return found
    # One that took another member's place has that one's number.
    return next((one for one in members.values() if one.catalog_number == number), None)


def is_node(batch: Batch, number: int) -> bool:
    """Whether the catalog has a node with this number."""
    if number in batch.value(CATALOG).externals:
        return True
    return member_at(batch.values, number) is not None


def member_named(tables: Values, folded: bytes) -> Member | None:
    """Return the member with this folded name, or None."""
    members: dict[int, Member] = tables[MEMBERS]
    return next((one for one in members.values() if fold(one.name) == folded), None)


def find(tables: Values, folded: bytes) -> int | None:
    """Return the number of the node with this folded name, member or not, or None."""
    catalog: CatalogIndex = tables[CATALOG]
    number = catalog.numbers.get(folded)
    if number is not None:
        return number
    member = member_named(tables, folded)
    return None if member is None else member.catalog_number


def name_of(tables: Values, number: int) -> str:
    """Return the name of a node as first written; empty: there is no such node."""
    catalog: CatalogIndex = tables[CATALOG]
    external = catalog.externals.get(number)
    if external is not None:
        return external.name
    member = member_at(tables, number)
    return "" if member is None else member.name


def member_uuid(member_id: int) -> str:
    """Return the UUID of a member's node: its last 64 bits are the member's id."""
    return values.uuid_text(bytes(8) + member_id.to_bytes(8, "big"))


def note_change(batch: Batch, index: int, number: int, record: bytes | None) -> None:
    """Note that a node has come, has changed or has gone: then `record` is None."""
    key = records.encode_index(number)
    batch.put(records.NODES_CHANGE_KEY, records.encode_index(index))
    batch.value(CATALOG).set_nodes_index(batch, index)
    batch.changes.append(Change(NODES, key, index, record))
    batch.wakes.append((NODES, key))


def forget_names(batch: Batch, index: int, *names: str) -> None:
    """Keep the deletions of names and UUIDs that no node has any more; empty ones are none.

    So the index of the answer about a node, which can be asked for by either, does not fall.
    """
    for name in filter(None, names):
        deletions.keep(batch, NODES, index, fold(name))
