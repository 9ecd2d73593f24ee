"""The finder of a command: with the sources that everybody has, and the addresses asked before those.

The list of sources is in `hstore.node.discovery.sources`, for commands and nodes alike. An address in
`HSTORE_HOST` belongs to the first source. With `-h ADDR` there is no search.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hstore.dns.ip_literals import is_ip
from hstore.node.config.settings import ZONE, load_search
from hstore.node.discovery import saved_members

from .find import Finder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hstore.dns.finder import Source
    from hstore.node.config.settings import Discovery, NodeSettings
    from hstore.node.discovery.run_record import RunRecord


def finder_of(flags: Mapping[str, object], env: Mapping[str, str]) -> Finder:
    """Return the finder of the cluster that flags and environment describe.

    Raises:
        ConfigError: One of the settings of a search is bad.
    """
    search = load_search(flags, env)
    return _finder(
        search.zone, search.discovery, search.data_dir, env, is_zone_given=search.is_zone_given
    )


def finder_of_started(zone: str, env: Mapping[str, str]) -> Finder:
    """Return the finder for a node that was just started here.

    Args:
        zone: The zone that it says. It excludes no other: a newcomer may not know its zone yet.
        env: The environment.

    Raises:
        ConfigError: One of the settings of a search is bad.
    """
    search = load_search({ZONE: zone}, env)
    return _finder(zone, search.discovery, search.data_dir, env, is_zone_given=False)


def finder_for_node(settings: NodeSettings, env: Mapping[str, str]) -> Finder:
    """Return the finder of the cluster that a node with these settings is to join."""
    return _finder(
        settings.cluster.zone,
        settings.discovery,
        settings.data_dir,
        env,
        is_zone_given=ZONE in settings.given,
    )


def _finder(
    zone: str,
    discovery: Discovery,
    data_dir: Path | None,
    env: Mapping[str, str],
    *,
    is_zone_given: bool,
) -> Finder:
    def sources() -> list[Source]:
        from hstore.node.discovery.sources import sources  # Trio is slow to import

        return sources(discovery, data_dir, env)

    def recorded() -> list[RunRecord]:
        from hstore.node.discovery import run_record
        from hstore.node.storage.directory import has_data

        ended = [one for one in run_record.records(env) if not run_record.is_running(one)]
        can_start = [one for one in ended if has_data(Path(one.data_dir))]
        return run_record.running_here(env) + can_start

    return Finder(
        zone,
        is_zone_given=is_zone_given,
        sources=sources,
        named=lambda: named(discovery, data_dir),
        recorded=recorded,
    )


def named(discovery: Discovery, data_dir: Path | None) -> list[str]:
    """Return the addresses of the first source; none where a host has to be resolved first."""
    saved = saved_members.read(data_dir) if data_dir is not None else None
    addresses = [*discovery.hosts, *(saved.api_addresses() if saved else ())]
    if not all(is_ip(one.host) for one in addresses):
        return []
    return list(dict.fromkeys(map(str, addresses)))
