"""Regular expressions that users send: bounded in time and memory, whatever they are.

Python's own `re` backtracks, so `(a+)+$` takes longer than anybody waits. RE2 takes time in
proportion to the text (Cox, "Regular Expression Matching in the Wild", 2010), and memory up to a
bound; its syntax is also that of Go, which Consul's clients write.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from .syntax import shown

PATTERN_BYTES_MAX = 256
MEMORY_BYTES = 256 * 1024
"""Of one compiled pattern."""

INSTRUCTIONS_MAX = 4096
"""Of all patterns of one expression together, once they are compiled: the time for that, and for each
text, goes with their number. `(?:[a-z]{30}){30}` has 904, and so has `a{900}`; `\\pL` has 1,200."""


class PatternError(ValueError):
    """A pattern that cannot be used; the text is for the user."""


class Patterns:
    """The patterns of one expression, which are bounded together."""

    def __init__(self) -> None:
        self._left = INSTRUCTIONS_MAX

    def searcher(self, pattern: str) -> Callable[[str], bool]:
        """Return a function that says whether a text has a part that the pattern describes.

        Raises:
            PatternError: It is no RE2 pattern, is longer than 256 bytes, or is too large, by itself or
                with those before it.
        """
        data = _checked(pattern)
        options = re2.Options()
        options.max_mem = MEMORY_BYTES
        options.log_errors = False
        options.never_capture = True
        try:
            compiled = re2.compile(data, options)
        except re2.error as error:
            why = error.args[0] if error.args else "no reason given"
            text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
            raise PatternError(f"the pattern {shown(pattern)} cannot be used: {text}") from None
        re2.purge()  # The library would keep the last 128.
        self._left -= compiled.programsize
        if self._left < 0:
            raise PatternError(
                f"the pattern {shown(pattern)} is too large, by itself or with those before it:"
                f" {INSTRUCTIONS_MAX:,} instructions are taken"
            )
        search = compiled.search
        return lambda text: search(text.encode("utf-8", "surrogateescape")) is not None


def _checked(pattern: str) -> bytes:
    """Return a pattern as UTF-8.

    Raises:
        PatternError: It cannot be written so, or is too long.
    """
    try:
        data = pattern.encode()
    except UnicodeEncodeError:
        raise PatternError(f"the pattern {shown(pattern)} is not UTF-8") from None
    if len(data) > PATTERN_BYTES_MAX:
        raise PatternError(
            f"a pattern of {len(data):,} bytes: at most {PATTERN_BYTES_MAX} are taken"
        )
    return data
