"""The commands about sessions, locks and transactions, and their options.

All but `lock` are in the shell, too, with the same spellings as on the command line. What they do is
in `shell/sessions.py` and `shell/transactions.py`, and for `lock` in `lock/`; each is imported when it
runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options as opt
from .connected import connected, filled, filled_if_any, key_first, texts
from .vocabulary import Commands, as_key_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shell.commands import Context

_TTL = "15s"
_DELAY = "15s"
"""Both are what locks of Consul's clients have (api/lock.go, agent/structs)."""

_words = click.argument("words", nargs=-1, metavar="", type=click.UNPROCESSED)
_session_argument = click.argument(
    "session", metavar="ID", type=click.UNPROCESSED, shell_complete=opt.complete_sessions
)
_session_option = click.option(
    "--session",
    metavar="ID",
    required=True,
    type=click.UNPROCESSED,
    shell_complete=opt.complete_sessions,
    help="The session.",
)


def _duration(
    low: str, high: str
) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Return the callback of an option that is a duration, in seconds."""

    def parse(context: click.Context, parameter: click.Parameter, said: str | None) -> float | None:
        from hstore.node.model import values

        if said is None:
            return None
        try:
            return values.duration_ms(low, high)(said) / 1000
        except ValueError as error:
            message = f"{said!r} is not allowed; allowed: {error}"
            raise click.BadParameter(message, context, parameter) from None

    return parse


@click.command(context_settings={"allow_interspersed_args": False})
@opt.host
@opt.zone
@click.option(
    "--ttl", metavar="TIME", default=_TTL, callback=_duration("1s", "24h"),
    help=f"TTL of the session: not renewed, it ends after this, at most twice this [{_TTL}].",
)  # fmt: skip
@click.option(
    "--delay", metavar="TIME", default=_DELAY, callback=_duration("0s", "60s"),
    help=f"How long nobody gets a lock that was lost and not released [{_DELAY}].",
)  # fmt: skip
@click.option(
    "--wait", metavar="TIME", callback=_duration("1ms", "24h"),
    help="Give up after this time, with status 1 [never].",
)  # fmt: skip
@click.option("--try", "is_try", is_flag=True, help="Give up at once when the lock is not free.")
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    help="Who holds the lock, for others to see [program, host, pid].",
)
@click.argument("key", type=click.UNPROCESSED, shell_complete=opt.complete_keys)
@click.argument(
    "command", metavar="COMMAND [ARGS ...]", nargs=-1, required=True, type=click.UNPROCESSED,
    shell_complete=opt.complete_files,
)  # fmt: skip
def lock(
    *,
    host: str | None,
    zone: str | None,
    wait: float | None,
    is_try: bool,
    key: str,
    command: tuple[str, ...],
    **session: Any,
) -> int:
    """Run COMMAND while the lock KEY is held.

    It waits until the lock is free. The command gets HSTORE_LOCK_KEY, HSTORE_LOCK_SESSION and
    HSTORE_LOCK_INDEX: the fencing token, which is greater for each later holder. It is ended before
    the lock may be lost: by SIGTERM, and then by SIGKILL. Options stand before KEY.

    Exit status: that of the command (128 and the signal that ended it); 125 when the lock may have
    been lost; 1 when the lock was not free, 126 and 127 when there is no such command.
    """
    from .lock.command import default_name, run_locked
    from .lock.holding import Asked
    from .shell.commands import key_of

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("the command to run is missing")
    if is_try and wait is not None:
        raise click.UsageError("--try and --wait exclude each other")
    asked = Asked(
        key=key_of(key),
        command=words,
        ttl_s=session["ttl"],
        delay_s=session["delay"],
        wait_s=0.0 if is_try else wait,
        name=session["name"] or default_name(words),
    )
    return run_locked(opt.finder(zone), host, asked)


@click.group(cls=Commands, no_args_is_help=True)
def session() -> None:
    """Make, show, renew and end sessions, which hold locks."""


@session.command("create")
@texts
@connected
@click.option("--ttl", metavar="TIME", help="It ends when it is not renewed for so long [never].")
@click.option(
    "--delay", metavar="TIME", help=f"How long nobody gets its locks after its end [{_DELAY}]."
)
@click.option("-n", "--name", metavar="NAME", help="A name, for people.")
@click.option(
    "--behavior",
    type=click.Choice(["release", "delete"]),
    help="What becomes of the keys that it holds when it ends [release].",
)
@click.option(
    "--no-checks", is_flag=True, help="It does not end when the node it is made at has failed."
)
@opt.as_json
def session_create(
    context: Context,
    *,
    ttl: str | None,
    delay: str | None,
    name: str | None,
    behavior: str | None,
    no_checks: bool,
    as_json: bool,
) -> None:
    """Make a session, and print its ID.

    It ends when its TTL is over, when it is destroyed, and, unless --no-checks is given, when the
    node at which it was made has failed for 10 s.
    """
    from .shell import sessions

    said = {"TTL": ttl, "LockDelay": delay, "Name": name, "Behavior": behavior}
    asked: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    if no_checks:
        asked["NodeChecks"] = []
    sessions.create(context, asked, as_json=as_json)


@session.command("list")
@connected
@opt.as_json
def session_list(context: Context, *, as_json: bool) -> None:
    """Show all sessions."""
    from .shell import sessions

    sessions.show(context, None, as_json=as_json)


@session.command("info")
@connected
@_session_argument
@opt.as_json
def session_info(context: Context, *, session: str, as_json: bool) -> None:
    """Show one session."""
    from .shell import sessions

    sessions.show(context, sessions.checked(session), as_json=as_json)


@session.command("renew")
@connected
@_session_argument
@opt.as_json
def session_renew(context: Context, *, session: str, as_json: bool) -> None:
    """Begin the TTL of a session anew."""
    from .shell import sessions

    sessions.renew(context, sessions.checked(session), as_json=as_json)


@session.command("destroy")
@connected
@_session_argument
@opt.as_json
def session_destroy(context: Context, *, session: str, as_json: bool) -> None:
    """End a session; its locks are free once their lock delay is over."""
    from .shell import sessions

    sessions.destroy(context, sessions.checked(session), as_json=as_json)


@as_key_command(
    "acquire", "KEY VALUE --session ID", needs=("--session",), is_write=True,
    examples=("leader web1 --session 8f0e2c1a-...",),
)  # fmt: skip
@connected
@_session_option
@opt.as_json
@key_first
def acquire(context: Context, *, session: str, as_json: bool, words: tuple[str, ...]) -> None:
    """Take the lock KEY for a session.

    VALUE becomes the value of the key. Prints the revision, and the lock index, which is greater for
    each later holder. Status 1 when another session holds the lock, or its lock delay is not over.
    """
    from .shell import sessions

    key, value = filled(words, None, None)
    sessions.acquire(context, key, value, sessions.checked(session), as_json=as_json)


@as_key_command(
    "release", "KEY [VALUE] --session ID", needs=("--session",), is_write=True,
    examples=("leader --session 8f0e2c1a-...",),
)  # fmt: skip
@connected
@_session_option
@opt.as_json
@key_first
def release(context: Context, *, session: str, as_json: bool, words: tuple[str, ...]) -> None:
    """Free the lock KEY of a session.

    The key keeps its value, unless another VALUE is given. Prints the revision.
    """
    from .shell import sessions

    key, value = filled_if_any(words, None, None)
    (key,) = filled(() if key is None else (key,), None)
    sessions.release(context, key, value, sessions.checked(session), as_json=as_json)


@as_key_command(
    "txn", "[OPERATION ...]", is_write=True,
    examples=("", '"check a 17" "set a 1" "delete b"'),
)  # fmt: skip
@connected
@opt.as_json
@_words
def txn(context: Context, *, as_json: bool, words: tuple[str, ...]) -> None:
    """Carry out several operations in one step, or none.

    \b
    Each OPERATION is one word, or one line up to an empty one or `end`:
      set KEY VALUE               delete KEY                get KEY
      cas KEY REVISION VALUE      delete-cas KEY REVISION   get-or-empty KEY
      check KEY REVISION          delete-tree PREFIX        get-tree PREFIX
      check-session KEY SESSION   check-not-exists KEY
      acquire KEY VALUE SESSION   release KEY VALUE SESSION
    A revision of 0 is that of a key that does not exist.
    """
    from .shell import transactions

    transactions.txn(context, words, as_json=as_json)


NAMES: dict[str, click.Command] = {
    "lock": lock, "session": session, "acquire": acquire, "release": release, "unlock": release,
    "txn": txn,
}  # fmt: skip
"""Every command here by each of its names."""
