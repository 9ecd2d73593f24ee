"""The dashboard's lists: all pages together are what a plain model says, and no page costs much."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.api import browse, paging
from hstore.node.api.http.answers import HttpError
from hstore.node.model.commands import Delete, Put
from hstore.node.state.machine import Item
from tests.node.api.conftest import FakeBackend
from tests.node.api.consul.catalogs import Catalog
from tests.node.api.consul.conftest import OWN, StateBackend


class Asked:
    """A node whose pages are asked for without HTTP; counts what was read and how often it rested."""

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        self.rests = 0
        self.items = 0
        self.between: Callable[[], None] = lambda: None

    async def slice(self, _size: int = 0) -> None:
        self.rests += 1

    @property
    def applied_index(self) -> int:
        return self.backend.applied_index

    def view(self) -> Any:
        reader = self.backend.view()
        scan = reader.scan

        def counted(prefix: bytes, after: bytes | None) -> Iterator[Item]:
            for item in scan(prefix, after):
                self.items += 1
                yield item

        reader.scan = counted  # type: ignore[attr-defined]
        return reader

    def page(self, handler: Callable[..., Any], **query: Any) -> dict[str, Any]:
        exchange: Any = SimpleNamespace(keys=self, turn=self, slice=self.slice)
        request: Any = SimpleNamespace(query=urlencode(query).encode())
        answer: bytes = trio.run(handler, exchange, request, b"")
        assert all(reader.is_closed for reader in self.backend.readers)
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    def all(self, handler: Callable[..., Any], name: str, **query: Any) -> list[dict[str, Any]]:
        """Return the entries of all pages."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.page(handler, **query, **after)
            assert len(page[name]) <= query.get("limit", paging.LIMIT_DEFAULT)
            found += page[name]
            if page["next"] is None:
                return found
            assert page["next"] != after.get("after")
            after = {"after": page["next"]}
            self.between()


def with_keys(*keys: str) -> Asked:
    backend = FakeBackend()
    for key in keys:
        backend.set(key.encode(), b"-")
    return Asked(backend)


# -- keys ---------------------------------------------------------------------------------------------

KEYS = st.text(st.sampled_from("aB/é"), min_size=1, max_size=6)
SEPARATORS = st.sampled_from(["/", "", "//", "a", "é"])
LITTLE_WORK = st.sampled_from([1, 10, 100, paging.WORK_MAX])


def modelled(keys: set[str], prefix: str, separator: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        at = key.find(separator, len(prefix)) if separator else -1
        entry = {"key": key} if at < 0 else {"folder": key[: at + len(separator)]}
        if entry not in found:
            found.append(entry)
    return found


def named(entries: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: one[name] for name in ("key", "folder") if name in one} for one in entries]


@given(st.sets(KEYS, max_size=30), st.just("") | KEYS, SEPARATORS, st.integers(1, 5), LITTLE_WORK)
def test_the_pages_of_a_tree_are_what_a_plain_walk_finds(keys, prefix, separator, limit, work):
    asked = with_keys(*keys)
    with mock.patch.object(paging, "WORK_MAX", work):
        found = asked.all(browse.keys, "entries", prefix=prefix, separator=separator, limit=limit)
    assert named(found) == modelled(keys, prefix, separator)


@given(st.sets(KEYS, max_size=20), st.text(st.sampled_from("aBb/é"), min_size=1, max_size=3),
       st.integers(1, 5), LITTLE_WORK)  # fmt: skip
def test_the_pages_of_a_search_are_the_keys_that_have_the_text(keys, text, limit, work):
    asked = with_keys(*keys)
    with mock.patch.object(paging, "WORK_MAX", work):
        found = asked.all(browse.keys, "entries", text=text, separator="/", limit=limit)
    wanted = text.encode().lower()
    assert [one["key"].encode() for one in found] == sorted(
        key.encode() for key in keys if wanted in key.encode().lower()
    )


@given(st.sets(KEYS, min_size=1), st.lists(st.tuples(KEYS, st.booleans())), SEPARATORS, LITTLE_WORK)
def test_what_is_there_all_the_time_is_on_one_page_whatever_changes(keys, changes, separator, work):
    asked = with_keys(*keys)
    left = [change for change in changes if change[0] not in keys]

    def change() -> None:
        for key, is_put in left[:3]:
            command = Put(key.encode(), b"") if is_put else Delete(key.encode())
            asked.backend.apply(command)
        del left[:3]

    asked.between = change
    with mock.patch.object(paging, "WORK_MAX", work):
        found = named(asked.all(browse.keys, "entries", separator=separator, limit=2))
    names = [(one.get("key") or one["folder"]).encode() for one in found]
    assert names == sorted(set(names))
    assert all(one in found for one in modelled(keys, "", separator))


def test_a_folder_is_passed_over_without_a_look_at_its_keys():
    asked = with_keys("a", *(f"{folder}/{n}" for folder in "bcd" for n in range(400)), "e")
    page = asked.page(browse.keys, separator="/")
    assert named(page["entries"]) == [
        {"key": "a"}, {"folder": "b/"}, {"folder": "c/"}, {"folder": "d/"}, {"key": "e"}
    ]  # fmt: skip
    assert asked.items == 5


def test_a_search_that_finds_nothing_ends_its_page_and_rests_on_its_way():
    asked = with_keys(*(f"k{n:05}" for n in range(paging.WORK_MAX // browse.KEY_WORK + 100)))
    page = asked.page(browse.keys, text="nowhere")
    assert page["entries"] == []
    assert page["next"] is not None
    assert asked.items <= paging.WORK_MAX // browse.KEY_WORK + 2
    assert asked.rests >= paging.WORK_MAX // paging.WORK_PER_SLICE - 1
    assert asked.page(browse.keys, text="nowhere", after=page["next"])["next"] is None


def test_a_large_value_costs_what_it_weighs():
    backend = FakeBackend()
    for n in range(100):
        backend.set(b"k%d" % n, bytes(1 << 20))
    asked = Asked(backend)
    asked.page(browse.keys, text="nowhere")
    assert asked.items <= paging.WORK_MAX // (browse.KIB_WORK << 10) + 2


def test_a_search_finds_what_a_value_says_too_and_tells_where():
    backend = FakeBackend()
    backend.set(b"one", b"\xff\x00 Needle \xfe")
    backend.set(b"needle", b"")
    page = Asked(backend).page(browse.keys, text="nEEDLE")
    assert [(one["key"], one.get("found")) for one in page["entries"]] == [
        ("needle", None), ("one", "value")
    ]  # fmt: skip


def test_a_key_shows_its_size_revision_and_flags():
    backend = FakeBackend()
    backend.set(b"k", b"12345", flags=2**64 - 1)
    [entry] = Asked(backend).page(browse.keys)["entries"]
    assert entry == {
        "key": "k", "bytes": 5, "revision": backend.applied_index, "flags": 2**64 - 1,
        "locked": False,
    }  # fmt: skip


def test_a_page_is_no_longer_than_a_slice_and_one_entry():
    asked = with_keys(*(f"{n:03}" + "é" * 1500 for n in range(100)))
    page = asked.page(browse.keys, limit=500)
    assert 1 < len(page["entries"]) < 40
    assert len(asked.all(browse.keys, "entries", limit=500)) == 100


# -- services -----------------------------------------------------------------------------------------


def worst(statuses: list[str]) -> str:
    return next(one for one in ("critical", "warning", "passing") if one in [*statuses, "passing"])


NAMES = st.sampled_from(["web", "Web2", "api", "b", "consul-x", "zz"])
STATUSES = st.sampled_from(["passing", "warning", "critical"])
REGISTERED = st.lists(
    st.tuples(NAMES, st.integers(0, 2), st.sampled_from(["", "t1", "t2"]), st.lists(STATUSES, max_size=2)),
    max_size=12,
)  # fmt: skip
OF_NODES = st.lists(STATUSES | st.none(), min_size=3, max_size=3)


class Services:
    """A catalog, and what a plain model knows of it."""

    def __init__(self, registered: list[Any], of_nodes: list[str | None]) -> None:
        backend = StateBackend()
        catalog = Catalog(backend)
        self.asked = Asked(backend)
        numbers = [OWN, *(catalog.add_external(f"x{n}", f"10.0.0.{n}") for n in (1, 2))]
        self.nodes = ["n1", "x1", "x2"]
        self.instances: dict[tuple[str, int, str], tuple[str, str]] = {}
        self.names: dict[str, str] = {}
        for at, (name, node, tag, checks) in enumerate(registered):
            service_id = f"{name}-{at}"
            catalog.register(numbers[node], name, service_id, tags=(tag,) if tag else ())
            for n, status in enumerate(checks):
                catalog.check(numbers[node], f"{service_id}:{n}", status, service=service_id)
            own = [of_nodes[node] or "passing"]
            self.instances[name, node, service_id] = (worst([*checks, *own]), tag)
        for node, status in enumerate(of_nodes):
            if status is not None:
                catalog.check(numbers[node], "own", status)  # type: ignore[arg-type]
        self.instances["consul", 0, "consul"] = (of_nodes[0] or "passing", "")

    def rows(self, *, text: str, status: str, tag: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for (name, _, _), (state, own_tag) in self.instances.items():
            row = found.setdefault(
                name, {"name": name, "tags": set(), "passing": 0, "warning": 0, "critical": 0,
                       "instances": 0}
            )  # fmt: skip
            row[state] += 1
            row["instances"] += 1
            row["tags"] |= {own_tag} - {""}
        return [
            {**row, "tags": sorted(row["tags"])}
            for name, row in sorted(found.items(), key=lambda pair: pair[0].encode().lower())
            if text.lower() in name.lower()
            and (not status or row[status])
            and (not tag or tag in row["tags"])
        ]


@given(REGISTERED, OF_NODES, st.sampled_from(["", "E", "b", "2"]), STATUSES | st.just(""),
       st.sampled_from(["", "t1"]), st.integers(1, 3), LITTLE_WORK)  # fmt: skip
def test_the_pages_of_services_are_what_a_plain_count_finds(
    registered, of_nodes, text, status, tag, limit, work
):
    known = Services(registered, of_nodes)
    with mock.patch.object(paging, "WORK_MAX", work):
        found = known.asked.all(
            browse.services, "services", text=text, status=status, tag=tag, limit=limit
        )
    assert found == known.rows(text=text, status=status, tag=tag)


@given(REGISTERED, OF_NODES, st.sampled_from(["", "1", "x2"]), STATUSES | st.just(""),
       st.integers(1, 3))  # fmt: skip
def test_the_pages_of_instances_are_those_of_the_service(registered, of_nodes, text, status, limit):
    known = Services(registered, of_nodes)
    found = known.asked.all(
        browse.instances, "instances", service="WEB", text=text, status=status, limit=limit
    )
    seen = sorted((one["node"], one["id"], one["status"], one["tags"]) for one in found)
    assert seen == sorted(
        (known.nodes[node], service_id, state, [tag] if tag else [])
        for (name, node, service_id), (state, tag) in known.instances.items()
        if name == "web"
        and (text in service_id or text in known.nodes[node])
        and (not status or state == status)
    )


def test_ten_thousand_instances_are_counted_with_rests():
    backend = StateBackend()
    catalog = Catalog(backend)
    number = catalog.add_external("x", "10.0.0.9")
    for n in range(2_000):
        catalog.register(number, "many", f"i{n}")
    catalog.check(number, "bad", "warning", service="i7")
    asked = Asked(backend)
    with mock.patch.object(paging, "WORK_PER_SLICE", 100):
        page = asked.page(browse.services, text="many")
    assert page["services"] == [
        {
            "name": "many",
            "tags": [],
            "critical": 0,
            "warning": 1,
            "passing": 1999,
            "instances": 2000,
        }
    ]
    assert asked.rests >= 20


def test_a_service_in_maintenance_says_so():
    backend = StateBackend()
    catalog = Catalog(backend)
    catalog.register(OWN, "web")
    catalog.check(OWN, "_service_maintenance:web", "critical", service="web")
    [one] = Asked(backend).page(browse.instances, service="web")["instances"]
    assert (one["maintenance"], one["status"]) == ("service", "critical")
    catalog.check(OWN, "_node_maintenance", "critical")
    [one] = Asked(backend).page(browse.instances, service="web")["instances"]
    assert one["maintenance"] == "node"


def test_of_too_many_tags_some_are_shown_and_the_rest_counted():
    backend = StateBackend()
    catalog = Catalog(backend)
    for n in range(3):
        tags = tuple(f"t{n}-{at}" for at in range(100))
        catalog.register(OWN, "web", f"web{n}", tags=tags)
    row = Asked(backend).page(browse.services, text="web")["services"][0]
    assert (len(row["tags"]), row["more_tags"]) == (browse.TAGS_MAX, 300 - browse.TAGS_MAX)


async def test_an_instance_is_shown_with_the_checks_of_its_node_and_itself(client, backend):
    catalog = Catalog(backend)
    number = catalog.add_external("x", "10.0.0.9")
    catalog.register(number, "web", "web1", port=80)
    catalog.check(number, "own", "warning")
    catalog.check(number, "c", "critical", service="web1", notes="a note")
    found = (await client.request("GET", "/v1/ui/instance?node=X&id=web1")).json()
    assert (found["instance"]["status"], found["instance"]["port"]) == ("critical", 80)
    assert [(one["CheckID"], one["Status"], one["ServiceID"]) for one in found["checks"]] == [
        ("own", "warning", ""), ("c", "critical", "web1")
    ]  # fmt: skip
    assert found["checks"][1]["Notes"] == "a note"
    for target in ("node=x&id=web2", "node=y&id=web1", ""):
        answer = await client.request("GET", f"/v1/ui/instance?{target}")
        assert (answer.status, answer.json()) == (200, {"instance": None, "checks": []})


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("handler", "query", "says"), [
    (browse.keys, {"limit": 0}, "1 to 500"),
    (browse.keys, {"limit": 501}, "1 to 500"),
    (browse.keys, {"prefix": "a/", "after": "b"}, "send the `next`"),
    (browse.keys, {"after": "x" * 4097}, "send the `next`"),
    (browse.keys, {"text": "x" * 256}, "at most 255"),
    (browse.services, {"status": "well"}, "passing, warning or critical"),
    (browse.services, {"after": "x" * 256}, "send the `next`"),
    (browse.instances, {}, "the name of a service"),
    (browse.instances, {"service": "a", "after": "web"}, "send the `next`"),
])  # fmt: skip
def test_what_is_no_page_is_refused_with_what_to_send(handler, query, says):
    with pytest.raises(HttpError, match=says) as caught:
        Asked(FakeBackend()).page(handler, **query)
    assert caught.value.status == 400


async def test_a_page_is_answered_without_a_leader(client, backend):
    backend.set(b"a/b", b"1")
    backend.leader = None
    answer = await client.request("GET", "/v1/ui/keys?separator=/")
    assert (answer.status, answer.json()) == (200, {"entries": [{"folder": "a/"}], "next": None})
    assert backend.barriers == 0
    for target in ("/v1/ui/services?limit=500", "/v1/ui/instances?service=consul"):
        assert (await client.request("GET", target)).status == 200
    assert (await client.request("GET", "/v1/ui/keys?after=b&prefix=a")).status == 400
