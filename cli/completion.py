"""Completion in bash, zsh and fish: the scripts to install, and the nodes, keys and values they offer.

The scripts call the program itself with the line typed so far, so they always know the commands and
options that `main.py`, `keys.py` and `spellings.py` have. What a node says is offered only if it means
nothing to any shell: each quotes in another way, and what is not quoted can be a command.
"""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from hstore.node.errors import HstoreError
from hstore.node.model import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

    from .client.api import NodeClient
    from .search.find import Finder

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = ("hstore", "hstore-server", "hstore-cli")

KEYS_MAX = 200
"""How many keys are offered: nobody reads a longer list."""

_KEYS_READ_MAX = 1000
"""Keys that are looked at, where most of them cannot be offered."""

_PATIENCE_S = 0.25
"""For a node's answer: who presses Tab waits for it."""

_END_S = 1.0
"""A completion that takes longer, because a node sends byte by byte, ends without any offer."""

_PORTS = range(8500, 8516)
"""API ports of this machine that are tried: those whose DNS ports a search tries, too."""

_HARMLESS = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+@%:=-]*")
"""No character of these is special in bash, zsh or fish where it may stand here, or in what click's
scripts do with a line."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# In the file, each line serves all later shells; typed into a shell, it serves this one.
_INSTALLING = {
    "bash": """eval "$(hstore completion bash)"  # in ~/.bashrc""",
    "zsh": """eval "$(hstore completion zsh)"  # in ~/.zshrc, after compinit""",
    "fish": "hstore completion fish | source  # in ~/.config/fish/config.fish",
}


class _Bash(BashComplete):
    """Bash, whose readline ends words at `:`, `=` and `@` too, and replaces only the last of them.

    So the program gets the whole line, and answers with the part of a value behind such a character.
    """

    source_template = """\
%(complete_func)s() {
    local response type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
COMP_LINE="${COMP_LINE:0:${COMP_POINT:-0}}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one at it."""
        line = os.environ.get("COMP_LINE", "")
        if not line:
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        is_new = line[-1:].isspace()
        return (words, "") if is_new or not words else (words[:-1], words[-1])

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a line of the answer."""
        return f"{item.type},{item.value[self._cut() :]}"

    @staticmethod
    def _cut() -> int:
        typed = os.environ.get("COMP_LINE", "").rpartition(" ")[2]
        if any(quote in typed for quote in "\"'\\"):
            return 0  # within quotes, readline's word is the whole
        breaks = set(os.environ.get("COMP_WORDBREAKS", ""))
        return max((at + 1 for at, one in enumerate(typed) if one in breaks), default=0)


def install(program: str) -> None:
    """Prepare a process that only answers a completion; any other is left as it is."""
    if not os.environ.get(_variable(program)):
        return
    add_completion_class(_Bash)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _END_S)


def completion_script(shell: str) -> str:
    """Return the script for one of `SHELLS`; how to install it stands at its top."""
    kind = _Bash if shell == "bash" else get_completion_class(shell)
    if kind is None:
        raise RuntimeError(f"no completion is known for {shell}")
    parts = [f"# hstore's completion for {shell}: {_INSTALLING[shell]}\n"]
    for program in PROGRAMS:
        command = click.Command(program)
        # Not bash's own `source`, which starts a bash to ask it for its version.
        script = ShellComplete.source(kind(command, {}, program, _variable(program)))
        # Ctrl-C while Python starts would show a traceback amid the line that is being typed.
        parts.append(script.replace(f"{program})", f"{program} 2>/dev/null)"))
    return "".join(parts)


def _variable(program: str) -> str:
    return f"_{program}_COMPLETE".replace("-", "_").upper()


# --- what is offered --------------------------------------------------------------------------


def nodes(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the nodes whose name or address begins with what was typed; on any error none."""
    place = _place(context, is_any=True)
    members = place.info.nodes if place else []
    return [item for node in members for item in _items(node, incomplete)]


def keys(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return keys that begin with what was typed, from a node's own copy; on any error none.

    In hstore's shell every key, since that quotes it; elsewhere those that are harmless.
    """
    place = _place(context)
    if place is None:
        return []
    try:
        with place.client() as client:
            found = list(islice(client.keys(incomplete, stale=True), _KEYS_READ_MAX))
    except HstoreError:
        return []  # the user is still typing: the command itself reports the error
    is_shell = context.obj is not None
    offered = [key for key in found if is_shell or _HARMLESS.fullmatch(key)]
    return [CompletionItem(key) for key in offered[:KEYS_MAX]]


def sessions(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the sessions whose id begins with what was typed; on any error none."""
    from .client.sessions import every

    place = _place(context)
    if place is None:
        return []
    try:
        with place.client() as client:
            found = every(client, stale=True)
    except HstoreError:
        return []
    offered = [one for one in found if one.id.startswith(incomplete) and _UUID.fullmatch(one.id)]
    return [CompletionItem(one.id, help=_word(one.name)) for one in offered[:KEYS_MAX]]


def services(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of services that begin with what was typed; on any error none."""
    from .client import catalog

    if context.params.get("words"):
        return []
    return _asked(context, incomplete, lambda client: catalog.services(client, stale=True)[1])


def service_ids(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the IDs of the node's own services that begin with what was typed; on any error none."""
    from .client.catalog import own_ids

    return [] if context.params.get("words") else _asked(context, incomplete, own_ids)


def maintenance(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return `on` and `off`, and after these the IDs of services."""
    from .client.catalog import own_ids

    words = context.params.get("words") or ()
    if not words:
        return _beginning(("on", "off"), incomplete)
    return _asked(context, incomplete, own_ids) if len(words) == 1 else []


def _asked(
    context: click.Context, incomplete: str, ask: Callable[[NodeClient], Iterable[str]]
) -> list[CompletionItem]:
    """Offer what a near node answers; in hstore's shell all of it, elsewhere what is harmless."""
    place = _place(context)
    if place is None:
        return []
    try:
        with place.client() as client:
            found = list(ask(client))
    except HstoreError:
        return []
    is_shell = context.obj is not None
    offered = [
        one
        for one in found
        if one.startswith(incomplete) and (is_shell or _HARMLESS.fullmatch(one))
    ]
    return [CompletionItem(one) for one in offered[:KEYS_MAX]]


def files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Have the shell offer files."""
    return [CompletionItem(incomplete, type="file")]


def settings(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the keys of `hstore config`; those of nodes once a letter of one was typed."""
    from hstore.node.config.cluster_settings import SETTINGS

    offered = [CompletionItem(one.key) for one in SETTINGS]
    offered += [CompletionItem("log_level", help="of the node at -h alone")]
    offered += [
        CompletionItem(f"{node.value}.type", help=node.help)
        for node in nodes(context, parameter, incomplete.removesuffix(".type").partition(".")[0])
        if values.is_name(node.value)
    ]
    return [one for one in offered if one.value.startswith(incomplete)]


def setting_values(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the values of a setting that has only a few."""
    key = str(context.params.get("key") or "")
    if key == "log_level":
        return levels(context, parameter, incomplete)
    return _beginning(("voter", "learner") if key.endswith(".type") else (), incomplete)


def levels(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the levels of the log."""
    return _beginning(("debug", "info", "warning", "error"), incomplete)


def log_formats(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the forms of the log."""
    return _beginning(("json", "text", "journal"), incomplete)


def _word(name: str) -> str:
    """Return a name as a remark beside what is offered; zsh and fish show it in one line."""
    return re.sub(r"[^\w .,/@-]", "?", name[:60])


def _beginning(known: tuple[str, ...], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(one) for one in known if one.startswith(incomplete)]


def _items(node: NodeInfo, incomplete: str) -> list[CompletionItem]:
    """Offer a node by its name or its address, unless it is one that no node has.

    What is offered becomes a part of the user's command line: whatever answers there may have sent
    `$(...)` as a name.
    """
    if not values.is_name(node.name) or not _HARMLESS.fullmatch(node.address):
        return []
    type_, health = (re.sub("[^a-z]", "?", text[:20]) for text in (node.type, node.health))
    if node.name.startswith(incomplete):
        return [CompletionItem(node.name, help=f"{type_}, {health}, {node.address}")]
    if node.address.startswith(incomplete):
        return [CompletionItem(node.address, help=f"{node.name}, {type_}, {health}")]
    return []


# --- which node is asked ----------------------------------------------------------------------


class _Place(NamedTuple):
    """A node that answers."""

    address: str
    info: ClusterInfo
    finder: Finder

    def client(self) -> NodeClient:
        return self.finder.connect(self.address, _PATIENCE_S)


def _place(context: click.Context, *, is_any: bool = False) -> _Place | None:
    """Return a node to ask: the shell's, the one at -h, or one that is near; None: none answers.

    There is no search by DNS as for a command. It would take a second when there is no cluster, which
    is too long for a key press, and begins with importing what takes as long as all the rest.

    Args:
        context: With the options so far.
        is_any: Whatever -h says: that is what is being completed.
    """
    from .search import sources

    if context.obj is not None:
        connection = context.obj.connection
        return _ask([connection.address] if connection.address else [], connection.finder)
    said = None if is_any else context.params.get("host")
    try:
        finder = sources.finder_of({"cluster.zone": context.params.get("zone")}, os.environ)
        if said and not values.is_name(said):
            return _ask([str(values.split_address(said))], finder)
        near = _ask(_near(finder), finder)
    except (HstoreError, ValueError):
        return None
    if near is None or not said:
        return near
    named = [node.address for node in near.info.nodes if node.name == said]
    return _ask(named, finder)


def _near(finder: Finder) -> list[str]:
    """Return addresses at which nodes may be: those that are set, and those of this machine."""
    from hstore.node.discovery import run_record

    here = [one.address for one in run_record.records(os.environ) if run_record.is_running(one)]
    ports = [f"127.0.0.1:{port}" for port in _PORTS]
    return list(dict.fromkeys([*finder.named_addresses(), *here, *ports]))[:_ASKED_MAX]


_ASKED_MAX = 32
"""Addresses that are asked for one completion, each by a thread."""


def _ask(addresses: list[str], finder: Finder) -> _Place | None:
    """Ask all at once, and return the first in this order that answers for the meant zone."""

    def ask(address: str) -> _Place | None:
        try:
            with finder.connect(address, _PATIENCE_S) as client:
                info = client.cluster()
        except HstoreError:
            return None
        return _Place(address, info, finder) if finder.is_meant(info) else None

    if not addresses:
        return None
    with ThreadPoolExecutor(len(addresses)) as pool:
        return next((one for one in pool.map(ask, addresses) if one is not None), None)
