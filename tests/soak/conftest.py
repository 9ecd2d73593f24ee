"""The clusters of `tests/system/`, for longer."""

from __future__ import annotations

from tests.system.conftest import cluster, pytest_runtest_makereport, three

__all__ = ["cluster", "pytest_runtest_makereport", "three"]
