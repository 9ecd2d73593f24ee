"""200,000 random registrations and transactions; `HSTORE_SEED` sets the first seed.

Two machines carry out each tenth in other batches, one of them is made anew from the records of the
other now and then (as by a restart or a snapshot), and a process with another hash seed does it all
again.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.dns.test_fuzz import seed
from tests.node.state.test_catalog_random import agree

PARTS = 10
COMMANDS = 20_000

_PROGRAM = "from tests.node.state.test_catalog_random import agree; print(agree({}, {}))"


@pytest.mark.parametrize("part", range(PARTS))
def test_a_tenth_of_200_000_commands(part: int) -> None:
    first = seed() + part
    program = _PROGRAM.format(first, COMMANDS)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": str(part + 1)},
    ) as other:
        here = agree(first, COMMANDS)
        there, _ = other.communicate()
    assert there.strip() == here
