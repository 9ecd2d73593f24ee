"""httpx without what it brings along for purposes of others: half of the time of a quick command.

With httpx come a command line of its own (pygments, half of rich) and, with httpcore, the event loops
of its asynchronous half. Told that these are not there, both go on without, as they do where they are
not installed. What is imported already is left alone, and all can be imported afterwards.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Have modules count as not installed for a while, but for those that are imported already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not to be imported
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _absent("httpx._main", "trio", "anyio"):
    import httpx

    # The first one imports httpcore. Nothing is encrypted here, and no certificates are read.
    httpx.HTTPTransport(verify=False).close()

__all__ = ["httpx"]
