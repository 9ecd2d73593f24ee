"""A million spoilt packets for the DNS server; `HSTORE_SEED` sets the seed of the first part."""

from __future__ import annotations

import pytest

from tests.dns.fuzz import run
from tests.dns.test_fuzz import seed

PARTS = 10
PACKETS = 100_000


@pytest.mark.parametrize("part", range(PARTS))
def test_a_tenth_of_a_million_packets(part: int) -> None:
    run(seed() + part, PACKETS)
