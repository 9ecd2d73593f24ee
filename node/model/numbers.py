"""Numbers that commands and records hold."""

from __future__ import annotations

from typing import Annotated

import msgspec

Unsigned = Annotated[int, msgspec.Meta(ge=0)]
"""Checked where a command is decoded: one that a record cannot hold must never get into a log."""
