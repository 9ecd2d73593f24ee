"""What the dashboard says in times of trouble, in Chromium: of lags, of members that are gone, without a leader."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .browser import feed, new_context
from .states import STATES, node
from .states import cluster as told_cluster

_REFUSED = re.compile(r"console: Failed to load resource: .* 50[03] ")

_UNKNOWN = "\u2013"

_BUSY = """
// 8,000 writes a second; what the others have applied is told as it was %d ms before.
window.told = 0;
Object.defineProperty(window, 'fed', {set() {}, get() {
  window.told += 1;
  const now = 1e6 + Math.round(8 * performance.now()), told = %s;
  told.nodes.forEach((one, at) => Object.assign(one, {
    writes_per_s: 8000, commit_index: now, applied_index: at ? now - 8 * %d : now}));
  return told;
}});
"""


def three(third: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a cluster of three as it would be told; `more` of its leader."""
    return told_cluster(node("n1", "leader", **more), node("n2"), third or node("n3"))


def busy(told: str, age_ms: int) -> str:
    """Return a script by which a page is fed with a cluster that writes all the time."""
    return _BUSY % (age_ms, told, age_ms)


@pytest.mark.parametrize(("age_ms", "says"), [(450, "All is well"), (5_000, "Well, with doubts")])
def test_a_member_whose_figures_are_older_than_those_of_the_leader_does_not_lag_for_that(
    browser, cluster, age_ms, says
):
    with new_context(browser) as context:
        context.add_init_script(busy(json.dumps(three()), age_ms))
        feed(context, three())
        page = context.new_page()
        page.goto(f"http://{cluster.nodes[0].address}/ui/")
        heads = set()
        for told in range(1, 5):
            page.wait_for_function("told => window.told > told", arg=told)
            heads.add(page.locator(".verdict .head").inner_text().split("\n")[-1])
        lag = page.locator(".figure", has_text="Largest lag").locator(".value").inner_text()

    assert heads == {says}
    assert (lag == "0") is (age_ms < 1_000)


def test_what_a_failed_member_did_is_not_shown_as_what_it_does(browser, cluster):
    told, _ = STATES["lost-node"]
    dead = {**told["nodes"][-1], "writes_per_s": 41.7, "fsync_ms": 0.8, "applied_index": 80_000}
    with new_context(browser) as context:
        feed(context, {**told, "nodes": [*told["nodes"][:-1], dead]})
        page = context.new_page()
        page.goto(f"http://{cluster.nodes[0].address}/ui/")
        row = page.locator("#members tbody tr", has_text="failed")
        expect(row).to_contain_text("34 s ago")
        for title in ("Lag", "Writes", "Flush", "Disk free"):
            expect(row.locator(f"td[data-title='{title}']")).to_have_text(_UNKNOWN)
        page.get_by_role("button", name="Details and actions of n5").click()
        buttons = page.locator("dialog button").all_inner_texts()

    assert "Rename" in buttons
    assert "Hand over the lead" not in buttons


def test_a_voter_that_was_stopped_is_an_alarm_where_no_other_may_fail(browser, cluster):
    told = three(node("n3", health="stopped"), alarms=["no_quorum_margin"])
    with new_context(browser) as context:
        feed(context, told)
        page = context.new_page()
        page.goto(f"http://{cluster.nodes[0].address}/ui/")
        expect(page.locator(".alarms")).to_contain_text("n3 is stopped")
        expect(page.locator(".alarms")).to_contain_text("no other voter may fail")


def test_without_a_leader_every_page_says_so_and_no_action_claims_more_than_is_known(
    opened, cluster
):
    here, *others = cluster.nodes
    at = opened(here.address, "#/keys/")
    page = at.page
    expect(page.locator("#link-state")).to_have_text("live")
    expect(page.locator("#leaderless")).to_be_hidden()
    for other in others:
        other.kill()
    for name in ("Services", "Sessions", "Keys"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.locator("#leaderless")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill("without/a/leader")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator(".note.bad")).to_contain_text("nothing was changed", timeout=15_000)
    page.keyboard.press("Escape")
    page.locator("#leaderless").get_by_role("link", name="Cluster").click()
    expect(page.locator(".verdict")).to_contain_text("1 more voter must come back")
    expect(page.locator("#leaderless")).to_be_hidden()
    at.faults[:] = [fault for fault in at.faults if not _REFUSED.match(fault)]


def test_a_page_that_could_not_be_loaded_is_there_when_its_node_is_back(opened, cluster):
    lost = cluster.followers()[-1]
    page = opened(lost.address).page
    expect(page.locator("#link-state")).to_have_text("live")
    lost.kill()
    expect(page.locator("#link-state")).to_have_text("lost")
    page.get_by_role("link", name="Keys", exact=True).click()
    expect(page.locator("main")).to_contain_text("It is loaded when that is back")
    lost.start()
    expect(page.get_by_label("Keys that begin with")).to_be_visible(timeout=20_000)


def test_an_address_of_no_page_says_so(opened, cluster):
    page = opened(cluster.nodes[0].address, "#/nonsense/<b>x").page
    expect(page.locator("main")).to_contain_text("Nothing is called nonsense")
    page.get_by_role("link", name="Go to Cluster").click()
    expect(page.locator("#members tbody tr")).to_have_count(3)


# -- figures and lists as they are seen ---------------------------------------------------------------


def fits(page: Page) -> bool:
    """Whether each chart is as wide as its place."""
    return bool(
        page.evaluate(
            "[...document.querySelectorAll('.plot')].every((plot) => !plot.clientWidth"
            " || plot.querySelector('.uplot').offsetWidth === plot.clientWidth)"
        )
    )


def test_charts_stay_as_wide_as_their_place_when_they_are_built_anew(opened, cluster):
    page = opened(cluster.nodes[0].address, "#/statistics").page
    expect(page.locator(".plot canvas")).to_have_count(10)
    page.wait_for_function("document.querySelector('.uplot').offsetWidth !== 320")
    page.get_by_role("button", name="Together").click()
    expect(page.locator(".chart", has_text="Requests").locator(".u-legend")).to_contain_text("all")
    assert fits(page)
    page.locator("#theme").click()
    assert fits(page)


def test_the_legend_shows_each_line_by_its_dashes_too(opened, cluster):
    page = opened(cluster.nodes[0].address, "#/statistics").page
    marks = page.locator(".chart", has_text="Requests").locator(".u-legend .u-marker path")
    expect(marks).to_have_count(3)
    dashes = [mark.get_attribute("stroke-dasharray") for mark in marks.all()]
    assert len(set(dashes)) == 3


def test_on_a_telephone_no_column_of_a_list_is_cut_off(opened, cluster):
    first, name = cluster.nodes[0], "a-name-as-long-as-they-often-are"
    told = json.dumps({"Name": name, "Tags": ["a", "b"]}).encode()
    first.request("PUT", "/v1/agent/service/register", told)
    told = json.dumps({"Name": name, "TTL": "3600s"}).encode()
    first.request("PUT", "/v1/session/create", told)
    page = opened(first.address, width="360").page
    for path, shown in (
        ("services", name),
        (f"services/{name}", "passing"),
        ("sessions", "Destroy"),
        ("keys", "Revision"),
    ):
        page.goto(f"http://{first.address}/ui/#/{path}")
        box = page.locator(".table-box").first
        expect(box).to_contain_text(shown)
        wider = box.evaluate("(box) => box.scrollWidth - box.clientWidth")
        assert wider <= 0, f"{path} is cut off by {wider} px"
    first.request("PUT", f"/v1/agent/service/deregister/{name}")


def test_what_is_known_of_a_member_stands_line_by_line(opened, cluster):
    page = opened(cluster.nodes[0].address).page
    page.get_by_role("button", name="Details and actions of n2", exact=True).click()
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        lefts = page.evaluate(
            "['dt', 'dd'].map((tag) => [...document.querySelectorAll(`dialog .facts ${tag}`)]"
            ".map((one) => Math.round(one.getBoundingClientRect().left)))"
        )
        names, values = lefts
        assert len(names) == len(values) > 8
        assert len(set(names)) == len(set(values)) == 1
        assert names[0] < values[0]


def test_a_setting_that_is_refused_is_named_as_it_is_written(opened, cluster):
    at = opened(cluster.nodes[0].address)
    at.page.get_by_role("button", name="Change dns_ttl", exact=True).click()
    at.page.get_by_label("New value").fill("often")
    at.page.locator("dialog").get_by_role("button", name="Change", exact=True).click()
    expect(at.page.locator("dialog .note.bad")).to_have_text(re.compile("^dns_ttl: 'often'"))
    at.faults.clear()  # The browser says of each answer that it is an error.


def test_the_dig_line_asks_for_the_name_whatever_dig_might_take_it_for(opened, cluster):
    first = cluster.nodes[0]
    page = opened(first.address, "#/dns").page
    at = f"dig @127.0.0.1 -p {first.dns_port}"
    for name, kind, line in (
        ("+short", "A", f"{at} -q '+short' -t A"),
        ("mx", "MX", f"{at} -q mx -t MX"),
        ("hstore.local", "MX", f"{at} hstore.local MX"),
    ):
        page.get_by_label("Name").fill(name)
        page.get_by_label("Type").select_option(kind)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".command code")).to_have_text(line)
    page.get_by_label("Type").select_option("ANY")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".dns-result")).to_contain_text('"RFC8482" ""')
