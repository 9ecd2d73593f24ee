"""What tests of registering have in common: a node with a catalog of dictionaries, and a log that answers as a test says."""

from __future__ import annotations

import json
from typing import Any

import trio

from hstore.node.api.backend import Backend
from hstore.node.model.checks import CheckDefinition
from hstore.node.model.commands import Command, Denial, Outcome
from tests.fakes.catalog import FakeCatalog
from tests.fakes.checks import FakeChecks
from tests.node.api.conftest import FakeBackend

TTL = CheckDefinition("ttl", 10**10)
SCRIPTS = "Scripts are disabled on this agent; to enable, configure 'checks.script' to true"


class CatalogBackend(FakeBackend):
    """A node `n1` whose catalog is of dictionaries, and whose log says what `outcome` says."""

    def __init__(self) -> None:
        super().__init__()
        self.catalog = FakeCatalog()
        self.catalog.add_member(1, "n1", "10.0.0.1")
        self.catalog.add_member(2, "n2", "10.0.0.2")
        self.checks = FakeChecks(self.catalog)
        self.outcome = Outcome(ok=True, revision=9)
        self.written: list[Any] = []

    @property
    def whole(self) -> Backend:
        node: Any = self
        return Backend(node, node, node, node, node, self.catalog, self.checks)

    def view(self) -> Any:
        return self.catalog

    async def write(
        self, command: Command, deadline: float, *, applied_here: bool = False
    ) -> Outcome:
        await trio.lowlevel.checkpoint()
        assert applied_here, "a registration is answered when the member asked shows it"
        if self.error is not None:
            raise self.error
        self.written.append(command)
        return self.outcome

    def begin_write(self, command, deadline, tell, *, applied_here=False):
        assert applied_here
        return super().begin_write(command, deadline, tell, applied_here=applied_here)

    def deny(self, denial: Denial, text: str = "") -> None:
        self.outcome = Outcome(ok=False, revision=9, text=text, denial=denial)


def put(client, path, body=None, **headers):
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return client.request("PUT", path, raw, **headers)


def is_done(answer) -> bool:
    """Whether a change was answered as an agent answers it: 200 without a body."""
    assert answer.status == 200, answer
    assert answer.body == b""
    assert answer.headers["x-consul-default-acl-policy"] == "allow"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["x-hstore-index"]) > 0
    return True
