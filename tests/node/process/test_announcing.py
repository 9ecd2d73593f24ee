"""What a node tells the cluster of itself, and of what it notices on the way."""

from __future__ import annotations

import msgspec
from structlog.testing import capture_logs

from hstore.node.config.settings import load_settings
from hstore.node.model.commands import ClusterSettings
from hstore.node.process import announcing


def test_only_the_setting_that_was_given_and_differs_is_warned_of(tmp_path):
    flags = {"cluster.heartbeat": "50ms", "cluster.zone": "a.example"}
    settings = load_settings({"data_dir": str(tmp_path), **flags}, {"HOME": str(tmp_path)})
    agreed = msgspec.structs.replace(ClusterSettings(), zone="a.example", dns_ttl_s=9)
    with capture_logs() as logs:
        announcing._warn_of_differences(settings, agreed)
    assert [(log["key"], log["given"], log["cluster"]) for log in logs] == [
        ("cluster.heartbeat", "50ms", "200ms")
    ]
