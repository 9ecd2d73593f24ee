"""200,000 random commands of the catalog on two machines; `HSTORE_SEED` sets the first seed."""

from __future__ import annotations

import pytest

from tests.dns.test_fuzz import seed
from tests.node.state.test_catalog_random import agree

PARTS = 10
COMMANDS = 20_000


@pytest.mark.parametrize("part", range(PARTS))
def test_a_tenth_of_200_000_commands(part: int) -> None:
    agree(seed() + part, COMMANDS)
