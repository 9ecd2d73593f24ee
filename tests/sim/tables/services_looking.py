"""Look-ups in the catalog of a page, and whether a bound is reached."""

from __future__ import annotations

from collections.abc import Iterable

from hstore.node.model.commands import Denial
from hstore.node.state.catalog import services

from .page import Face, Page

Refusals = set[Denial]
"""Why a command may be refused; empty: it takes effect."""

_SMALL = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def folded(name: str) -> str:
    """Return a name as it is found: only the letters A to Z have a case."""
    return name.translate(_SMALL)


def uuid_of(member_id: int) -> str:
    """Return the UUID of a member's node."""
    return f"00000000-0000-0000-{member_id >> 48:04x}-{member_id & 0xFFFFFFFFFFFF:012x}"


# -- looking --------------------------------------------------------------------------------------


def external_named(page: Page, name: str) -> int | None:
    """Return the number of the external node with a name, or None."""
    wanted = folded(name)
    return next((n for n, one in page.externals.items() if folded(one.name) == wanted), None)


def member_named(page: Page, name: str) -> Face | None:
    """Return the member with a name, or None."""
    wanted = folded(name)
    return next((one for one in page.members.values() if folded(one.name) == wanted), None)


def checks_of(page: Page, number: int, service: str | None = None) -> list[str]:
    """Return the IDs of the checks of a node, or of one service there, sorted."""
    return sorted(
        check_id
        for (node, check_id), check in page.checks.items()
        if node == number and service in (None, check.service)
    )


def services_of(page: Page, number: int) -> list[str]:
    """Return the IDs of the services of a node, sorted."""
    return sorted(service for node, service in page.services if node == number)


# -- bounds -----------------------------------------------------------------------------------------


def _bound(name: str) -> int:
    """Return a bound as it is in this run: see `nodes.small_bounds`."""
    return int(getattr(services, name))


def over_nodes(page: Page) -> Refusals:
    return {Denial.LIMIT} if len(page.externals) >= _bound("EXTERNAL_NODES_MAX") else set()


def over_services(page: Page, number: int | None) -> Refusals:
    of_node = 0 if number is None else len(services_of(page, number))
    is_over = of_node >= _bound("SERVICES_OF_NODE_MAX") or len(page.services) >= _bound(
        "INSTANCES_MAX"
    )
    return {Denial.LIMIT} if is_over else set()


def over_checks(
    page: Page, number: int | None, of_service: Iterable[str], made: Iterable[str], gone: int = 0
) -> Refusals:
    known = set() if number is None else set(checks_of(page, number))
    count = len(known | set(made)) - gone
    is_over = count > _bound("CHECKS_OF_NODE_MAX")
    is_over |= len(set(of_service)) > _bound("CHECKS_OF_SERVICE_MAX")
    return {Denial.LIMIT} if is_over else set()
