"""What Tab offers in the shell: commands and existing keys.

Keys come from the node's own copy, over a separate connection with a short timeout. The prompt runs
this in a thread, so typing never waits for it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion

from hstore.node.errors import HstoreError

from .commands import COMMANDS
from .words import quoted, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from ..search.find import Connect

KEYS_MAX = 200
"""How many keys are offered: nobody reads a longer list."""

_TIMEOUT_S = 0.5


class ShellCompleter(Completer):
    """Completes the word before the cursor.

    Args:
        address: Returns the address of the node to ask for keys, at each completion.
        connect: Makes clients.
    """

    def __init__(self, address: Callable[[], str], connect: Connect) -> None:
        self._address = address
        self._connect = connect

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what the word before the cursor may become."""
        del complete_event
        line = read(document.text_before_cursor)
        typed = line.last.data.decode(errors="replace")
        names = [word.data.decode(errors="replace") for word in line.words]
        for text in self._candidates(names, typed):
            yield Completion(f"{text} ", start_position=-len(line.raw), display=text)

    def _candidates(self, before: list[str], typed: str) -> Iterator[str]:
        if not before or before == ["help"]:
            yield from (name for name in COMMANDS if name.startswith(typed))
        elif len(before) == 1 and before[0] in COMMANDS and COMMANDS[before[0]].takes_key:
            yield from map(quoted, self._keys(typed))

    def _keys(self, prefix: str) -> list[str]:
        address = self._address()
        if not address:
            return []
        try:
            with self._connect(address, _TIMEOUT_S) as client:
                return list(islice(client.keys(prefix, stale=True), KEYS_MAX))
        except HstoreError:
            return []  # The user is still typing; the command itself will report the error.
