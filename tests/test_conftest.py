"""The rule for outside tools: a user may lack one, the machine that decides may not."""

from __future__ import annotations

import pytest

from .conftest import find_tool

NO_SUCH_TOOL = "hstore-no-such-program"


def test_a_tool_that_is_there_is_given_by_its_path() -> None:
    assert find_tool("sh", in_ci=True).endswith("/sh")


def test_a_missing_tool_skips_the_test_of_a_user() -> None:
    with pytest.raises(pytest.skip.Exception, match=NO_SUCH_TOOL):
        find_tool(NO_SUCH_TOOL, in_ci=False)


def test_a_missing_tool_fails_the_test_in_ci() -> None:
    with pytest.raises(pytest.fail.Exception, match=NO_SUCH_TOOL):
        find_tool(NO_SUCH_TOOL, in_ci=True)
