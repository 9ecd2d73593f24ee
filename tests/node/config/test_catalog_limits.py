"""What a command of the catalog may hold: at each bound, and one beyond it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hstore.node.config import command_limits
from hstore.node.config.command_limits import fault_in, fault_of
from hstore.node.model import commands
from hstore.node.model.checks import Check, CheckDefinition, SetCheck
from hstore.node.model.commands import Command
from hstore.node.model.services import (
    CatalogRegister,
    CheckResult,
    Deregister,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)

HERE = Place(1)


def service(**fields: Any) -> Command:
    return RegisterService(HERE, Service(**{"node": 0, "id": "web", "name": "web", **fields}))


def check(**fields: Any) -> Command:
    return RegisterCheck(HERE, GivenCheck(**{"id": "c", "name": "c", **fields}))


def definition(**fields: Any) -> Command:
    return check(definition=CheckDefinition("http", **fields))


def node(**fields: Any) -> Command:
    return CatalogRegister(ExternalNode(**{"number": 0, "name": "web-1", **fields}))


def result(**fields: Any) -> Command:
    one = {"node": 1, "id": "c", "defined": 0, "status": "passing", "output": "", **fields}
    return UpdateChecks(1, (CheckResult(**one),))


def set_check(**fields: Any) -> Command:
    return SetCheck(Check(**{"node": 1, "id": "c", "name": "c", "status": "passing", **fields}))


def pairs(count: int) -> tuple[tuple[str, str], ...]:
    return tuple((str(number), "v") for number in range(count))


def tagged(count: int, port: int = 1) -> tuple[tuple[str, str, int], ...]:
    return tuple((str(number), "a", port) for number in range(count))


WIDE = "ä"
"""Two bytes."""


@pytest.mark.parametrize(
    ("make", "field", "most", "more"),
    [
        (service, "id", WIDE * 512, WIDE * 512 + "i"),
        (service, "name", WIDE * 127, WIDE * 128),
        (service, "tags", ("t",) * 128, ("t",) * 129),
        (service, "tags", (WIDE * 127,), (WIDE * 128,)),
        (service, "agent_tags", ("t" * 255,), ("t" * 256,)),
        (service, "address", "a" * 255, "a" * 256),
        (service, "port", 65_535, 65_536),
        (service, "weight_passing", 65_535, 65_536),
        (service, "weight_warning", 65_535, 65_536),
        (service, "checks", ("c",) * 64, ("c",) * 65),
        (service, "meta", pairs(64), pairs(65)),
        (service, "meta", (("k" * 128, "v" * 512),), (("k" * 129, "v"),)),
        (service, "meta", (("k", "v" * 512),), (("k", "v" * 513),)),
        (service, "tagged", tagged(32), tagged(33)),
        (service, "tagged", tagged(1, 65_535), tagged(1, 65_536)),
        (service, "tagged", (("k", "a" * 255, 1),), (("k", "a" * 256, 1),)),
        (check, "id", "c" * 1024, "c" * 1025),
        (check, "name", "c" * 1024, "c" * 1025),
        (check, "notes", "n" * 4096, "n" * 4097),
        (check, "output", "o" * 4160, "o" * 4161),
        (check, "service", "s" * 1024, "s" * 1025),
        (definition, "http", "h" * 4096, "h" * 4097),
        (definition, "tcp", "h" * 4096, "h" * 4097),
        (definition, "method", "M" * 64, "M" * 65),
        (definition, "tls_server_name", "s" * 255, "s" * 256),
        (definition, "body", "b" * 65_536, "b" * 65_537),
        (definition, "headers", (("h", ("v",) * 64),), (("h", ("v",) * 65),)),
        (definition, "headers", (("h", ("v" * 8191,)),), (("h", ("v" * 8192,)),)),
        (definition, "headers", (("h", ()),) * 64, (("h", ()),) * 65),
        (definition, "args", ("a",) * 64, ("a",) * 65),
        (definition, "args", ("a" * 8192,), ("a" * 8193,)),
        (definition, "output_max", 4096, 4097),
        (node, "name", "n" * 255, "n" * 256),
        (node, "address", "a" * 255, "a" * 256),
        (node, "uuid", "u" * 36, "u" * 35),
        (node, "meta", pairs(64), pairs(65)),
        (node, "tagged", pairs(32), pairs(33)),
        (result, "id", "c" * 1024, "c" * 1025),
        (result, "output", "o" * 8192, "o" * 8193),
        (set_check, "notes", "n" * 4096, "n" * 4097),
        (set_check, "service", "s" * 1024, "s" * 1025),
    ],
)
def test_what_is_at_a_bound_is_taken_and_what_is_beyond_it_is_not(
    make: Any, field: str, most: object, more: object
) -> None:
    for value, is_taken in ((most, True), (more, False)):
        command = make(**{field: value})
        assert (fault_of(command) == "") is is_taken
        assert fault_in(commands.encode(command)) == fault_of(command)


@pytest.mark.parametrize(
    "command",
    [
        service(id=""),
        service(name=""),
        service(name="a\n"),
        service(name="a\x7f"),
        service(name="a\x85"),
        check(id=""),
        result(id=""),
        node(name="\x00"),
        RegisterService(Place(0, ""), Service(0, "web", "web")),
        RegisterService(Place(0, "n", "a" * 256), Service(0, "web", "web")),
        RegisterService(HERE, Service(0, "web", "web"), (GivenCheck("", "c"),)),
        Deregister(HERE, service="s" * 1025),
        Deregister(HERE, check="s" * 1025),
        Deregister(Place(0, "")),
        CatalogRegister(ExternalNode(0, "web-1"), service=Service(0, "", "web")),
        CatalogRegister(ExternalNode(0, "web-1"), checks=(GivenCheck("c", "c" * 1025),)),
    ],
)
def test_what_nobody_can_register_is_found(command: Command) -> None:
    assert fault_of(command)


def test_more_checks_than_a_node_may_have_are_not_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_limits, "CHECKS_OF_NODE_MAX", 3)
    four = tuple(GivenCheck(str(number), "c") for number in range(4))
    assert fault_of(RegisterService(HERE, Service(0, "web", "web"), four)) == "4 checks at once"


def test_names_may_be_of_any_letters() -> None:
    for name in ("web", "Ä", "a b", "日本語", "\xa0", "a\u200b"):
        assert command_limits.is_catalog_name(name)


def test_too_many_results_or_assignments_are_no_command() -> None:
    results = ["U", 1, [[1, "c", 0, "passing", ""]] * 257, 0]
    pairs_ = ["O", [[1, 1]] * 1025]
    for found in (results, pairs_, ["U", 1, [], 0], ["O", []]):
        assert "does not know" in fault_in(msgspec.msgpack.encode(found))
