"""The rule for outside tools, and how several processes share the tests out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from .conftest import _MACHINES, _ORDER, _OWN_CLUSTERS, find_tool
from .system.place import part_of_ports

NO_SUCH_TOOL = "hstore-no-such-program"


def test_a_tool_that_is_there_is_given_by_its_path() -> None:
    assert find_tool("sh", in_ci=True).endswith("/sh")


def test_a_missing_tool_skips_the_test_of_a_user() -> None:
    with pytest.raises(pytest.skip.Exception, match=NO_SUCH_TOOL):
        find_tool(NO_SUCH_TOOL, in_ci=False)


def test_a_missing_tool_fails_the_test_in_ci() -> None:
    with pytest.raises(pytest.fail.Exception, match=NO_SUCH_TOOL):
        find_tool(NO_SUCH_TOOL, in_ci=True)


def test_what_begins_first_and_together_is_there() -> None:
    root = Path(__file__).parent.parent

    assert [start for start in _ORDER if not (root / start).exists()] == []
    for name in (*_MACHINES, *_OWN_CLUSTERS):
        assert (root / "tests/system" / f"test_{name}.py").exists()


def test_those_that_have_their_own_clusters_do_not_start_the_shared_one_once_more() -> None:
    for name in (*_MACHINES, *_OWN_CLUSTERS):
        text = (Path(__file__).parent / "system" / f"test_{name}.py").read_text()
        assert "shared: Cluster" not in text


def test_processes_that_run_beside_each_other_take_no_port_of_each_other() -> None:
    parts = sorted(part_of_ports(f"gw{worker}") for worker in range(8))

    assert all(low < high <= next_low for (low, high), (next_low, _) in pairwise(parts))
    assert part_of_ports("")[0] == parts[0][0]
    assert part_of_ports("gw8") == part_of_ports("gw0")
