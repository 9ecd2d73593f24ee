"""A real node whose write-ahead log is damaged while it is down: it says so, and heals."""

from __future__ import annotations

from .cluster import Cluster, eventually


def test_a_node_that_lost_flushed_log_says_so_and_catches_up(three: Cluster) -> None:
    leader, (damaged, other) = three.leader(), three.followers()
    for number in range(40):
        assert leader.write(f"lost/{number}", "x" * 500).status == 200
    eventually(lambda: damaged.read("lost/39") == "x" * 500, "it has everything")
    damaged.kill()
    wal = max((damaged.directory / "db").glob("*.log"), key=lambda path: path.stat().st_size)
    content = bytearray(wal.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    wal.write_bytes(content)

    damaged.start()
    three.wait_healthy()

    assert "lost acknowledged log" in damaged.log()
    eventually(lambda: "the lost log is here again" in damaged.log(), "it says that it is over")
    assert damaged.read_all("lost/") == other.read_all("lost/")
    three.assert_no_traceback()
