"""What a leader decides by itself, by its clocks or by whom it hears: written in its own term or never.

The next leader has heard others and has started all clocks anew, so nothing of this may be forwarded to
it, nor wait here until this node is elected again: a session would end, or a check be critical, that has
been renewed since.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..model import commands
from ..peers.wire import ForwardKind
from .requests import NotLeading, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replica import Replica
    from .requests import Answer


def submit_decision(
    replica: Replica, command: commands.Command, term: int, tell: Callable[[Answer], None]
) -> Request:
    """Have a command written that this node has decided on as the leader of a term.

    A room hears a moment later that its node leads no more; what it decides in that moment is refused
    here. There is no deadline: until it is applied or has failed, nobody knows which.

    Args:
        replica: Of this node.
        command: What it has decided.
        term: In which it led then.
        tell: Gets the outcome or the error; `NotLeading` before this returns.

    Raises:
        Overloaded: It took no effect; `tell` is not called.
    """
    # As if another node had sent it here: what leads no more never forwards that.
    request = Request(ForwardKind.WRITE, commands.encode(command), math.inf, tell, is_foreign=True)
    if replica.facts.is_leader and replica.facts.term == term:
        replica.submit(request)
    else:
        request.finish(NotLeading())
    return request
