"""The sign-in in Chromium, before a node behind a door that wants a token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.system.cluster import Cluster, eventually

from .browser import Opened, new_context
from .closed_door import Door, closed_door

TOKEN = "5b1c0c4e-7c5a-4a53-9a4a-2f3e0a5d3c11"
# The browser itself says these of every answer that is an error.
REFUSED = re.compile(r"console: Failed to load resource: .* 403 \(Forbidden\)")


@pytest.fixture
def door(cluster: Cluster) -> Iterator[Door]:
    with closed_door(cluster.nodes[0].address, TOKEN) as door:
        yield door


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with new_context(browser) as context:
        yield context


@pytest.fixture
def tab(context: BrowserContext, door: Door) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a tab; nothing but refusals may have gone wrong in any at the end."""
    tabs: list[Opened] = []

    def open_tab(path: str = "#/cluster") -> Page:
        tabs.append(Opened(context, door.address))
        return tabs[-1].go(path)

    yield open_tab
    faults = [fault for one in tabs for fault in one.faults if not REFUSED.match(fault)]
    assert faults == []


def sign_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()


def assert_live(page: Page) -> None:
    expect(page.locator("#link-state")).to_have_text("live")
    expect(page.locator("#members tbody tr")).to_have_count(3)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_who_shows_no_token_is_asked_for_one_and_then_sees_all(tab, door, pictures):
    page = tab()
    form = page.get_by_role("dialog")
    expect(form).to_contain_text("hstore acl token create")
    expect(page.locator("#link-state")).to_have_text("no access")
    assert page.get_by_label("Access token").get_attribute("type") == "password"
    page.screenshot(path=pictures / "signin.png")
    sign_in(page, "a-wrong-one")
    expect(form.get_by_role("alert")).to_contain_text("does not know this token")
    sign_in(page)
    assert_live(page)

    # It goes as a header, also with the stream, and is nowhere that outlives the tab.
    assert ("/v1/ui/stream", TOKEN) in door.seen
    assert not [path for path, _ in door.seen if TOKEN in path]
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert TOKEN not in kept + page.url


def test_a_new_tab_gets_the_token_and_all_tabs_share_one_stream(tab, door):
    sign_in(tab())
    tabs = [tab() for _ in range(7)]  # One more than the connections that Chromium gives an origin.
    for page in tabs:
        assert_live(page)
    assert door.streams == 1
    # None of them hangs: each is still answered.
    tabs[-1].get_by_role("link", name="Sessions").click()
    expect(tabs[-1].locator("main")).to_contain_text("session")


def test_who_signs_out_sees_nothing_any_more_in_any_tab(tab, door):
    first = tab()
    sign_in(first)
    assert_live(first)
    second = tab()
    assert_live(second)
    first.get_by_role("button", name="Sign out").click()
    for page in (first, second):
        expect(page.get_by_label("Access token")).to_be_visible()
        expect(page.locator("#members tbody tr")).to_have_count(0)
    eventually(lambda: door.streams == 0, "the stream ends")


def test_a_token_that_is_revoked_is_asked_for_anew(tab, door):
    page = tab()
    sign_in(page)
    assert_live(page)
    door.token = "another-one"
    expect(page.get_by_role("dialog")).to_contain_text("has ended, or was revoked")
    sign_in(page, "another-one")
    assert_live(page)


def test_a_form_that_was_closed_comes_back_by_its_button_alone(tab):
    page = tab("#/sessions")
    expect(page.get_by_label("Access token")).to_be_visible()
    page.keyboard.press("Escape")
    asked = "Permission denied: anonymous token"
    expect(page.locator("main").get_by_role("alert")).to_contain_text(asked)
    with page.expect_response("**/v1/ui/sessions*"):
        page.get_by_role("button", name="Try again").click()
    page.wait_for_timeout(400)
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Sign in").click()
    sign_in(page)
    expect(page.locator("main").get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_what_no_token_would_open_asks_for_none(opened, cluster):
    at = opened(cluster.nodes[0].address)
    said = "Permission denied: only a program on the node's own machine may do this"
    at.page.route("**/v1/ui/sessions*", lambda route: route.fulfill(status=403, body=said))
    at.go("#/sessions")
    expect(at.page.locator("main").get_by_role("alert")).to_contain_text("own machine")
    at.page.wait_for_timeout(400)  # Longer than a form waits for the token of another tab.
    expect(at.page.get_by_role("dialog")).to_have_count(0)
    expect(at.page.locator("#sign")).to_be_hidden()
    at.faults.clear()
