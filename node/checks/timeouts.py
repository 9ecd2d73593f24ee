"""When a run of a check has failed because it is not over."""

from __future__ import annotations

from ..model.checks import CheckDefinition

HTTP_TIMEOUT_S, SCRIPT_TIMEOUT_S = 10.0, 30.0
"""Where a definition has none; TCP has the first, too."""


def timeout_s(definition: CheckDefinition) -> float:
    """Return after how many seconds a run of a check has failed."""
    if definition.timeout_ns:
        return definition.timeout_ns / 1e9
    return SCRIPT_TIMEOUT_S if definition.kind == "script" else HTTP_TIMEOUT_S
