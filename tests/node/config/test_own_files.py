"""What another user has, may change, or has put in the way is not used; what is ours works on."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from hstore.cli.shell.shell import open_history
from hstore.node.config import own_files
from hstore.node.config.own_files import NotOursError
from hstore.node.discovery import run_record
from hstore.node.errors import StorageError
from hstore.node.process import log_file
from hstore.node.storage.directory import DirectoryLock
from tests.node.discovery.test_run_record import make

ADA, EVE = 61_001, 61_002  # no user has these numbers


@pytest.fixture
def place():
    """A folder in which everybody may make files, as in /tmp."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be several users; `unshare -r` has only one")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def user(number):
    """Be another user until the end of `with`."""
    os.setegid(number)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def made_by(number, make):
    with user(number):
        return make()


# Directories


def test_a_directory_is_made_for_its_owner_alone_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        own_files.make_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_is_not_used_and_the_error_says_how_to_mend_it(
    tmp_path, mode
):
    path = tmp_path / "data"
    path.mkdir()
    (path / "file").touch()
    path.chmod(mode)
    with pytest.raises(NotOursError, match=f"chmod go-w {path}"):
        own_files.make_directory(path)
    path.chmod(0o755)
    own_files.make_directory(path)


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o770])
def test_an_empty_directory_of_the_user_is_taken_from_others(tmp_path, mode):
    """As mkdir makes it with the umask 002. A link to it, such as to another disk, changes nothing."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(mode)
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    own_files.make_directory(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == mode & 0o755
    DirectoryLock(tmp_path / "data").release()


def test_an_empty_directory_that_is_shared_on_purpose_is_left_as_it_is(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o1777)
    with pytest.raises(NotOursError, match="chmod go-w"):
        own_files.make_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o1777


def test_what_another_user_puts_into_an_empty_directory_at_the_last_moment_is_not_used(
    tmp_path, monkeypatch
):
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o777)
    chmod = os.fchmod

    def be_slow(fd, mode):
        (path / "db").touch()
        chmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", be_slow)
    with pytest.raises(NotOursError, match="can be written by other users"):
        own_files.make_directory(path)
    with pytest.raises(NotOursError, match="can be written by other users"):
        own_files.make_directory(path)


def test_root_leaves_the_empty_directory_of_another_user_as_it_is(place):
    made_by(ADA, (place / "data").mkdir)
    (place / "data").chmod(0o770)
    with pytest.raises(NotOursError, match="chmod go-w"):
        own_files.make_directory(place / "data")


def test_a_file_or_a_link_that_leads_nowhere_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        with pytest.raises(NotOursError, match=f"{name} is no directory"):
            own_files.make_directory(tmp_path / name)


def test_a_directory_of_another_user_is_not_used(place):
    made_by(EVE, (place / "data").mkdir)
    with user(ADA), pytest.raises(NotOursError, match=f"belongs to user {EVE}"):
        own_files.make_directory(place / "data")


def test_a_link_that_another_user_has_put_in_the_place_of_a_directory_is_not_followed(place):
    """To a directory of ours: what is in there would be overwritten."""
    made_by(ADA, (place / "home").mkdir)
    made_by(EVE, lambda: (place / "data").symlink_to(place / "home"))
    with user(ADA), pytest.raises(NotOursError, match=f"a link that user {EVE} has made"):
        own_files.make_directory(place / "data")


@pytest.mark.parametrize("who", [ADA, 0])
def test_a_link_of_the_user_or_of_root_to_a_directory_of_the_user_is_followed(place, who):
    """A home on another disk; systemd's directory of a dynamic user."""
    made_by(ADA, (place / "home").mkdir)
    made_by(who, lambda: (place / "data").symlink_to(place / "home"))
    with user(ADA):
        own_files.make_directory(place / "data")
        DirectoryLock(place / "data").release()


def test_root_may_use_a_directory_of_a_user_and_what_a_node_of_that_user_left_in_it(place):
    directory = place / "data"
    made_by(ADA, lambda: DirectoryLock(directory).release())
    DirectoryLock(directory).release()
    os.close(own_files.open_own(directory / "new", os.O_WRONLY | os.O_CREAT))
    os.close(own_files.open_own(directory / "new", os.O_WRONLY))


def test_root_follows_no_link_out_of_a_directory_of_a_user(place):
    directory, victim = place / "data", place / "victim"
    victim.write_text("of root")
    made_by(ADA, directory.mkdir)
    made_by(ADA, lambda: (directory / "lock").symlink_to(victim))
    with pytest.raises(StorageError, match="is a link, which is not followed"):
        DirectoryLock(directory)
    made_by(ADA, lambda: (directory / "members.json.new").symlink_to(victim))
    own_files.replace(directory / "members.json", b"members")
    assert victim.read_text() == "of root"
    assert (directory / "members.json").read_bytes() == b"members"


def test_root_uses_no_file_of_its_own_that_a_user_has_given_another_name(place):
    directory = place / "data"
    made_by(ADA, directory.mkdir)
    victim = place / "victim"
    victim.write_text("of root")
    os.link(victim, directory / "lock")
    with pytest.raises(StorageError, match="is a file of root with another name"):
        DirectoryLock(directory)
    assert victim.read_text() == "of root"


# Files


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "writable"])
def test_only_a_regular_file_of_this_user_is_opened_and_nothing_blocks(tmp_path, kind):
    file, other = tmp_path / "file", tmp_path / "other"
    other.write_text("kept")
    if kind == "link":
        file.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        file.touch()
        file.chmod(0o666)
    flags = os.O_RDONLY if kind in ("pipe", "directory") else os.O_WRONLY | os.O_CREAT
    with pytest.raises(NotOursError):
        own_files.open_own(file, flags)
    assert other.read_text() == "kept"


def test_a_file_of_another_user_is_not_opened(place):
    made_by(EVE, (place / "file").touch)
    (place / "file").chmod(0o644)
    with user(ADA), pytest.raises(NotOursError, match=f"belongs to user {EVE}"):
        own_files.open_own(place / "file", os.O_RDONLY)


def test_a_file_is_replaced_whole_and_what_a_crash_has_left_is_in_nobodys_way(tmp_path):
    file = tmp_path / "a.json"
    (tmp_path / "a.json.new").write_text("half")
    own_files.replace(file, b"whole", is_durable=True)
    own_files.replace(file, b"again")
    assert file.read_bytes() == b"again"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


# Those who use them


def test_a_log_is_not_led_into_a_link(tmp_path):
    (tmp_path / "victim").touch()
    (tmp_path / log_file.NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(NotOursError, match="is a link"):
        log_file.take_over(tmp_path)


def test_a_record_that_another_user_has_written_is_passed_over(place):
    """`restart` starts a node with the arguments in it."""
    env = {"XDG_STATE_HOME": str(place / "state")}
    with user(ADA):
        run_record.write(make(), env)
        assert run_record.records(env)
        [file] = (place / "state" / "hstore" / "nodes").iterdir()
    os.chown(file, EVE, EVE)
    file.chmod(0o644)
    with user(ADA):
        assert run_record.records(env) == []
    os.chown(file, ADA, ADA)
    file.chmod(0o666)
    with user(ADA):
        assert run_record.records(env) == []


def test_root_starts_no_node_with_arguments_that_another_user_has_recorded(place):
    """As in `sudo -E hstore restart`, which leaves HOME as it is."""
    env = {"XDG_STATE_HOME": str(place / "state")}
    made_by(ADA, lambda: run_record.write(make(), env))
    assert run_record.records(env) == []


def test_a_record_is_not_written_where_others_may_write(tmp_path):
    nodes = tmp_path / "hstore" / "nodes"
    nodes.mkdir(parents=True)
    (nodes / "of-another-node.json").touch()
    nodes.chmod(0o777)
    with pytest.raises(OSError, match="can be written by other users"):
        run_record.write(make(), {"XDG_STATE_HOME": str(tmp_path)})


def test_a_history_that_is_a_link_is_left_alone_and_the_shell_remembers_in_memory(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "history").symlink_to(victim)
    history = open_history(tmp_path / "history")
    history.append_string("get a")
    assert history.get_strings() == ["get a"]
    assert victim.read_text() == "kept"
