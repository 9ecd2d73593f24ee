"""The catalog's nodes, as the dialect shows and names them.

So far they are the members. Used by the handlers of `catalog`, `coordinate`, `session`, `operator`
and `agent`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ...filter.fields import TEXT, TEXT_MAP, UNSIGNED, Object
from ...model.values import split_address
from ..dialect import ids

if TYPE_CHECKING:
    from ...model.commands import Member
    from ..http.exchange import Exchange

FIELDS = Object(
    {
        **dict.fromkeys(("ID", "Node", "Address", "Datacenter"), TEXT),
        **dict.fromkeys(("TaggedAddresses", "Meta"), TEXT_MAP),
        **dict.fromkeys(("CreateIndex", "ModifyIndex"), UNSIGNED),
    }
)
"""What `?filter=` may ask of a node."""


def uuid_of(node_id: int) -> str:
    """Return the UUID of a member: its id is the last 64 bits."""
    return str(uuid.UUID(int=node_id))


def uuid_from(text: str) -> uuid.UUID | None:
    """Read a UUID as it is written in paths and bodies, 36 characters; None: it is none."""
    found = ids.parse(text)
    return None if found is None else uuid.UUID(bytes=found)


def by_name(exchange: Exchange) -> list[Member]:
    """Return all members in the order of every list: by name, bytewise."""
    members = exchange.backend.administration.members
    return sorted(members.values(), key=lambda member: member.name)


def own(exchange: Exchange) -> Member | None:
    """Return this node's record; None: it has not learnt yet that it is a member."""
    return exchange.backend.administration.members.get(exchange.backend.process.id)


def find(exchange: Exchange, text: str) -> Member | None:
    """Find a node by its name, without regard to case, or by its UUID."""
    name, found = text.lower(), uuid_from(text)
    for member in exchange.backend.administration.members.values():
        if member.name == name or (found is not None and member.id == found.int):
            return member
    return None


def numbered(exchange: Exchange, number: int) -> Member | None:
    """Return the node with a catalog number; None: it is no member any more."""
    members = exchange.backend.administration.members
    found = members.get(number)
    if found is not None and found.catalog_number == number:
        return found
    # One that took another member's place has that one's number.
    return next((each for each in members.values() if each.catalog_number == number), None)


def name_of(exchange: Exchange, number: int) -> str:
    """Return the name of the node with a catalog number; its UUID where it is no member any more."""
    found = numbered(exchange, number)
    return uuid_of(number) if found is None else found.name


def entry(member: Member, datacenter: str) -> dict[str, Any]:
    """Return a node as the catalog shows it."""
    host = split_address(member.address).host
    return {
        "ID": uuid_of(member.id),
        "Node": member.name,
        "Address": host,
        "Datacenter": datacenter,
        "TaggedAddresses": {"lan": host, "wan": host},
        "Meta": {},
        "CreateIndex": member.create_index,
        "ModifyIndex": member.modify_index,
    }
