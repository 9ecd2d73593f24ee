"""What a node tells the cluster of itself, and of what it notices on the way."""

from __future__ import annotations

import msgspec
import trio
from structlog.testing import capture_logs

from hstore.node.config.settings import load_settings
from hstore.node.model.commands import ClusterSettings
from hstore.node.process import announcing
from tests.node.memory_cluster import running


def test_only_the_setting_that_was_given_and_differs_is_warned_of(tmp_path):
    flags = {"cluster.heartbeat": "50ms", "cluster.zone": "a.example"}
    settings = load_settings({"data_dir": str(tmp_path), **flags}, {"HOME": str(tmp_path)})
    agreed = msgspec.structs.replace(ClusterSettings(), zone="a.example", dns_ttl_s=9)
    with capture_logs() as logs:
        announcing._warn_of_differences(settings, agreed)
    assert [(log["key"], log["given"], log["cluster"]) for log in logs] == [
        ("cluster.heartbeat", "50ms", "200ms")
    ]


async def test_a_refused_announcement_is_logged_once_and_not_each_second(autojump_clock):
    """Another member has the address by now, and this node goes on asking."""
    async with running(2) as cluster:
        taken = msgspec.structs.replace(cluster[1].settings, data_dir=cluster[2].settings.data_dir)
        with capture_logs() as logs:
            with trio.move_on_after(60):
                await announcing.keep_announced(cluster[2].node, taken)
        refused = [log for log in logs if "does not take" in log["event"]]
        assert len(refused) == 1
