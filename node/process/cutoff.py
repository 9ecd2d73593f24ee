"""The end of a process that does not come to its end by itself in time.

A clean stop has parts without a bound of their own: ten thousand clients that watch are ten
thousand tasks to be ended, which on a busy machine takes longer than a stop may. The event loop
cannot end the process in time, because the loop itself is busy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

STOP_SECONDS = 4.5
"""From the wish to stop to the end of the process; the contract (section 3) gives 5 s in all."""


def end_within(seconds: float, end: Callable[[int], object] = os._exit) -> None:
    """End this process with status 0 after so many seconds, if it still runs then.

    Nothing is logged and nothing tidied up then, for either could wait. What was acknowledged is on
    the disk; the system closes what is open.

    Args:
        seconds: From now; 0 or less: at once.
        end: What ends the process.
    """
    timer = threading.Timer(max(seconds, 0), end, args=(0,))
    timer.daemon = True
    timer.start()
