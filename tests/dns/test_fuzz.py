"""The fuzz of `fuzz.py`, as long as every test run can afford; `make soak` has the long one."""

from __future__ import annotations

import os
import random

import pytest

from .fuzz import Wrong, check, run
from .kit import opt, query

PACKETS = 8_000
"""Other ones in each run; `make soak` sends a million (`tests/soak/test_dns_fuzz.py`)."""


def seed() -> int:
    """The same on CI each time, another one here; `HSTORE_SEED` says which."""
    drawn = 1 if os.environ.get("CI") == "true" else random.SystemRandom().randrange(1 << 32)
    return int(os.environ.get("HSTORE_SEED", drawn))


def test_spoilt_packets_neither_stop_the_server_nor_get_more_than_the_limits_allow():
    run(seed(), PACKETS)


HEADER = b"\x12\x34\x81\0\0\1\0\0\0\0\0\0"
QUESTION = query()[12:]


@pytest.mark.parametrize(
    ("packet", "reply", "over_tcp"),
    [
        (query(flags=0x8000), HEADER + QUESTION, False),
        (query()[:11], HEADER, False),
        (query(), None, False),
        (query(), b"\x12\x35" + HEADER[2:] + QUESTION, False),
        (query(), HEADER[:2] + b"\x01" + HEADER[3:] + QUESTION, False),
        (query(), HEADER[:2] + b"\x89" + HEADER[3:] + QUESTION, False),
        (query(), HEADER + QUESTION[:-1] + b"\2", False),
        (query(), HEADER + QUESTION + bytes(512), False),
        (query(additional=opt(600)), HEADER + QUESTION + bytes(601), False),
        (query(additional=opt(4096)), HEADER + QUESTION + bytes(1232), False),
        (query(), HEADER + QUESTION + bytes(65536), True),
    ],
)
def test_the_fuzz_sees_what_it_is_to_see(packet, reply, over_tcp):
    with pytest.raises(Wrong):
        check(packet, reply, over_tcp=over_tcp, may_be_silent=False)
    good = HEADER + QUESTION
    check(query(), good, over_tcp=False, may_be_silent=False)
