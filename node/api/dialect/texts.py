"""Which paths speak the dialect, and the texts of errors that its clients compare.

Imports nothing: the command line reads these answers too (`cli/client/errors.py`), and has to tell them
from the JSON of all other paths.
"""

from __future__ import annotations

_ROOTS = frozenset(
    b"kv session txn catalog health agent event query coordinate snapshot operator acl status".split()
)
"""First names under `/v1/`."""

# Consul's agent/http.go, `Index`, `codeWithPayload` and `MethodNotAllowedError`; rpc errors of
# agent/structs/errors.go and raft's `ErrLeadershipLost`.
NO_SUCH_PATH = "Invalid URL path: not a recognized HTTP API endpoint"
NO_LEADER = "No cluster leader"
LEADERSHIP_LOST = "leadership lost while committing log"
NO_PATH = "No path to datacenter"
DENIED = "Permission denied"


def is_dialect(path: bytes) -> bool:
    """Whether a path speaks the dialect, whether or not there is anything at it."""
    start, _, rest = path.partition(b"/v1/")
    if start or not rest:
        return path == b"/"
    root, slash, _ = rest.partition(b"/")
    # `/v1/health` itself is hstore's own.
    return root in _ROOTS and (root != b"health" or slash != b"")
