"""The part of the gallery about figures that members ask each other for."""

from __future__ import annotations

from .mutant import one_change as _mutant

_ASKED = "node/metrics/statistics/asked.py"
_RINGS = "node/metrics/statistics/rings.py"

FIGURES = (
    _mutant(
        "figures-of-another-shape-are-taken", "An answer need not be one to the question.",
        _ASKED, "if one.points is not None and _fits(one.points, question)",
        "if one.points is not None", layer="B",
    ),
    _mutant(
        "figures-come-from-whoever-sends-them", "A member answers in the place of another.",
        _ASKED, "if asked is not None and asked.peer == peer:", "if asked is not None:", layer="B",
    ),
    _mutant(
        "figures-that-come-too-late-end-the-node", "Nobody waits for them any more.",
        _ASKED, "asked = self._waiting.get(frame.id)", "asked = self._waiting[frame.id]",
        layer="B",
    ),
    _mutant(
        "question-for-a-step-that-nobody-keeps-ends-the-node", "There is no ring of that step.",
        _RINGS,
        "next((one for one in self.rings if one.step == question.step), self.rings[0])",
        "next(one for one in self.rings if one.step == question.step)", layer="B",
    ),
    _mutant(
        "silent-member-is-waited-for-for-ever", "Who asks for figures hangs with it.",
        _ASKED, "with trio.move_on_at(began + ANSWER_S):", "with trio.CancelScope():", layer="B",
    ),
)  # fmt: skip
