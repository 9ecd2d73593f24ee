"""What Tab offers in the shell: what the completion of the command line offers there, and its own words.

The prompt runs this in a thread, so typing never waits for it; keys and nodes are asked for over a
connection of their own with a short timeout (`cli/completion.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import ShellComplete
from prompt_toolkit.completion import Completer, Completion

from . import lines
from .words import as_arguments, quoted, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from ..vocabulary import Commands
    from .commands import Context


class ShellCompleter(Completer):
    """Completes the word before the cursor.

    Args:
        context: The shell's connection.
        group: The commands of the command line.
    """

    def __init__(self, context: Context, group: Commands) -> None:
        self._group = group
        self._complete = ShellComplete(group, {"obj": context}, "", "")

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what the word before the cursor may become."""
        del complete_event
        line = read(document.text_before_cursor)
        typed = line.last.data.decode(errors="replace")
        for text in self._candidates(as_arguments(line.words), typed):
            yield Completion(f"{quoted(text)} ", start_position=-len(line.raw), display=text)

    def _candidates(self, before: list[str], typed: str) -> list[str]:
        if before[:1] == ["hstore"]:
            before = before[1:]
        if not before or (len(before) == 1 and before[0] in lines.HELP):
            return [name for name in lines.offered(self._group) if name.startswith(typed)]
        if before[0] not in self._group.commands or before[0] in lines.ELSEWHERE:
            return []
        return [str(item.value) for item in self._complete.get_completions(before, typed)]
