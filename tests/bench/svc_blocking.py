"""Many blocking reads of `health/service` on one follower, each of a service of its own.

As `blocking.py`, with services in place of keys. They are spread over the two other members, each of
which takes 5,000 at most. A change is a client's word about the TTL check of one of them, at the member that
runs the check: passing and warning in turn, so that each changes the status. etcd does what its users
do: a key of the same meaning, which is watched.
"""

from __future__ import annotations

import json

from . import blocking
from .plan import Plan, Rows
from .systems import Hstore, System, http

OF = " of services"

_TTL = "24h"
_STATUSES = ("warning", "passing")


def services(plan: Plan) -> Rows:
    """Delay from a change of a check sent to the reader's answer, and what it costs the follower."""
    yield from blocking.measured(plan, _Services())


class _Services(blocking.Subject):
    of = OF

    def __init__(self) -> None:
        self._changes: dict[str, int] = {}
        self._owners: list[str] = []

    def node(self, system: System, leader: str, number: int) -> str:
        if not isinstance(system, Hstore):
            return leader
        if not self._owners:
            asked = system.followers()[0]
            self._owners = [address for address in system.addresses if address != asked]
        return self._owners[number % len(self._owners)]

    def make(self, system: System, address: str, key: str) -> bytes:
        if not isinstance(system, Hstore):
            return super().make(system, address, key)
        check = {"TTL": _TTL, "Status": "passing"}
        body = {"Name": key, "Port": 8080, "Tags": ["v1"], "Check": check}
        return http("PUT", address, "/v1/agent/service/register", json.dumps(body).encode())

    def change(self, system: System, address: str, key: str) -> bytes:
        if not isinstance(system, Hstore):
            return super().change(system, address, key)
        # A run changes some of all in turn, so the same one again only after a whole round.
        count = self._changes.get(key, 0)
        self._changes[key] = count + 1
        body = json.dumps({"Status": _STATUSES[count % 2], "Output": f"change {count}"})
        path = f"/v1/agent/check/update/service:{key}"
        return http("PUT", address, path, body.encode())

    def path(self, key: str) -> str:
        return f"/v1/health/service/{key}"
