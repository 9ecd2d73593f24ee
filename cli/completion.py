"""Completion in bash, zsh and fish: the scripts to install, and the nodes they offer.

The scripts are click's. They call the program itself with the line typed so far, so they always
know the commands and options that `main.py` and `spellings.py` have.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from hstore.node.errors import HstoreError
from hstore.node.model import values

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import NodeInfo

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = ("hstore", "hstore-server", "hstore-cli")

# In the file, each line serves all later shells; typed into a shell, it serves this one.
_INSTALLING = {
    "bash": """eval "$(hstore completion bash)"  # in ~/.bashrc""",
    "zsh": """eval "$(hstore completion zsh)"  # in ~/.zshrc, after compinit""",
    "fish": "hstore completion fish | source  # in ~/.config/fish/config.fish",
}


def completion_script(shell: str) -> str:
    """Return the script for one of `SHELLS`; how to install it stands at its top."""
    kind = get_completion_class(shell)
    assert kind is not None
    parts = [f"# hstore's completion for {shell}: {_INSTALLING[shell]}\n"]
    for program in PROGRAMS:
        variable = f"_{program}_COMPLETE".replace("-", "_").upper()
        # Not bash's own `source`, which starts a bash to ask it for its version.
        parts.append(ShellComplete.source(kind(click.Command(program), {}, program, variable)))
    return "".join(parts)


def nodes(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the nodes whose name or address begins with what was typed.

    It searches for the cluster once, which takes a second when no node answers: more is too long to
    wait for a completion. On any error it offers nothing.
    """
    from .search import sources

    try:
        found = sources.finder_of(
            {"cluster.zone": context.params.get("zone")}, os.environ
        ).find_if_any()
    except HstoreError:
        return []
    members = found.info.nodes if found else []
    return [item for node in members for item in _items(node, incomplete)]


def _items(node: NodeInfo, incomplete: str) -> list[CompletionItem]:
    """Offer a node by its name or its address, unless it is one that no node has.

    What is offered becomes a part of the user's command line: whatever answers there may have sent
    `$(...)` as a name.
    """
    if not values.is_name(node.name) or not values.is_address(node.address):
        return []
    type_, health = (re.sub("[^a-z]", "?", text[:20]) for text in (node.type, node.health))
    if node.name.startswith(incomplete):
        return [CompletionItem(node.name, help=f"{type_}, {health}, {node.address}")]
    if node.address.startswith(incomplete):
        return [CompletionItem(node.address, help=f"{node.name}, {type_}, {health}")]
    return []
