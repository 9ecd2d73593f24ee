"""What a node tells those outside: its record as things change, and once that it serves."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from hstore.node.config.settings import load_settings
from hstore.node.discovery import run_record
from hstore.node.discovery.run_record import RunRecord
from hstore.node.process.launch import Launch, LogStart
from tests.node.memory_cluster import running


@pytest.fixture
def env(tmp_path):
    return {"HOME": str(tmp_path), "HSTORE_CACHE_MB": "8", "PATH": "/bin", "SECRET": "x"}


@pytest.fixture
def settings(tmp_path):
    return load_settings({"data_dir": str(tmp_path / "d")}, {})


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)  # what is missing fails, and does not hang
    yield read_end, write_end
    os.close(read_end)


@asynccontextmanager
async def keeping(launch, node, settings):
    """Keep the record of a node, for the length of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(launch.keep_record, node, settings)
        yield
        nursery.cancel_scope.cancel()


async def test_the_record_says_what_starts_the_node_again_and_nothing_more_of_its_environment(
    autojump_clock, env, settings
):
    launch = Launch(("start", "--name=x"), env, "/l/hstore.log")
    async with running(1) as cluster, keeping(launch, cluster[1].node, settings):
        await trio.testing.wait_all_tasks_blocked()
        [record] = run_record.running(env)
        assert (record.name, record.node_id) == ("n1", f"{1:016x}")
        assert record.cluster_id == cluster[1].node.replica.storage.identity.cluster_id
        assert record.process.pid == os.getpid()
        assert record.arguments == ("start", "--name=x")
        assert record.variables == {"HSTORE_CACHE_MB": "8"}
        assert (record.data_dir, record.log_file) == (str(settings.data_dir), "/l/hstore.log")
    launch.forget(settings)
    assert run_record.records(env) == []


async def test_the_record_follows_the_name_that_the_cluster_gives_and_is_written_when_it_is_new(
    autojump_clock, env, settings, monkeypatch
):
    written = []
    monkeypatch.setattr(run_record, "write", lambda record, _env: written.append(record))
    async with running(1) as cluster:
        newcomer = cluster.add()
        await cluster.let_in(newcomer, 1)
        async with keeping(Launch((), env), newcomer.node, settings):
            await cluster.until(lambda: written and written[-1].name == "n2")
            # This changes the cluster, and nothing of the record.
            await cluster.join()
    assert written[0].name == ""
    assert len(set(map(msgspec.json.encode, written))) == len(written)


async def test_who_waits_gets_log_and_record_and_then_the_end(
    autojump_clock, env, settings, pipe, tmp_path
):
    read_end, write_end = pipe
    log = tmp_path / "hstore.log"
    log.write_text("before")
    launch = Launch((), env, str(log), write_end)
    launch.tell_log()
    async with running(1) as cluster, keeping(launch, cluster[1].node, settings):
        await trio.testing.wait_all_tasks_blocked()
        first, second, rest = os.read(read_end, 65536).split(b"\n")
        assert msgspec.json.decode(first, type=LogStart) == LogStart(str(log), 6)
        assert msgspec.json.decode(second, type=RunRecord) == run_record.records(env)[0]
        assert (rest, os.read(read_end, 1)) == (b"", b"")


async def test_a_record_that_cannot_be_written_is_one_warning_and_who_waits_is_told_all_the_same(
    autojump_clock, env, settings, pipe
):
    read_end, write_end = pipe
    env["XDG_STATE_HOME"] = "/dev/null"
    launch = Launch((), env, "", write_end)
    with capture_logs() as logs:
        async with running(1) as cluster:
            newcomer = cluster.add()
            await cluster.let_in(newcomer, 1)
            async with keeping(launch, newcomer.node, settings):
                await cluster.until(lambda: newcomer.node.process.name == "n2")
                await cluster.join()
                assert b'"node_id"' in os.read(read_end, 65536)
    warnings = [log for log in logs if log["event"] == "the record of this run cannot be written"]
    assert len(warnings) == 1
