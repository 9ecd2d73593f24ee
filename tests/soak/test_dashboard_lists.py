"""The dashboard's lists as long as hstore allows, scrolled to their end by pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.cluster import Cluster
from tests.web.browser import Opened, chromium, new_context
from tests.web.large import make_up, scroll_through

STALL_MS_MAX = 1_000


@pytest.mark.parametrize(
    ("page", "path", "size"),
    [
        ("keys/many/", "/v1/ui/keys", 1_000_000),
        ("services/crowd", "/v1/ui/instances", 50_000),
        ("sessions", "/v1/ui/sessions", 50_000),
    ],
)
def test_the_longest_lists_are_scrolled_without_a_stall(
    three: Cluster,
    require_tool: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    page: str,
    path: str,
    size: int,
) -> None:
    require_tool("chromium")
    with chromium() as browser, new_context(browser) as context:
        make_up(context, path, size)
        opened = Opened(context, three.nodes[0].address)
        stall_ms = scroll_through(opened.go(f"#/{page}"), size)
    with capsys.disabled():
        print(f"\n{size:,} of {path}: the page was busy {stall_ms:.0f} ms at most", end="")

    assert stall_ms < STALL_MS_MAX
    assert opened.faults == []
