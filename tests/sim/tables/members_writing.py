"""What the commands about members do on a page of the book.

Whether one is refused, and which name a member gets that asks for none, the book takes from the node:
but no two nodes of the catalog may have one name.
"""

from __future__ import annotations

from hstore.node.model.checks import AGENT_NOT_LIVE, SERF_HEALTH, SERF_HEALTH_NAME, Check
from hstore.node.model.commands import (
    ChangeMember,
    Member,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)

from .page import Face, Page
from .services_looking import external_named, folded
from .services_writing import clear_node

OfMembers = PutMember | ReplaceMember | RemoveMember | ChangeMember


def change_members(page: Page, command: OfMembers, outcome: Outcome) -> str:
    """Let a command take effect that a node has carried out.

    Returns:
        What is wrong with its outcome; empty: nothing.
    """
    page.indexes.members = page.index
    name = outcome.text
    match command:
        case RemoveMember(id):
            _leave(page, id)
            return ""
        case ChangeMember(id):
            if id not in page.members:
                return f"should be refused: {id} is no member"
            address = (
                page.members[id].address if command.addresses is None else command.addresses[0]
            )
            _keep(page, id, name, address)
        case ReplaceMember(member, replaces) if replaces in page.members:
            _replace(page, member, replaces, name)
        case PutMember(member) | ReplaceMember(member):
            _keep(page, member.id, name, member.address)
            _doubt(page, page.members[member.id].number)
    names = [folded(one.name) for one in page.members.values()]
    if len(set(names)) != len(names) or external_named(page, name) is not None:
        return f"gives a name that another node has: {name}"
    return ""


def _keep(page: Page, id_: int, name: str, address: str, number: int = 0) -> None:
    before = page.members.get(id_)
    if before is None:
        page.members[id_] = face = Face(number or id_, name, address, page.index, page.index)
        _make_check(page, face.number)
    elif (before.name, before.address) != (name, address):
        page.members[id_] = before._replace(name=name, address=address, modify=page.index)


def _make_check(page: Page, number: int) -> None:
    """Make the check of a new member, critical until the leader knows better."""
    if (number, SERF_HEALTH) not in page.checks:
        page.checks[number, SERF_HEALTH] = Check(
            number, SERF_HEALTH, SERF_HEALTH_NAME, "critical", AGENT_NOT_LIVE,
            max(1, page.time_ms), page.index, page.index,
        )  # fmt: skip


def _replace(page: Page, member: Member, replaces: int, name: str) -> None:
    """Let a member take the place of another, with all that is registered there."""
    if member.id in page.members:
        _leave(page, replaces)
        _keep(page, member.id, name, member.address)
        return
    number = page.members.pop(replaces).number
    _keep(page, member.id, name, member.address, number)
    _doubt(page, number)


def _leave(page: Page, id_: int) -> None:
    face = page.members.pop(id_, None)
    if face is not None:
        clear_node(page, face.number)


def _doubt(page: Page, number: int) -> None:
    """What is drawn knows nothing of the check of a member that came or changed."""
    page.seen.pop(number, None)
