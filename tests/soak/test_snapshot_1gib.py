"""A node that is 1 GiB behind catches up while the leader serves; the figures are printed."""

from __future__ import annotations

import pytest

from tests.system.catch_up import Figures, catch_up, is_same
from tests.system.cluster import Cluster

VALUE_BYTES = 4096
KEYS = (1 << 30) // VALUE_BYTES
GROWTH_MIB = 100


@pytest.mark.parametrize(
    ("per_second", "served_bytes"), [(100, 256), (0, 4096)], ids=["paced", "as many as it takes"]
)
def test_a_node_1_gib_behind_catches_up_while_the_leader_serves(
    per_second: int, served_bytes: int, three: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"big/{number:07}" for number in range(KEYS)]
    figures = catch_up(
        three,
        keys,
        VALUE_BYTES,
        quiet_s=15,
        per_second=per_second,
        served_bytes=served_bytes,
        within=600,
    )
    with capsys.disabled():
        print("\n" + said(figures))

    assert is_same(three, keys[::97], VALUE_BYTES)
    assert figures.meanwhile.failed == 0
    assert figures.leader_growth < GROWTH_MIB
    assert figures.member_growth < GROWTH_MIB


def said(figures: Figures) -> str:
    """Return the figures for people."""
    before, meanwhile = figures.before, figures.meanwhile
    return "\n".join([
        f"caught up in {figures.seconds:.1f} s, by {figures.snapshots} snapshots",
        f"memory: leader {figures.leader_growth:+.0f} MiB, member {figures.member_growth:+.0f} MiB",
        *(
            f"writes {when}: {len(served.times)}, median {served.percentile_ms(50):.1f} ms,"
            f" p99 {served.percentile_ms(99):.1f} ms, longest {served.percentile_ms(100):.1f} ms"
            for when, served in (("before", before), ("meanwhile", meanwhile))
        ),
    ])  # fmt: skip
