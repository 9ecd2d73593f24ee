"""`recover`: what a stopped node's directory holds, and a cluster of one out of it.

Owns the words and the question. What is done to the directory is `hstore.node.process.only_voter`'s.
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
        ConfigError: Nobody can be asked, and `yes` was not given.
        Refused, StorageError: The directory is in use, has no node, or is of no use any more.
    """
    path = data_dir.absolute()
    if not has_data(path):
        raise Refused(f"{path} holds no hstore node: --data-dir names the directory of a node")
    record = run_record.record_of(env, path)
    if record and run_record.is_running(record):
        raise Refused(
            f"the node of {path} runs, at {record.address} (process {record.process.pid}); "
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
    if not yes:
        click.echo(_told(found) + _what_it_costs(found))
        if not click.confirm("Make this node a cluster of its own?"):
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
    """Say what the directory is now."""
    if as_json:
        click.echo(_json(done))
        return
    name = plain(done.name or done.id)
    was = f", recovered from {done.recovered_from}" if done.recovered_from else ""
    if already:
        click.echo(
            f"{name} is the only voter of the cluster {done.cluster_id}{was}, and has lost "
            "nothing: nothing was changed"
        )
    else:
        click.echo(
            f"{name} is the only voter of a new cluster, {done.cluster_id}{was}: {done.keys} keys, "
            f"up to entry {done.last_index}"
        )
    click.echo(
        f"`hstore start --data-dir {done.data_dir}` (with its -h, as before) starts it, and it "
        "leads at once"
    )
    if not already:
        click.echo(
            "the other members come back with an empty directory each, by `hstore join`; their old "
            "directories are refused"
        )


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
            f"at least up to entry {found.commit_index}; more may be, which only others know",
        ),
        ("applied", f"up to entry {found.applied_index}, {found.keys} keys"),
        ("lost", "nothing that this node had acknowledged" if lost is None else plain(lost)),
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
        return f"\nIt leads as soon as it is started: `hstore start --data-dir {found.data_dir}`\n"
    begun = "An earlier recovery was cut short; " if found.unfinished else ""
    return (
        f"\n{begun or 'While a majority of the voters can be started, start them. Else '}"
        f"`hstore recover --data-dir {found.data_dir} --as-only-voter` makes this node a cluster of "
        "one. Compare the members first, and take the one that lost nothing, with the highest "
        "entry in the highest term.\n"
    )


def _what_it_costs(found: Survey) -> str:
    """Return what the operator agrees to."""
    after = f"everything after entry {found.last_index}"
    lines = [
        "",
        f"This makes {plain(found.name or found.id)} a cluster of one, under a new id. For good:",
        f"- {after} is lost, also what other members have acknowledged to clients;",
    ]
    if found.last_index > found.commit_index:
        lines.append(
            f"- entries {found.commit_index + 1} to {found.last_index} take effect, though no "
            "majority may have agreed on them;"
        )
    if not found.is_voter:
        lines.append("- it is a learner: it may be behind all voters;")
    lines.append("- the other members, and their directories, are refused from then on.")
    return "\n".join(lines) + "\n"


def _json(found: Survey) -> str:
    return plain_json(msgspec.json.encode(found).decode())


def _forget_members(path: Path, done: Survey, env: Mapping[str, str]) -> None:
    """Have no command that searches from here, or from this machine, go to the old cluster."""
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
