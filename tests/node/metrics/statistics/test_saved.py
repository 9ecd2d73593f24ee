"""A file that may be lost, and never does harm."""

from __future__ import annotations

import pytest
import structlog.testing

from hstore.node.metrics.statistics import saved


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "statistics"
    saved.write(found, "statistics", 1, b"content")
    return found


def test_what_was_written_is_read_again(file):
    assert saved.read(file, "statistics", 1) == b"content"
    saved.write(file, "statistics", 1, b"")
    assert saved.read(file, "statistics", 1) == b""
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["statistics"]


def test_where_there_is_no_file_there_is_nothing_to_say(tmp_path):
    with structlog.testing.capture_logs() as lines:
        assert saved.read(tmp_path / "none", "statistics", 1) is None
    assert lines == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: whole[:-1] + b"T",
        lambda whole: whole.replace(b"statistics", b"timeline"),
        lambda whole: b"SQLite format 3",
        lambda whole: whole + b"more",
        lambda whole: bytes(9 << 20),
    ],
)
def test_a_file_that_is_damaged_or_foreign_is_put_aside_with_a_warning(file, damage):
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    with structlog.testing.capture_logs() as lines:
        assert saved.read(file, "statistics", 1) is None
    assert [line["log_level"] for line in lines] == ["warning"]
    assert not file.exists()
    assert file.with_name("statistics.damaged").read_bytes() == damaged
    saved.write(file, "statistics", 1, b"new")
    assert saved.read(file, "statistics", 1) == b"new"


def test_a_file_of_another_version_is_put_aside(file):
    with structlog.testing.capture_logs() as lines:
        assert saved.read(file, "statistics", 2) is None
    assert len(lines) == 1


def test_a_link_is_not_followed(file, tmp_path):
    target = tmp_path / "elsewhere"
    file.rename(target)
    file.symlink_to(target)
    with structlog.testing.capture_logs() as lines:
        assert saved.read(file, "statistics", 1) is None
    assert len(lines) == 1
    assert target.exists()


def test_a_directory_in_its_place_is_no_reason_to_fail(tmp_path):
    (tmp_path / "statistics").mkdir()
    with structlog.testing.capture_logs():
        assert saved.read(tmp_path / "statistics", "statistics", 1) is None


async def test_the_last_room_of_a_disk_is_left_to_the_database(tmp_path):
    path = tmp_path / "statistics"
    has_room = False
    one = saved.Saved(
        path, "statistics", 1, pack=bytes, unpack=lambda _: "", has_room=lambda: has_room
    )
    await one._save()
    assert not path.exists()
    has_room = True
    await one._save()
    assert path.exists()
