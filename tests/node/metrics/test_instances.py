"""Instances by their worst check, from what the catalog has in memory of the checks that are bad."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hstore.node.metrics.series import instance_statuses
from hstore.node.model.checks import CheckStatus
from hstore.node.state.batch import Batch
from hstore.node.state.catalog.index import CatalogIndex, Name
from hstore.node.state.catalog.records import instance_key

STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")


class NoUndo(Batch):
    """A batch of which only is known that nothing is taken back."""

    def __init__(self) -> None:
        self.undo = None


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["", "a", "b", "c"]),
            st.sampled_from("xyz"),
            st.sampled_from(STATUSES),
        ),
        max_size=20,
    )
)
def test_each_instance_counts_once_by_its_worst_check(checks):
    catalog, batch = CatalogIndex(), NoUndo()
    instances = {(node, service) for node in (1, 2, 3) for service in "abc"}
    for node, service in instances:
        name = catalog.names.get(service.encode()) or Name(service.encode(), service, 1)
        catalog.add_instance(batch, instance_key(node, service), service, name, ())
    said: dict[tuple[int, str], tuple[str, CheckStatus]] = {}
    for node, service, check, status in checks:
        catalog.set_check(batch, node, service + check, service, status)
        said[node, service + check] = service, status
    for node, check in [*said][::3]:
        catalog.set_check(batch, node, check, None, said.pop((node, check))[1])

    worst = dict.fromkeys(instances, 0)
    for (node, _), (service, status) in said.items():
        for one in instances:
            if one[0] == node and service in ("", one[1]):
                worst[one] = max(worst[one], STATUSES.index(status))
    expected = [[*worst.values()].count(rank) for rank in range(3)]
    found = instance_statuses(catalog)
    assert [found[status] for status in STATUSES] == expected
