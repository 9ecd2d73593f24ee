"""The checks of a node that runs none: it takes words about those of a catalog of dictionaries.

checks = FakeChecks(catalog)
checks.word(1, "service:web", "passing", "fine")    # Word.TAKEN, if it is a TTL check
checks.elsewhere                                    # the words that were for other members
"""

from __future__ import annotations

import msgspec

from hstore.node.model.checks import Check, CheckStatus, Word

from .catalog import FakeCatalog


class FakeChecks:
    """The `Checks` of `api/backend.py`."""

    def __init__(self, catalog: FakeCatalog) -> None:
        self.scripts = False
        self.catalog = catalog
        self.said: dict[tuple[int, str], tuple[CheckStatus, str]] = {}
        self.elsewhere: list[tuple[int, str, CheckStatus, str]] = []

    def word(self, number: int, check: str, status: CheckStatus, output: str) -> Word:
        found = self.catalog.all_checks.get((number, check))
        if found is None:
            return Word.UNKNOWN
        if found.definition is None or found.definition.kind != "ttl":
            return Word.NOT_TTL
        self.said[number, check] = status, output
        return Word.TAKEN

    async def word_elsewhere(
        self, number: int, check: str, status: CheckStatus, output: str, deadline: float
    ) -> Word:
        del deadline
        self.elsewhere.append((number, check, status, output))
        return self.word(number, check, status, output)

    def newest(self, check: Check) -> Check:
        said = self.said.get((check.node, check.id))
        if said is None:
            return check
        return msgspec.structs.replace(check, status=said[0], output=said[1])
