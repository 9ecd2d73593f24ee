"""The pages Services and Keys in a browser: every action, with its effect looked up through the API."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.system.cluster import Answer, Cluster, Node, eventually
from tests.web.browser import Opened, new_context
from tests.web.test_dashboard import AXE

BAD_NAME = "<img src=x onerror=document.title='hurt'>"


def put(node: Node, path: str, body: bytes | dict[str, Any] = b"") -> Answer:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    answer = node.request("PUT", path, data)
    assert answer.status == 200, answer
    return answer


def value(node: Node, key: str) -> bytes | None:
    answer = node.get(f"/v1/kv/{quote(key, safe='')}")
    return base64.b64decode(answer.json()[0]["Value"] or "") if answer.status == 200 else None


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def visit(opened: Opened, path: str) -> Page:
    """Open a page anew, also where it is the one that is open."""
    opened.go("#/sessions")
    return opened.go(path)


def to_the_end(page: Page, last: str) -> None:
    """Scroll a list to its end, page by page, until its last row is in sight."""

    def is_there() -> bool:
        page.evaluate("document.querySelector('.table-box').scrollTop = 1e9")
        return bool(row(page, last).count())

    eventually(is_there, f"{last} is in sight")


# -- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_opened_by_its_address_and_shown_as_json_text_and_hex(node, opened):
    put(node, "/v1/kv/a/b/json?flags=18446744073709551615", b'{"n":12345678901234567890,"n":[]}')
    page = visit(opened, "#/keys/a/b/json")
    expect(page.locator("pre.json")).to_have_text(
        '{\n  "n": 12345678901234567890,\n  "n": []\n}', use_inner_text=True
    )
    expect(page.locator("#key")).to_contain_text("18446744073709551615")
    page.get_by_role("button", name="Text").click()
    expect(page.locator("pre.value")).to_have_text('{"n":12345678901234567890,"n":[]}')
    page.get_by_role("button", name="Hex").click()
    expect(page.locator("pre.hex")).to_contain_text("000000  7b 22 6e 22")
    put(node, "/v1/kv/a/b/json", b"{oops")
    page.get_by_role("button", name="JSON").click()
    expect(page.locator("#key")).to_contain_text("This is no JSON")


def test_the_tree_is_walked_folder_by_folder_and_searched(node, opened):
    for key in ("tree/x/one", "tree/x/y/two", "tree/three"):
        put(node, f"/v1/kv/{key}", b"Some needle here" if key.endswith("two") else b"")
    page = visit(opened, "#/keys/")
    page.get_by_role("link", name="tree/").click()
    page.get_by_role("link", name="x/", exact=True).click()
    expect(page.get_by_role("link", name="one")).to_be_visible()
    expect(page.get_by_role("link", name="three")).to_have_count(0)
    page.get_by_label("Keys that begin with").fill("tree/th")
    expect(row(page, "three")).to_be_visible()
    page.get_by_label("Keys that begin with").fill("tree/")
    page.get_by_label("Key or value has").fill("NEEDLE")
    page.get_by_role("link", name="tree/x/y/two").click()
    expect(page.locator("#key pre.value")).to_have_text("Some needle here")


def test_a_key_is_created_edited_and_deleted(node, opened):
    page = visit(opened, "#/keys/")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill("made/by ä/hand?")
    dialog.get_by_label("Value").fill("first\n")
    dialog.get_by_role("button", name="Create").click()
    expect(page.locator("#key pre.value")).to_have_text("first\n", use_inner_text=True)
    assert value(node, "made/by ä/hand?") == b"first\n"

    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Value", exact=True).fill("second")
    page.get_by_label("Flags").fill("7")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#key pre.value")).to_have_text("second")
    assert value(node, "made/by ä/hand?") == b"second"
    [entry] = node.get(f"/v1/kv/{quote('made/by ä/hand?', safe='')}").json()
    assert entry["Flags"] == 7

    page.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog).to_contain_text("cannot be undone")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("#key")).to_contain_text("There is no such key")
    assert value(node, "made/by ä/hand?") is None


def test_a_key_that_is_there_is_not_made_anew(node, opened):
    put(node, "/v1/kv/taken", b"theirs")
    page = visit(opened, "#/keys/")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("dialog").get_by_label("Key", exact=True).fill("taken")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog")).to_contain_text("is there already")
    assert value(node, "taken") == b"theirs"


def test_a_change_by_someone_else_is_shown_and_never_overwritten(node, opened):
    put(node, "/v1/kv/shared", b"before")
    page = visit(opened, "#/keys/shared")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Value", exact=True).fill("mine")
    put(node, "/v1/kv/shared", b"theirs")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#key")).to_contain_text("Nothing was overwritten")
    expect(page.locator("#key")).to_contain_text("changed")
    expect(page.locator("#key .both")).to_contain_text("theirs")
    expect(page.locator("#key .both")).to_contain_text("mine")
    assert value(node, "shared") == b"theirs"

    # Mine is put over what was seen, and over nothing else.
    page.get_by_role("button", name="Go on with mine").click()
    put(node, "/v1/kv/shared", b"theirs again")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#key .both")).to_contain_text("theirs again")
    assert value(node, "shared") == b"theirs again"
    page.get_by_role("button", name="Go on with mine").click()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#key pre.value")).to_have_text("mine")
    assert value(node, "shared") == b"mine"


def test_a_key_that_changed_since_it_was_looked_at_is_not_deleted(node, opened):
    put(node, "/v1/kv/shared", b"before")
    page = visit(opened, "#/keys/shared")
    page.get_by_role("button", name="Delete", exact=True).click()
    put(node, "/v1/kv/shared", b"theirs")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("changed by someone else")
    assert value(node, "shared") == b"theirs"


@pytest.mark.parametrize("stored", [bytes(range(256)), b"a\r\nb\r", b"\xef\xbb\xbfmarked", b"\0"])
def test_no_byte_of_a_value_is_lost_by_an_edit(node, opened, stored):
    put(node, "/v1/kv/bytes", stored)
    page = visit(opened, "#/keys/bytes")
    page.get_by_role("button", name="Edit").click()
    area = page.get_by_label(re.compile("^Value"))
    page.get_by_label("Flags").fill("1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Edit")).to_be_visible()
    assert value(node, "bytes") == stored
    page.get_by_role("button", name="Edit").click()
    if area.get_attribute("aria-label") == "Value in hex":
        area.fill("00 ff\n0D")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("pre.hex")).to_contain_text("00 ff 0d")
        assert value(node, "bytes") == b"\0\xff\r"


def test_a_key_whose_name_a_browser_would_take_for_a_path_is_that_key(node, opened):
    put(node, "/v1/kv/dots%2F..%2Fkey", b"here")
    put(node, "/v1/kv/key", b"not here")
    page = visit(opened, "#/keys/dots/../key")
    expect(page.locator("#key pre.value")).to_have_text("here")


def test_names_and_values_are_text_and_never_html(node, opened):
    put(node, f"/v1/kv/{quote(BAD_NAME, safe='')}", f"<script>{BAD_NAME}</script>".encode())
    put(node, "/v1/agent/service/register", {
        "Name": BAD_NAME, "ID": BAD_NAME, "Tags": [BAD_NAME], "Meta": {},
        "Checks": [{"TTL": "1h", "Name": BAD_NAME, "Notes": BAD_NAME}],
    })  # fmt: skip
    page = visit(opened, "#/keys/")
    page.get_by_role("link", name=BAD_NAME).click()
    expect(page.locator("#key pre.value")).to_contain_text("<script>")
    visit(opened, f"#/services/{quote(BAD_NAME, safe='')}")
    expect(page.locator("#instance")).to_contain_text(BAD_NAME)
    page.goto(page.url.partition("#")[0] + "#/services")
    expect(page.get_by_role("link", name=BAD_NAME)).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    assert page.title() != "hurt"
    put(node, f"/v1/agent/service/deregister/{quote(BAD_NAME, safe='')}")


def test_keys_are_exported_as_consul_does_and_imported_by_compare_and_set(node, opened, tmp_path):
    put(node, "/v1/kv/moved/a?flags=18446744073709551615", b"\0\xff")
    put(node, "/v1/kv/moved/b", b"")
    page = visit(opened, "#/keys/moved/")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    exported = json.loads(download.value.path().read_bytes())
    assert exported == [
        {"key": "moved/a", "flags": 2**64 - 1, "value": "AP8="},
        {"key": "moved/b", "flags": 0, "value": ""},
    ]
    node.request("DELETE", "/v1/kv/moved/a")
    put(node, "/v1/kv/moved/b", b"changed")
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([*exported, {"key": "moved/c", "flags": 0, "value": "Yw=="}]))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import").click()
    chooser.value.set_files(file)
    page.get_by_role("dialog").get_by_role("button", name="Import").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        "2 created, 0 overwritten, 0 equal already, 1"
    )
    expect(page.get_by_role("dialog")).to_contain_text("moved/b")
    assert [value(node, f"moved/{name}") for name in "abc"] == [b"\0\xff", b"changed", b"c"]
    assert node.get("/v1/kv/moved/a").json()[0]["Flags"] == 2**64 - 1


def test_a_file_that_is_no_export_is_refused_whole(node, opened, tmp_path):
    page = visit(opened, "#/keys/")
    file = tmp_path / "keys.json"
    file.write_text(
        json.dumps([{"key": "bad/a", "flags": 0, "value": "YQ=="}, {"key": "bad/b", "value": "?"}])
    )
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import").click()
    chooser.value.set_files(file)
    expect(page.locator("#toasts")).to_contain_text("Nothing was imported")
    assert value(node, "bad/a") is None


def test_all_keys_below_a_folder_are_deleted_once_its_name_was_typed(node, opened):
    for key in ("gone/a", "gone/b/c", "goner"):
        put(node, f"/v1/kv/{key}", b"")
    page = visit(opened, "#/keys/gone/")
    page.get_by_role("button", name="Delete all below").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete all").click()
    expect(dialog).to_contain_text("type exactly gone/")
    dialog.get_by_label("Type gone/ to go on").fill("gone/")
    dialog.get_by_role("button", name="Delete all").click()
    expect(page.get_by_text("No key begins so")).to_be_visible()
    assert [value(node, key) for key in ("gone/a", "gone/b/c", "goner")] == [None, None, b""]


def test_who_holds_a_lock_is_shown(node, opened):
    session = put(node, "/v1/session/create", {"Name": "the deployer"}).json()["ID"]
    put(node, f"/v1/kv/locked?acquire={session}", b"")
    page = visit(opened, "#/keys/locked")
    expect(page.locator("#key")).to_contain_text("the deployer")
    expect(page.locator("#key")).to_contain_text(session)


def test_ten_thousand_keys_are_scrolled_without_a_stall(node, opened):
    for start in range(0, 10_000, 128):
        operations = [
            {"KV": {"Verb": "set", "Key": f"many/{n:05}", "Value": ""}}
            for n in range(start, min(start + 128, 10_000))
        ]
        put(node, "/v1/txn", json.dumps(operations).encode())
    page = visit(opened, "#/keys/many/")
    expect(row(page, "00000")).to_be_visible()
    page.evaluate("""() => {
      window.longest = 0;
      let last = performance.now();
      const beat = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; setTimeout(beat, 0); };
      beat();
    }""")
    to_the_end(page, "09999")
    expect(page.get_by_text("10,000 entries, all of them")).to_be_visible()
    assert page.locator(".table-box tr").count() < 200
    # The machine may be busy with all the other tests: a stall that a person sees is a second and more.
    assert page.evaluate("window.longest") < 1_000


# -- services -----------------------------------------------------------------------------------------


@pytest.fixture
def web(node: Node) -> Iterator[Callable[..., dict[str, Any]]]:
    """A service of two instances; returns what the API says of one."""
    for n in (1, 2):
        put(node, "/v1/agent/service/register", {
            "Name": "web", "ID": f"web/{n}", "Port": 8080 + n, "Tags": ["blue", f"n{n}"],
            "Checks": [{"CheckID": f"c{n}", "Name": f"check {n}", "TTL": "1h", "Status": "passing"}],
        })  # fmt: skip

    def found() -> dict[str, Any]:
        entries = node.get("/v1/health/service/web").json()
        return {entry["Service"]["ID"]: entry for entry in entries}

    yield found
    for n in (1, 2):
        node.request("PUT", f"/v1/agent/service/deregister/web%2F{n}")


def test_services_are_filtered_by_name_status_and_tag(node, opened, web):
    put(node, "/v1/agent/service/register", {"Name": "other", "Tags": ["green"]})
    put(node, "/v1/agent/check/warn/c2?note=slow")
    page = visit(opened, "#/services")
    expect(row(page, "web")).to_contain_text("1 warning")
    page.get_by_role("button", name="warning").click()
    expect(row(page, "other")).to_have_count(0)
    expect(row(page, "web")).to_be_visible()
    page.get_by_role("button", name="all").click()
    page.get_by_label("Tag is").fill("green")
    expect(row(page, "web")).to_have_count(0)
    expect(row(page, "other")).to_be_visible()
    page.get_by_label("Tag is").fill("")
    page.get_by_label("Name has").fill("WE")
    expect(row(page, "web")).to_be_visible()
    expect(row(page, "other")).to_have_count(0)
    put(node, "/v1/agent/service/deregister/other")


def test_an_instance_shows_its_checks_and_what_changes_while_one_looks(node, opened, web):
    page = visit(opened, "#/services")
    page.get_by_role("link", name="web", exact=True).click()
    expect(page.locator("#instance")).to_contain_text("check 1")
    row(page, "web/2").click()
    expect(page.locator("#instance")).to_contain_text("check 2")
    put(node, "/v1/agent/check/fail/c2?note=it%20burns")
    expect(page.locator("#instance pre").filter(has_text="it burns")).to_be_visible()
    expect(page.locator(".history")).to_contain_text("passing →")
    expect(page.locator(".history")).to_contain_text("it burns")
    assert web()["web/2"]["Checks"][-1]["Status"] == "critical"


def test_an_instance_is_put_into_maintenance_and_out_of_it(node, opened, web):
    page = visit(opened, "#/services/web")
    row(page, "web/2").click()
    page.get_by_role("button", name="Maintenance").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("stop naming web/2")
    dialog.get_by_label("Reason").fill("new disks & more")
    dialog.get_by_role("button", name="Put into maintenance").click()
    expect(page.get_by_role("button", name="End maintenance")).to_be_visible()
    checks = {check["CheckID"]: check for check in web()["web/2"]["Checks"]}
    assert checks["_service_maintenance:web/2"]["Notes"] == "new disks & more"
    page.get_by_role("button", name="End maintenance").click()
    dialog.get_by_role("button", name="End maintenance").click()
    expect(page.get_by_role("button", name="Maintenance", exact=True)).to_be_visible()
    assert "_service_maintenance:web/2" not in str(web())


def test_an_instance_is_deregistered(node, opened, web):
    page = visit(opened, "#/services/web")
    row(page, "web/2").click()
    page.get_by_role("button", name="Deregister").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("removed from the catalog")
    dialog.get_by_role("button", name="Back").click()
    assert set(web()) == {"web/1", "web/2"}
    page.get_by_role("button", name="Deregister").click()
    dialog.get_by_role("button", name="Deregister").click()
    expect(row(page, "web/2")).to_have_count(0)
    expect(page.locator(".history")).to_contain_text("was deregistered")
    assert set(web()) == {"web/1"}


def test_a_service_of_many_instances_comes_by_pages(node, opened):
    for n in range(210):
        put(node, "/v1/agent/service/register", {"Name": "crowd", "ID": f"c{n:03}"})
    page = visit(opened, "#/services/crowd")
    expect(row(page, "c000")).to_be_visible()
    to_the_end(page, "c209")
    row(page, "c209").click()
    expect(page.locator("#instance")).to_contain_text("c209 on")
    page.get_by_label("ID or node has").fill("C20")
    expect(row(page, "c199")).to_have_count(0)
    row(page, "c201").click()
    page.get_by_role("button", name="Deregister").click()
    page.get_by_role("dialog").get_by_role("button", name="Deregister").click()
    expect(row(page, "c201")).to_have_count(0)
    assert len(node.get("/v1/health/service/crowd").json()) == 209


def test_what_is_opened_is_right_for_those_who_do_not_see_it(node, opened, web):
    put(node, "/v1/kv/axe/json", b'{"a":1}')
    put(node, "/v1/kv/axe/bytes", b"\0\xff")
    serious = {}
    for path, shown in (
        ("#/keys/axe/json", "pre.json"), ("#/keys/axe/bytes", "pre.hex"),
        ("#/services/web", "#instance .checks"),
    ):  # fmt: skip
        page = visit(opened, path)
        expect(page.locator(shown)).to_be_visible()
        page.evaluate(AXE)
        serious[path] = page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations"
            ".filter((v) => ['serious', 'critical'].includes(v.impact))"
            ".map((v) => v.id + ': ' + v.nodes.map((n) => n.target.join(' ')).join(', ')))"
        )
    assert [found for found in serious.values() if found] == []


# -- what a browser and a node are -------------------------------------------------------------------


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.nodes[0]


@pytest.fixture(scope="module")
def _page(browser: Browser, _three: Cluster) -> Iterator[Opened]:
    """One page for all tests here: to make one for each takes longer than the tests."""
    context = new_context(browser)
    opened = Opened(context, _three.nodes[0].address)
    opened.page.set_default_timeout(8_000)
    yield opened
    context.close()


@pytest.fixture
def opened(_page: Opened) -> Iterator[Opened]:
    """The page, in which nothing may have gone wrong at the end of a test."""
    yield _page
    if _page.page.get_by_role("dialog").count():
        _page.page.keyboard.press("Escape")
    faults, _page.faults = _page.faults, []
    assert faults == []
