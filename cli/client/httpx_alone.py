"""httpx without the optional modules that it imports and no command uses.

`import httpx` brings a command line of its own (pygments, much of rich), and httpcore the event loops
of its asynchronous half (trio, anyio). Both libraries do without a module that is not installed. So
while they are imported, these count as not installed; modules that were imported before stay, and
all can be imported afterwards.

Why `sys.modules` is patched for that: neither library has a switch, and importing only a part of
httpx (`httpx._client`) still runs `httpx/__init__.py`, which imports all of it. Measured, medians of
five on Python 3.11: 250 ms for plain `import httpx` with its transport, 190 without `httpx._main`,
145 without trio and anyio, 84 without all three; a whole `hstore list` uses about 300.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Within this block, let modules that are not imported yet count as not installed."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: ImportError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _absent("httpx._main", "trio", "anyio"):
    import httpx

    # The first transport imports httpcore. `verify`: read no certificates.
    httpx.HTTPTransport(verify=False).close()

__all__ = ["httpx"]
