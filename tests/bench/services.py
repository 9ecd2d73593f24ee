"""Services beside what etcd's users do for the same: all rows, each in a file of its own (`svc_…`)."""

from __future__ import annotations

from . import svc_blocking, svc_health, svc_outage
from .plan import Plan, Rows, Section, guarded

ROWS: dict[str, Section] = {
    "blocking reads of services": svc_blocking.services,
    "reads of services": svc_health.health,
    "registrations when the leader is lost": svc_outage.outage,
}
"""Each starts and ends clusters of its own. Where one fails, the others are measured all the same."""


def services(plan: Plan) -> Rows:
    """Measure all of them."""
    for name, rows in ROWS.items():
        yield from guarded(name, rows(plan))
