"""A limit of open files is divided so that no client takes the last one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.dns.recursor import IN_FLIGHT_MAX
from hstore.dns.streams import TCP_CONNECTIONS_MAX
from hstore.node.api.http.server import CONNECTIONS_MAX, REFUSALS_MAX, STREAMS_MAX
from hstore.node.errors import ConfigError
from hstore.node.peers.links import _MAX_ACCEPTED
from hstore.node.process.descriptors import _WANTED, NEEDED, divide
from hstore.node.storage.options import TABLES_OPEN


@given(st.integers(NEEDED, 1 << 20), st.booleans())
def test_the_shares_of_any_limit_fit_into_it_and_each_part_has_one(limit, is_forwarding):
    shares = divide(limit, is_forwarding=is_forwarding)
    uses = shares.by_use()
    assert sum(uses.values()) <= limit
    assert all(count > 0 for use, count in uses.items() if use != "recursors" or is_forwarding)
    assert shares.tables >= 20, "RocksDB takes no fewer"
    assert shares.requests >= 20


@given(st.integers(NEEDED, 1 << 16))
def test_a_higher_limit_never_makes_a_share_smaller(limit):
    less, more = (divide(one, is_forwarding=True).by_use() for one in (limit, limit + 1))
    fixed = ("own", "database", "peers", "dns", "recursors")
    assert all(more[use] >= less[use] for use in fixed)


def test_the_usual_raised_limit_gives_every_part_all_that_it_can_use():
    shares = divide(_WANTED, is_forwarding=True)
    assert shares.tables == TABLES_OPEN
    assert shares.peers == _MAX_ACCEPTED
    assert shares.dns == TCP_CONNECTIONS_MAX
    assert shares.recursors == IN_FLIGHT_MAX
    assert (shares.requests, shares.streams) == (CONNECTIONS_MAX, STREAMS_MAX)
    assert shares.refused == REFUSALS_MAX


@pytest.mark.parametrize("limit", [0, 64, 128, NEEDED - 1])
def test_a_limit_that_is_too_low_is_an_error_with_the_number_that_is_needed(limit):
    with pytest.raises(ConfigError, match=f"{limit} files at once, and a node needs {NEEDED}"):
        divide(limit, is_forwarding=False)
