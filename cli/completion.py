"""Completion by the shell: the scripts that a user installs, and which nodes can be named.

The scripts are click's. They call the program itself with what was typed, so they never grow old;
what is completed is what `main.py` and `spellings.py` have.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from hstore.node.errors import HstoreError

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import NodeInfo

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = ("hstore", "hstore-server", "hstore-cli")

# Each keeps it for the shells to come; the same line typed into a shell serves that one.
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
    """Return the nodes whose name or, where that was begun, address begins so.

    One look for the cluster, which takes a second at most where nobody answers: who waits for a
    completion waits for no more. What goes wrong completes nothing.
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
    if node.name.startswith(incomplete):
        return [CompletionItem(node.name, help=f"{node.type}, {node.health}, {node.address}")]
    if node.address.startswith(incomplete):
        return [CompletionItem(node.address, help=f"{node.name}, {node.type}, {node.health}")]
    return []
