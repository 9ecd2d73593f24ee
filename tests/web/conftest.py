"""One browser and one cluster of three for all tests of the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.system.cluster import Cluster

from .browser import Opened, chromium, new_context


@pytest.fixture(scope="session")
def browser(require_tool: Callable[[str], str]) -> Iterator[Browser]:
    require_tool("chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def _three(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    require_tool("chromium")
    with Cluster(tmp_path_factory.mktemp("dashboard")) as cluster:
        yield cluster.up()


@pytest.fixture
def cluster(_three: Cluster) -> Iterator[Cluster]:
    """Three healthy nodes, which other tests of the dashboard have used."""
    _three.revive()
    yield _three
    _three.assert_no_traceback()


@pytest.fixture
def opened(browser: Browser, cluster: Cluster) -> Iterator[Callable[..., Opened]]:
    """Return a function that opens a page of a node; nothing may have gone wrong in any at the end."""
    contexts, pages = [], []

    def open_at(address: str, path: str = "#/cluster", **options: object) -> Opened:
        context = new_context(browser, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = Opened(context, address)
        pages.append(page)
        page.go(path)
        return page

    yield open_at
    faults = [page.faults for page in pages]
    for context in contexts:
        context.close()
    assert [fault for fault in faults if fault] == []


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept for whoever wants to look at them: no part of the project."""
    folder = Path(__file__).parents[2] / "build" / "dashboard"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
