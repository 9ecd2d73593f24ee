"""`GET /v1/statistics`."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hstore.node.api.figures import NoStatistics
from hstore.node.errors import Overloaded
from hstore.node.model.statistics import SERIES, Points, Question, bytes_of
from tests.node.api.conftest import FakeBackend

NOW_MS = 1_800_000_000_000


class FakeStatistics(NoStatistics):
    """The statistics of both members, as far as they answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], Question]] = []
        self.silent: set[int] = set()
        self.count = 2
        self.error: Exception | None = None

    def now_ms(self) -> int:
        return NOW_MS

    async def gather(self, members, question):
        if self.error:
            raise self.error
        self.asked.append((sorted(members), question))
        values = array("d", [1.5, math.nan] * (self.count // 2))
        series = {name: bytes_of(values) for name in question.series}
        since = question.since_ms or NOW_MS - 2000
        return {
            member: Points(question.step, since, series)
            for member in members
            if member not in self.silent
        }


class Backend(FakeBackend):
    def __init__(self) -> None:
        super().__init__()
        self.statistics = FakeStatistics()

    @property
    def whole(self):
        known: Any = SimpleNamespace(members=self.state.members)
        return replace(super().whole, administration=known, statistics=self.statistics)


@pytest.fixture
def backend():
    return Backend()


async def test_without_anything_this_node_shows_its_finest_ring(client, backend):
    answer = await client.request("GET", "/v1/statistics")
    assert answer.status == 200
    shown = answer.json()
    assert list(shown) == ["step", "since", "series"]
    assert (shown["step"], shown["since"]) == (1, NOW_MS - 2000)
    assert list(shown["series"]) == list(SERIES)
    assert shown["series"]["requests_per_s"] == [1.5, None]
    assert shown["series"]["keys"] == [1, None]
    assert backend.statistics.asked == [([1], Question(SERIES, 1, 0))]


async def test_what_is_asked_for_reaches_the_node(client, backend):
    path = "/v1/statistics?node=n2&since=1799999999000&step=15&series=keys,dns_per_s"
    shown = (await client.request("GET", path)).json()
    assert (shown["step"], shown["since"], list(shown["series"])) == (
        15,
        1799999999000,
        ["keys", "dns_per_s"],
    )
    assert backend.statistics.asked == [
        ([2], Question(("keys", "dns_per_s"), 15, 1799999999000)),
    ]


@pytest.mark.parametrize(("ago_s", "step"), [(60, 1), (3600, 15), (86400, 120), (10**9, 120)])
async def test_without_a_step_it_is_the_finest_that_reaches_back(client, ago_s, step):
    path = f"/v1/statistics?since={NOW_MS - 1000 * ago_s}"
    assert (await client.request("GET", path)).json()["step"] == step


async def test_all_members_are_shown_together(client):
    shown = (await client.request("GET", "/v1/statistics?node=all&series=keys")).json()
    assert list(shown) == ["nodes", "missing"]
    assert shown["missing"] == []
    assert list(shown["nodes"]) == ["n1", "n2"]
    assert shown["nodes"]["n2"] == {
        "step": 1,
        "since": NOW_MS - 2000,
        "series": {"keys": [1, None]},
    }


async def test_a_member_that_does_not_answer_is_named(client, backend):
    backend.statistics.silent = {2}
    shown = (await client.request("GET", "/v1/statistics?node=all")).json()
    assert (list(shown["nodes"]), shown["missing"]) == (["n1"], ["n2"])
    alone = await client.request("GET", "/v1/statistics?node=n2")
    assert (alone.status, alone.headers["retry-after"]) == (503, "1")
    assert "n2 has not answered" in alone.error


@pytest.mark.parametrize("query", ["", "&node=all"])
async def test_a_week_of_all_series_comes_in_pieces_and_whole(client, backend, query):
    backend.statistics.count = 5040
    answer = await client.request("GET", f"/v1/statistics?step=120{query}")
    shown = answer.json()
    nodes = shown["nodes"].values() if query else [shown]
    assert [len(one["series"][name]) for one in nodes for name in SERIES] == [5040] * 13 * len(
        nodes
    )
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("since=yesterday", "whole number"),
        ("since=-5", "whole number"),
        ("step=5", "1, 15, 120"),
        ("step=fine", "whole number"),
        ("series=speed", "requests_per_s"),
        ("series=", "requests_per_s"),
        ("series=keys,", "requests_per_s"),
    ],
)
async def test_a_bad_value_is_400_and_says_what_to_do(client, query, says):
    answer = await client.request("GET", f"/v1/statistics?{query}")
    assert answer.status == 400
    assert says in answer.error


async def test_a_member_that_is_not_known_is_404_with_those_that_are(client):
    answer = await client.request("GET", "/v1/statistics?node=n7")
    assert answer.status == 404
    assert "n1, n2, and `all`" in answer.error


@pytest.mark.parametrize("name", ["N2", "0000000000000002", "10.0.0.1:8501"])
async def test_a_member_is_found_by_its_name_id_or_address(client, backend, name):
    assert (await client.request("GET", f"/v1/statistics?node={name}")).status == 200
    assert backend.statistics.asked[0][0] == [2]


async def test_too_many_requests_are_503(client, backend):
    backend.statistics.error = Overloaded("too many")
    assert (await client.request("GET", "/v1/statistics?node=all")).status == 503


async def test_infinite_numbers_of_a_member_are_null(client, backend, monkeypatch):
    async def gather(members, _question):
        endless = bytes_of(array("d", [math.inf]))
        return {member: Points(1, 0, {"keys": endless, "dns_per_s": endless}) for member in members}

    monkeypatch.setattr(backend.statistics, "gather", gather)
    shown = (await client.request("GET", "/v1/statistics")).json()
    assert shown["series"] == {"keys": [None], "dns_per_s": [None]}
