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
"""Of one compiled pattern. `(?:[a-z]{30}){30}` fits, ten times as much does not."""


class PatternError(ValueError):
    """A pattern that cannot be used; the text is for the user."""


def searcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether a text has a part that the pattern describes.

    Raises:
        PatternError: It is no RE2 pattern, is longer than 256 bytes or would take too much memory.
    """
    try:
        data = pattern.encode()
    except UnicodeEncodeError:
        raise PatternError(f"the pattern {shown(pattern)} is not UTF-8") from None
    if len(data) > PATTERN_BYTES_MAX:
        raise PatternError(
            f"a pattern of {len(data):,} bytes: at most {PATTERN_BYTES_MAX} are taken"
        )
    options = re2.Options()
    options.max_mem = MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True
    try:
        search = re2.compile(data, options).search
    except re2.error as error:
        why = error.args[0] if error.args else "no reason given"
        text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise PatternError(f"the pattern {shown(pattern)} cannot be used: {text}") from None
    re2.purge()  # The library would keep the last 128.
    return lambda text: search(text.encode("utf-8", "surrogateescape")) is not None
