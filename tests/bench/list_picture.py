"""Records `hstore list --watch` as a picture: a real cluster of three, right after a leader's death.

    .venv/bin/python -m tests.bench.list_picture docs/pictures/list-watch.svg

What stands in it is what the live list shows in a terminal of this size, at the moment when a
survivor first says that another one leads and that the old leader has failed. Only the frame is drawn.
"""

from __future__ import annotations

import html
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from hstore.cli.client.api import NodeClient
from hstore.cli.process.demo import Children, _start_seed, is_complete
from hstore.cli.search.clock import Clock
from hstore.cli.search.find import connect
from hstore.cli.show.watch import _Live, follow, local_time
from hstore.node.model.cluster_info import ClusterInfo

WIDTH, HEIGHT = 110, 16
WRITES = 500


def after_a_leaders_death(folder: Path, live: _Live) -> None:
    """Run three nodes, write, kill the leader; return once the list shows that another one leads."""
    with Children(folder, os.environ, Clock()) as children:
        seed = _start_seed(children)
        for name in ("n2", "n3"):
            children.spawn(name, "join", "-h", seed)
        killed: str | None = None
        for seen in follow([seed], connect, Clock()):
            if killed is not None:
                live.take(seen)
            if not isinstance(seen, ClusterInfo) or seen.leader is None:
                continue
            if killed is None and is_complete(seen, 3):
                killed = seen.leader
                live.take(seen)
                write(seed)
                children.end(killed)
            elif killed is not None and tells_of_the_death(seen, killed):
                return
    raise AssertionError("a watch has no end")


def write(address: str) -> None:
    """Give the nodes something to count."""
    with NodeClient(address) as client:
        for number in range(WRITES):
            client.write(f"key-{number}", "value")


def tells_of_the_death(seen: ClusterInfo, killed: str) -> bool:
    """Tell whether another one leads, the dead one has failed, and the rest is up to date."""
    health = {node.name: node.health for node in seen.nodes}
    others = [node for node in seen.nodes if node.name != killed]
    is_even = len({node.applied_index for node in others}) == 1
    return seen.leader != killed and health[killed] == "failed" and is_even


def terminal() -> Console:
    """Return a terminal that records what is shown."""
    return Console(
        record=True,
        width=WIDTH,
        height=HEIGHT,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )


def picture(console: Console) -> str:
    """Return what was shown as SVG, with no font from elsewhere: a page may not load one."""
    svg = console.export_svg(
        title="hstore list --watch", theme=MONOKAI, unique_id="hstore", font_aspect_ratio=0.61
    )
    svg = re.sub(r"\s*@font-face \{.*?\}\n", "\n", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    lines = re.sub(
        r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)"([^>]*)>([^<]*)</text>',
        _without_margin,
        svg,
    )
    return "\n".join(line.rstrip() for line in lines.strip().splitlines()) + "\n"


def _without_margin(found: re.Match[str]) -> str:
    """Put a text where its first letter stands: some viewers drop the spaces before it."""
    x, y, length, rest, text = found.groups()
    spaces = "&#160;"
    plain = html.unescape(text)
    width = float(length) / len(plain)
    at = float(x) + (len(plain) - len(plain.lstrip())) * width
    shown = html.escape(plain.strip()).replace(" ", spaces).replace("\xa0", spaces)
    size = len(plain.strip()) * width
    return f'x="{at:.1f}" {y} textLength="{size:.1f}"{rest}>{shown}</text>'


def main() -> None:
    """Record and write the file that is named."""
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="hstore-picture-") as folder:
        console = terminal()
        live = _Live(console, None, "ends it", local_time)
        after_a_leaders_death(Path(folder), live)
    console.print(live.picture(with_keys=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(console))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
