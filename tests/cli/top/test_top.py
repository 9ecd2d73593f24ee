"""`hstore top`: figures in few characters, the picture at every size, and from node to node."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console

from hstore.cli.client.api import NodeClient
from hstore.cli.client.errors import Unreachable
from hstore.cli.search.clock import Clock
from hstore.cli.top import command, figures, picture
from hstore.cli.top.picture import COLUMNS, KEYS, Picture
from hstore.cli.top.readings import Lost, Reading, read, readings
from hstore.node.model.cluster_info import ClusterInfo, NodeInfo
from hstore.node.model.statistics import SERIES

NOW = datetime(2026, 12, 1, 10, 0, 0, tzinfo=UTC)


def node_info(name: str, kind: str = "follower", health: str = "alive") -> NodeInfo:
    port = 8499 + int(name[1:])
    return NodeInfo(
        name, f"{port:016x}", f"10.0.0.1:{port}", f"10.0.0.1:{port - 200}", f"10.0.0.1:{port + 100}",
        kind, True, health, 3, 9, 9, 0, "0.1.0", 5,
    )  # fmt: skip


def cluster(*nodes: NodeInfo, leader: str | None = "n1") -> ClusterInfo:
    quorum = len(nodes) // 2 + 1
    return ClusterInfo("c1", leader, 3, quorum, len(nodes) - quorum, "hstore.local", list(nodes))


def traces(*values: float | None, **others: list[float | None]) -> dict[str, Any]:
    return {name: list(values) for name in SERIES} | others


def reading(nodes: dict[str, dict[str, Any]], info: ClusterInfo | None = None) -> Reading:
    known = info or cluster(
        *(node_info(name, "leader" if name == "n1" else "follower") for name in nodes)
    )
    return Reading("10.0.0.1:8500", known, nodes, 5000)


THREE = reading(
    {
        "n1": traces(1.0, 2.0, 30.0),
        "n2": traces(1.0, 2.0, 10.0),
        "n10": traces(1.0, 2.0, 20.0),
    }
)


def drawn(one: Reading | None, width: int, height: int, by: str = "n", **options: Any) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(Picture(one, options.pop("note", ""), by, "10:00:00", **options), end="")
    return [line.rstrip() for line in file.getvalue().split("\n")]


@pytest.mark.parametrize(
    ("write", "value", "shown"),
    [
        (figures.rate, None, "-"), (figures.rate, 0, "0"), (figures.rate, 0.04, "0.0"),
        (figures.rate, 9.96, "10"), (figures.rate, 12345.6, "12,346"),
        (figures.ms, 0.5, "0.50ms"), (figures.ms, 12.34, "12.3ms"), (figures.ms, 123.4, "123ms"),
        (figures.ms, 9700, "9.7s"), (figures.ms, None, "-"),
        (figures.size, 0, "0B"), (figures.size, 1500, "1.5kB"), (figures.size, 70_400_000, "70MB"),
        (figures.size, 999_999, "1.0MB"), (figures.size, 2e15, "2.0PB"),
        (figures.count, 99_999, "99,999"), (figures.count, 1_234_567, "1,235k"),
        (figures.count, 2e9, "2,000M"),
    ],
)  # fmt: skip
def test_a_figure_is_written_in_few_characters_with_its_unit(write, value, shown):
    assert write(value) == shown


def test_a_sparkline_goes_from_zero_to_its_peak_and_shows_gaps():
    assert figures.sparkline([0, 4, None, 8], 6) == "  ▁▅ █"
    assert figures.sparkline([1, 2, 3, 4], 2) == "▆█"
    assert figures.sparkline([0, 0], 2) == "▁▁"
    assert figures.sparkline([], 3) == "   "
    assert figures.sparkline([4], 1, figures.ASCII, top=8) == "="
    assert figures.sparkline([1], 0) == ""


def test_nodes_are_put_together_second_by_second_from_the_newest():
    assert figures.together([[1, 2, 3], [10, None]], sum) == [1, 12, 3]
    assert figures.together([[None], [None]], max) == [None]
    assert figures.together([], sum) == []


def test_the_present_is_the_newest_known_second():
    assert figures.now_of([1, 2, None]) == 2
    assert figures.now_of([1, None, None, None]) is None
    assert figures.now_of([1, None, None, None], is_quantile=True) == 1
    assert figures.now_of([]) is None


def test_every_column_has_a_key_of_its_own_and_q_is_none():
    assert len(set(KEYS)) == len(KEYS) == len(COLUMNS) + 1
    assert "q" not in KEYS


def test_nodes_are_sorted_by_number_or_by_the_greatest_figure():
    assert [row.name for row in picture.rows(THREE)] == ["n1", "n2", "n10"]
    assert [row.name for row in picture.rows(THREE, "r")] == ["n1", "n10", "n2"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [3, 10, 24, 50])
@pytest.mark.parametrize("by", ["n", "p"])
def test_the_picture_fits_every_terminal(width, height, by):
    lines = drawn(THREE, width, height, by)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    assert "q ends" in "\n".join(lines)


def test_80_columns_and_24_lines_show_everything_that_matters():
    lines = drawn(THREE, 80, 24)
    text = "\n".join(lines)
    assert lines[0].startswith("leader n1")
    for word in ("ALL 3 NODES", "requests/s", "fsync p99", "disk", "MEMORY", "as of 10:00:00"):
        assert word in text
    assert "more lines" not in text
    requests = next(line for line in lines if line.startswith("requests/s"))
    assert requests.split() == ["requests/s", "60", "▁▂█", "60"]


def test_a_wide_terminal_has_a_sparkline_for_each_node():
    lines = drawn(THREE, 200, 50, "r")
    assert any("REQ/S, 60 s" in line for line in lines)
    assert [line[-3:] for line in lines if line.startswith("n")] == ["▁▁█", "▁▁▆", "▁▁▃"]


def test_nine_nodes_fit_at_24_lines():
    nine = reading({f"n{number}": traces(1.0) for number in range(1, 10)})
    lines = drawn(nine, 80, 24)
    assert [line.split()[0] for line in lines if line.startswith("n")] == [
        f"n{number}" for number in range(1, 10)
    ]
    assert any(line.startswith("requests/s") for line in lines)


def test_a_low_terminal_keeps_the_nodes():
    lines = drawn(THREE, 80, 9)
    assert [line.split()[0] for line in lines if line.startswith("n")] == ["n1", "n2", "n10"]


def test_a_lost_node_stays_in_its_line():
    info = cluster(node_info("n1", "leader"), node_info("n2", health="failed"), node_info("n3"))
    lines = drawn(reading({"n1": traces(1.0)}, info), 80, 24)
    text = "\n".join(lines)
    assert "1 OF 3 NODES" in text
    assert next(line for line in lines if line.startswith("n2")).split()[1:3] == ["failed", "-"]
    assert next(line for line in lines if line.startswith("n3")).split()[1:3] == ["no", "answer"]


def test_a_cluster_without_a_leader_and_one_of_a_single_node_have_their_words():
    alone = cluster(node_info("n1"), leader=None)
    text = "\n".join(drawn(reading({"n1": traces(1.0)}, alone), 80, 24))
    assert "no leader" in text
    assert "THE NODE" in text


def test_before_the_first_reading_and_without_points_it_says_so():
    assert "waiting for the first answer" in drawn(None, 80, 24)[0]
    assert "lost" in drawn(None, 80, 24, note="! n1 is lost")[0]
    assert len(drawn(reading({"n1": traces()}), 80, 24)) == 24


def test_a_terminal_without_blocks_gets_letters():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    live = command._Live(Console(file=file, force_terminal=True), lambda: NOW)
    live.take(THREE)
    live.press("xr?")
    assert live._levels == figures.ASCII
    assert live._by == "r"
    assert any(line.endswith("#") for line in drawn(THREE, 200, 50, levels=figures.ASCII))


def test_without_keys_only_ctrl_c_is_named():
    assert drawn(THREE, 80, 24, has_keys=False)[-1] == "Ctrl-C ends it   as of 10:00:00"


def test_elsewhere_it_is_a_table_with_a_line_for_each_node():
    file = io.StringIO()
    command.show_once(THREE, Console(file=file, width=40))
    lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "n1", "n2", "n10"]
    assert "WRITE P99" in lines[0]


def test_json_has_the_present_figures_of_each_and_together():
    info = cluster(node_info("n1", "leader"), node_info("n2", health="failed"))
    shown: Any = command.as_object(reading({"n1": traces(1.0, None)}, info))
    assert shown["missing"] == ["n2"]
    assert shown["nodes"]["n2"] == {"role": "failed"}
    assert shown["nodes"]["n1"]["keys"] == 1.0
    assert shown["together"]["requests_per_s"] == 1.0
    assert json.dumps(shown)


# --- from node to node ------------------------------------------------------------------------------


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Nodes:
    """Two nodes over HTTP, of which some are down."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.paths: list[str] = []
        self.answer: dict[str, Any] = {
            "nodes": {"n1": {"step": 1, "since": 600_000, "series": {"keys": [1.0, None]}}},
            "missing": ["n2"],
        }

    def connect(self, address: str, timeout_s: float) -> NodeClient:
        def handle(request: httpx.Request) -> httpx.Response:
            if address in self.down:
                raise httpx.ConnectError("refused")
            self.paths.append(str(request.url))
            headers = {"x-hstore-index": "1"}
            if request.url.path == "/v1/statistics":
                return httpx.Response(200, json=self.answer, headers=headers)
            info = cluster(node_info("n1", "leader"), node_info("n2"))
            return httpx.Response(200, content=msgspec.json.encode(info), headers=headers)

        return NodeClient(address, timeout_s=timeout_s, transport=httpx.MockTransport(handle))


def test_a_reading_has_the_cluster_and_the_traces():
    with Nodes().connect("10.0.0.1:8500", 1.0) as client:
        found = read(client)
    assert found.nodes == {"n1": {"keys": [1.0, None]}}
    assert found.until_ms == 602_000
    assert found.info.leader == "n1"


def test_only_what_is_shown_is_asked_for_once_the_time_there_is_known():
    nodes = Nodes()
    source = readings(["10.0.0.1:8500"], nodes.connect, FakeClock())
    next(source), next(source)
    asked = [path for path in nodes.paths if "statistics" in path]
    assert "since=0" in asked[0]
    assert "since=357000" in asked[1]


def test_when_the_node_ends_another_is_asked_and_all_silent_is_the_end():
    nodes, clock = Nodes(), FakeClock()
    source = readings(["10.0.0.1:8500"], nodes.connect, clock)
    assert isinstance(next(source), Reading)
    nodes.down = {"10.0.0.1:8500"}
    assert isinstance(next(source), Lost)
    found = next(source)
    assert isinstance(found, Reading)
    assert found.address == "10.0.0.1:8501"
    nodes.down = {"10.0.0.1:8500", "10.0.0.1:8501"}
    began = clock.time
    with pytest.raises(Unreachable):
        for one in source:
            assert isinstance(one, Lost)
    assert 29 < clock.time - began < 33


def test_a_cluster_that_never_answers_is_an_error_at_once():
    nodes, clock = Nodes(), FakeClock()
    nodes.down = {"10.0.0.1:8500", "10.0.0.1:8501"}
    with pytest.raises(Unreachable):
        next(readings(["10.0.0.1:8500", "10.0.0.1:8501"], nodes.connect, clock))
    assert clock.time < 1


def test_names_of_a_hostile_node_are_made_harmless():
    nodes = Nodes()
    nodes.answer["nodes"] = {"n\x1b[2J": {"step": 1, "since": 0, "series": {"keys": [1.0]}}}
    with nodes.connect("10.0.0.1:8500", 1.0) as client:
        found = read(client)
    assert not any("\x1b" in name for name in found.nodes)
