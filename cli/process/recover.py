"""`recover`: what a stopped node's directory holds, and a cluster of one out of it.

Owns what is printed and asked. The work on the directory is in `hstore.node.process.only_voter`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import msgspec
import trio

from hstore.node.discovery import run_record, saved_members
from hstore.node.discovery.saved_members import SavedMembers
from hstore.node.errors import ConfigError, Refused
from hstore.node.process.only_voter import Survey, make_only_voter, survey
from hstore.node.storage.directory import has_data

from ..client.plain import plain, plain_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def recover(
    data_dir: Path,
    env: Mapping[str, str],
    *,
    as_only_voter: bool = False,
    yes: bool = False,
    as_json: bool = False,
) -> int:
    """Show what a directory holds, or make its node the only voter of a new cluster.

    Returns:
        The exit status: 1 when the operator said no.

    Raises:
        ConfigError: There is no terminal to ask on, and `yes` was not given.
        Refused, StorageError: The directory is in use, holds no node, is another user's, or is damaged
            too much.
    """
    path = data_dir.absolute()
    if not has_data(path):
        raise Refused(
            f"{path} holds no hstore node; give --data-dir the directory of a stopped node"
        )
    record = run_record.record_of(env, path)
    if record and run_record.is_running(record):
        raise Refused(
            f"the node of {path} still runs, at {record.address} (process {record.process.pid}); "
            f"`hstore stop -h {record.address}` stops it, then repeat this"
        )
    if as_only_voter and not yes and not (sys.stdin and sys.stdin.isatty()):
        raise ConfigError(
            "recover --as-only-voter changes the cluster for good: without a terminal to ask on, "
            "it needs --yes"
        )
    if as_only_voter:
        _refuse_another_users(path)
    found = trio.run(survey, path)
    if not as_only_voter:
        _show(found, as_json=as_json)
        return 0
    if found.only_voter:
        _end(found, as_json=as_json, already=True)
        return 0
    # Standard output is for the JSON alone.
    click.echo(_told(found) + _what_it_costs(found), err=as_json)
    if not yes and not click.confirm("Make this node a cluster of its own?"):
        click.echo("hstore: nothing was changed", err=True)
        return 1
    before = os.umask(0o077)  # RocksDB would let every user read the files that it makes
    try:
        done = trio.run(make_only_voter, path)
    finally:
        os.umask(before)
    _forget_members(path, done, env)
    _end(done, as_json=as_json)
    return 0


def _refuse_another_users(path: Path) -> None:
    """Refuse to make files that the node's user could not read."""
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise Refused(
            f"{path} belongs to user {owner}: run this as that user, such as by "
            f"`sudo -u '#{owner}' hstore recover --data-dir {path} --as-only-voter`"
        )


def _show(found: Survey, *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(found))
        return
    click.echo(_told(found) + _what_next(found), nl=False)


def _end(done: Survey, *, as_json: bool, already: bool = False) -> None:
    """Print what the directory is now, and the next steps."""
    if as_json:
        click.echo(_json(done))
        return
    name = plain(done.name or done.id)
    origin = f", recovered from {done.recovered_from}" if done.recovered_from else ""
    if already:
        click.echo(
            f"nothing was changed: {name} is already the only voter of cluster {done.cluster_id}"
            f"{origin}, and has lost nothing"
        )
    else:
        click.echo(
            f"{name} is now the only voter of the new cluster {done.cluster_id}{origin}: "
            f"{_keys(done)}, log up to entry {done.last_index}"
        )
    click.echo(f"{_start(done)} starts it, and it leads at once")
    if not already:
        click.echo(
            "the other machines come back by `hstore join`, each with an empty directory; their old "
            "directories are refused"
        )


def _start(found: Survey) -> str:
    """Return the command that starts the node of a directory where it was."""
    own = next((plain(one.address) for one in found.members if one.id == found.id), "")
    at = f"-h {own} " if own else ""
    return f"`hstore start {at}--data-dir {found.data_dir}`"


def _told(found: Survey) -> str:
    """Return what a directory holds, a line for each thing."""
    name = plain(found.name) if found.name else "no name yet"
    lost, durable = found.lost, found.durable_index
    rows = [
        ("node", f"{name}, id {found.id}{'' if found.is_voter else ', a learner'}"),
        ("cluster", f"{found.cluster_id}, zone {plain(found.zone)}"),
        ("recovered", f"from {found.recovered_from}" if found.recovered_from else ""),
        (
            "log",
            f"up to entry {found.last_index} of term {found.last_term}; newest term {found.term}",
        ),
        (
            "durable",
            "not recorded" if durable is None else f"entry {durable} was flushed for certain",
        ),
        (
            "agreed",
            f"by a majority, up to entry {found.commit_index} at least",
        ),
        ("state", f"{_keys(found)}, as of entry {found.applied_index}"),
        ("lost", "nothing that was acknowledged" if lost is None else plain(lost)),
    ]
    lines = [f"{label:<10} {text}" for label, text in rows if text]
    for at, member in enumerate(found.members):
        kind = "votes" if member.voter else "does not vote"
        label = "" if at else "members"
        name = plain(member.name) or f"id {member.id}"
        lines.append(f"{label:<10} {name}  {plain(member.address) or '-'}  {kind}")
    return "\n".join(lines) + "\n"


def _what_next(found: Survey) -> str:
    if found.only_voter:
        return f"\nIt leads as soon as it is started: {_start(found)}\n"
    command = f"`hstore recover --data-dir {found.data_dir} --as-only-voter`"
    if found.unfinished:
        return f"\nAn earlier recovery was cut short; {command} finishes it.\n"
    return (
        "\nIf a majority of the voters can still be started, start them.\n"
        "If not, compare the directories of all members: take the one that lost nothing, with the "
        "highest term of its last entry, then the highest entry.\n"
        f"{command} makes this node a cluster of one.\n"
    )


def _what_it_costs(found: Survey) -> str:
    """Return what will be lost, before the operator is asked."""
    after = f"everything after entry {found.last_index}"
    lines = [
        "",
        f"This makes {plain(found.name or found.id)} a cluster of one, under a new id. For good:",
        f"- {after} is lost, even if other members have acknowledged it to clients;",
    ]
    if found.last_index > found.commit_index:
        first, last = found.commit_index + 1, found.last_index
        what = f"entry {last} takes" if first == last else f"entries {first} to {last} take"
        lines.append(f"- {what} effect, though perhaps no majority had agreed on that;")
    if not found.is_voter:
        lines.append("- it was a learner, which may be behind all voters;")
    lines.append("- the other members, and their directories, are refused from then on.")
    return "\n".join(lines) + "\n"


def _keys(found: Survey) -> str:
    return f"{found.keys} key{'s' * (found.keys != 1)}"


def _json(found: Survey) -> str:
    return plain_json(msgspec.json.encode(found).decode())


def _forget_members(path: Path, done: Survey, env: Mapping[str, str]) -> None:
    """Take the old cluster out of the saved members and the run record, where searches look."""
    saved = saved_members.read(path)
    try:
        if saved is not None:
            own = tuple(member for member in saved.members if member.id == done.id)
            saved_members.write(path, SavedMembers(done.cluster_id, done.zone, own))
    except OSError:
        (path / saved_members.FILE).unlink(missing_ok=True)
    record = run_record.record_of(env, path)
    if record is not None:
        try:
            run_record.write(msgspec.structs.replace(record, cluster_id=done.cluster_id), env)
        except OSError:
            run_record.forget(env, path)
