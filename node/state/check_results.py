"""Results of checks, who runs them, and services that were critical for too long."""

from __future__ import annotations

from ..model.commands import Outcome
from ..model.services import AssignNodes, DeregisterCritical, UpdateChecks
from ..raft.entry import Entry
from .batch import Batch, Effects


def _not_built(_batch: Batch, _entry: Entry, command: object) -> Outcome:
    raise NotImplementedError(type(command).__name__)


EFFECTS: Effects = {
    AssignNodes: _not_built,
    DeregisterCritical: _not_built,
    UpdateChecks: _not_built,
}
