"""Services beside what etcd's users do for the same: all rows, each in a file of its own (`svc_…`)."""

from __future__ import annotations

from . import (
    svc_blocking,
    svc_checks,
    svc_dns,
    svc_health,
    svc_memory,
    svc_outage,
    svc_register,
    svc_result,
    svc_words,
)
from .plan import Plan, Rows, Section, guarded
from .rows import Target

ROWS: dict[str, Section] = {
    "registrations": svc_register.register,
    "words of TTL checks": svc_words.words,
    "blocking reads of services": svc_blocking.services,
    "DNS of services": svc_dns.svc_dns,
    "reads of services": svc_health.health,
    "HTTP checks": svc_checks.checks,
    "memory of instances": svc_memory.memory,
    "registrations when the leader is lost": svc_outage.outage,
    "results of checks": svc_result.result,
}
"""Each starts and ends clusters of its own. Where one fails, the others are measured all the same."""

TARGETS: tuple[Target, ...] = (
    *svc_register.TARGETS,
    *svc_words.TARGETS,
    *svc_dns.TARGETS,
    *svc_checks.TARGETS,
    *svc_memory.TARGETS,
    *svc_outage.TARGETS,
    *svc_result.TARGETS,
    Target(
        "services: elections in any row",
        "none",
        (),
        zero=(
            svc_register.ELECTIONS,
            svc_words.ELECTIONS,
            svc_health.ELECTIONS,
            svc_checks.ELECTIONS,
            svc_memory.ELECTIONS,
            svc_result.ELECTIONS,
        ),
    ),
)
"""Those of `svc_blocking` and `svc_health` are in `report.py`."""


def services(plan: Plan) -> Rows:
    """Measure all of them."""
    for name, rows in ROWS.items():
        yield from guarded(name, rows(plan))
