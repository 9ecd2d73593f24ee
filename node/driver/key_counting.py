"""Counts users' keys in the background, where the state does not know their number at once.

Which keys those are, and when they are counted anew, is in `state/kv/key_count.py`.
"""

from __future__ import annotations

import trio

from ..net.flag import Flag
from ..state.kv.key_count import KeyCount

_SLICE_PAIRS = 512
_PAUSE_S = 0.003
"""A slice keeps the loop for some 0.7 ms, and then all other tasks have it for four times as long:
1,000,000 keys take some 7 s."""


async def count_keys(count: KeyCount) -> None:
    """Count whatever there is to be counted, until cancelled.

    Args:
        count: Of the state that this node runs on.

    Raises:
        StorageError: The state cannot be read.
    """
    wake = Flag()
    count.on_begin = wake.set
    try:
        while True:
            if count.step(_SLICE_PAIRS):
                await trio.sleep(_PAUSE_S)
            else:
                await wake.wait()
    finally:
        count.end()
