"""What a run of a check says."""

from __future__ import annotations

from typing import NamedTuple

from ..model.checks import CheckStatus


class Verdict(NamedTuple):
    """A status, and why.

    Attributes:
        status: As of this run alone: no threshold has been looked at.
        output: Cut to what is kept (`output.py`).
    """

    status: CheckStatus
    output: str
