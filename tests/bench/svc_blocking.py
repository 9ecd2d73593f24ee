"""Many blocking reads of `health/service` on one follower, each of a service of its own.

As `blocking.py`, with services in place of keys: a change is a word of a client about the TTL check of
one service, at the member that runs the check, passing and warning in turn, so that each changes the
status. etcd does what its users do: a key of the same meaning, which is watched.
"""

from __future__ import annotations

import json

from . import blocking
from .plan import Plan, Rows
from .systems import Hstore, System, http

OF = " of services"

_TTL = "600s"
_STATUSES = ("warning", "passing")


def services(plan: Plan) -> Rows:
    """Delay from a change of a check sent to the reader's answer, and what it costs the follower."""
    yield from blocking.measured(plan, _Services())


class _Services(blocking.Subject):
    of = OF

    def make(self, system: System, leader: str, key: str) -> bytes:
        if not isinstance(system, Hstore):
            return super().make(system, leader, key)
        check = {"TTL": _TTL, "Status": "passing"}
        body = {"Name": key, "Port": 8080, "Tags": ["v1"], "Check": check}
        return http("PUT", leader, "/v1/agent/service/register", json.dumps(body).encode())

    def change(self, system: System, leader: str, key: str, run: int) -> bytes:
        if not isinstance(system, Hstore):
            return super().change(system, leader, key, run)
        # A run changes some of all in turn, so the same one again only after a whole round.
        body = {"Status": _STATUSES[self._changed(key) % 2], "Output": f"run {run}"}
        path = f"/v1/agent/check/update/service:{key}"
        return http("PUT", leader, path, json.dumps(body).encode())

    def path(self, key: str) -> str:
        return f"/v1/health/service/{key}"

    def __init__(self) -> None:
        self._changes: dict[str, int] = {}

    def _changed(self, key: str) -> int:
        """Return how often a service was changed before, and count it."""
        count = self._changes.get(key, 0)
        self._changes[key] = count + 1
        return count
