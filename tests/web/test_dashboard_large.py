"""Lists of thousands in Chromium. `tests/soak/test_dashboard_lists.py` has them as long as they may be."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from .browser import Opened, new_context
from .large import make_up, scroll_through

ROWS_MAX = 200
STALL_MS_MAX = 1_000
"""What a person would see. The machine may be busy with all the other tests."""


@pytest.mark.parametrize(
    ("page", "path", "size", "last"),
    [
        ("keys/many/", "/v1/ui/keys", 20_000, "0019999"),
        ("services/crowd", "/v1/ui/instances", 5_000, "i0004999"),
        ("sessions", "/v1/ui/sessions", 1_200, "s0001199"),
    ],
)
def test_a_long_list_is_scrolled_to_its_end_by_pages_without_a_stall(
    browser, cluster, page, path, size, last
):
    with new_context(browser) as context:
        make_up(context, path, size)
        opened = Opened(context, cluster.nodes[0].address)
        shown = opened.go(f"#/{page}")
        stall_ms = scroll_through(shown, size)
        expect(shown.locator(".table-box").get_by_text(last, exact=True)).to_be_visible()

        assert shown.locator(".table-box tr").count() < ROWS_MAX
        assert stall_ms < STALL_MS_MAX
