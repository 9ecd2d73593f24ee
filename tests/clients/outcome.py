"""What came of one client: which of its tests passed, and why it was left out, if it was."""

from __future__ import annotations

from dataclasses import dataclass, field


class Unavailable(Exception):
    """Something that a client needs is not here and cannot be had; its text says what."""


@dataclass(slots=True)
class Outcome:
    """One line of `make clients`.

    Attributes:
        name, version: Of the client.
        passed: The names of its tests that passed.
        failed: The names of the others, and what was said of each.
        left_out: Tests of its own that are not run, and why not.
        missing: Why nothing of it was run, if so.
        note: A sentence to be read with it.
    """

    name: str
    version: str
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    note: str = ""

    def add(self, name: str, fault: str = "") -> None:
        """Add a test; `fault`: why it failed."""
        if fault:
            self.failed[name] = fault
        else:
            self.passed.append(name)

    @property
    def is_good(self) -> bool:
        """Whether something ran and nothing failed."""
        return not self.missing and not self.failed and bool(self.passed)

    def line(self) -> str:
        """Return the line."""
        head = f"{self.name} {self.version}: "
        if self.missing:
            return f"{head}skipped: {self.missing}"
        total = len(self.passed) + len(self.failed)
        text = f"{head}{len(self.passed)} of {total}"
        if self.failed:
            text += f" ({', '.join(self.failed)})"
        return text + (f" [{self.note}]" if self.note else "")

    def faults(self) -> str:
        """Return why each failed test failed, a line each."""
        return "\n".join(f"    {name}: {why}" for name, why in self.failed.items())

    def table(self) -> str:
        """Return the tests that are not run and the reasons, a line each."""
        return "\n".join(f"    not run: {name}: {why}" for name, why in self.left_out.items())
