"""Services and their checks: what the commands of agents do."""

from __future__ import annotations

from ..model.commands import Outcome
from ..model.services import Deregister, RegisterCheck, RegisterService
from ..raft.entry import Entry
from .batch import Batch, Effects


def _not_built(_batch: Batch, _entry: Entry, command: object) -> Outcome:
    raise NotImplementedError(type(command).__name__)


EFFECTS: Effects = {Deregister: _not_built, RegisterCheck: _not_built, RegisterService: _not_built}
