"""Nodes that are no members, and what is written to the catalog directly."""

from __future__ import annotations

from ..model.commands import Outcome
from ..model.services import CatalogRegister
from ..raft.entry import Entry
from .batch import Batch, Effects


def _not_built(_batch: Batch, _entry: Entry, command: object) -> Outcome:
    raise NotImplementedError(type(command).__name__)


EFFECTS: Effects = {CatalogRegister: _not_built}
