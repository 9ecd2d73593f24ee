"""Clusters for tests, and the logs of their nodes in the report of a test that fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from .cluster import Cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what the nodes of a failed test wrote."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for cluster in item.funcargs.values():
            if isinstance(cluster, Cluster):
                report.sections += [(f"log of {name}", text) for name, text in cluster.logs()]
    return report


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Ports and directories for three nodes, none of which runs yet."""
    with Cluster(tmp_path) as cluster:
        yield cluster
    cluster.assert_no_traceback()


@pytest.fixture
def three(cluster: Cluster) -> Cluster:
    """Three nodes of one healthy cluster, for this test alone."""
    return cluster.up()


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster.up()


@pytest.fixture
def shared(_kept: Cluster) -> Iterator[Cluster]:
    """Three nodes of one cluster that many tests use: it has keys of others, and is healthy."""
    _kept.revive()
    yield _kept
    _kept.assert_no_traceback()
