"""The clients, by the names that `--only` takes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.system.cluster import Cluster

from . import haproxy, http_sd, node_consul, patroni, place, py_consul
from .outcome import Outcome, Unavailable
from .scripted import SCRIPTED, Scripted


def _follower(cluster: Cluster) -> str:
    return cluster.followers()[0].address


def _guarded(name: str, version: str, run: Callable[[], Outcome]) -> Outcome:
    """Run a client; what it lacks is said in its line."""
    try:
        return run()
    except Unavailable as lacking:
        return Outcome(name, version, missing=str(lacking))


def _scripted(client: Scripted) -> Callable[[Cluster], Outcome]:
    return lambda cluster: _guarded(
        client.name, client.version, lambda: client.run(_follower(cluster))
    )


SHARED: dict[str, Callable[[Cluster], Outcome]] = {
    py_consul.NAME: lambda cluster: _guarded(
        py_consul.NAME, py_consul.VERSION, lambda: py_consul.run_all(_follower(cluster))
    ),
    **{one.name: _scripted(one) for one in SCRIPTED},
    node_consul.NAME: lambda cluster: _guarded(
        node_consul.NAME, node_consul.VERSION, lambda: node_consul.run(_follower(cluster))
    ),
    http_sd.NAME: lambda cluster: _guarded(
        http_sd.NAME, http_sd.version(), lambda: http_sd.run(cluster)
    ),
}
"""Clients that ask one and the same cluster, one after the other."""

ALONE: dict[str, Callable[[bool], Outcome]] = {
    node_consul.SUITE: lambda _is_long: _guarded(
        node_consul.SUITE, node_consul.VERSION, node_consul.run_suite
    ),
    patroni.NAME: lambda is_long: _guarded(
        patroni.NAME, patroni.VERSION, lambda: patroni.run(is_long=is_long)
    ),
    haproxy.NAME: lambda is_long: _guarded(
        haproxy.NAME, haproxy.version(), lambda: haproxy.run(is_long=is_long)
    ),
}
"""Clients with clusters of their own."""

INSTALLS: dict[str, Callable[[], object]] = {
    py_consul.NAME: py_consul.install,
    **{one.name: one.install for one in SCRIPTED},
    node_consul.NAME: node_consul.install,
    node_consul.SUITE: node_consul.install_suite,
    patroni.NAME: patroni.install,
    haproxy.NAME: haproxy.install,
    http_sd.NAME: http_sd.install,
}

NAMES = (*SHARED, *ALONE)


def outcomes(names: tuple[str, ...], *, is_long: bool) -> Iterator[Outcome]:
    """Run the clients of these names, and give what came of each as soon as it is known."""
    shared = [name for name in names if name in SHARED]
    if shared:
        with place.three() as cluster:
            for name in shared:
                yield SHARED[name](cluster)
            cluster.assert_no_traceback()
    for name in names:
        if name in ALONE:
            yield ALONE[name](is_long)
