"""The folder with what others wrote: installed by pip and npm, fetched by git, and kept there.

It is `$HSTORE_CLIENTS_CACHE`, or `hstore-clients` in the user's cache folder; removing it is safe.
Each entry is made under another name and then renamed, so a half-made one is never used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .outcome import Unavailable

_INSTALL_S = 300.0
_SHOWN = 200


def folder() -> Path:
    """Return the folder; it may not exist yet."""
    given = os.environ.get("HSTORE_CLIENTS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hstore-clients"


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the entry of this name; `make` fills its folder if it is not there yet.

    Raises:
        Unavailable: It could not be made.
    """
    place = folder() / name
    if not place.exists():
        making = place.with_name(f"{place.name}.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        try:
            make(making)
            making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return place


def run(command: Sequence[str], where: Path | None = None, within: float = _INSTALL_S) -> None:
    """Run a program that fetches something.

    Raises:
        Unavailable: It is not installed, failed or took too long.
    """
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    # Nobody is asked for a password or a key.
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=where,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command)} did not end within {within:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise Unavailable(f"{' '.join(command[:4])} failed: {said[:_SHOWN]}")


def pip(name: str, *requirements: str) -> Path:
    """Return a folder with these packages in it, for `PYTHONPATH`."""

    def make(place: Path) -> None:
        words = ["install", "--quiet", "--target", str(place), *requirements]
        run([sys.executable, "-m", "pip", *words])

    return kept(f"pip-{name}", make)


def sdist(name: str, version: str) -> Path:
    """Return a folder with the source of a package, as it is on the index."""

    def make(place: Path) -> None:
        words = ["--no-deps", "--no-binary", ":all:", "--dest", str(place)]
        run([sys.executable, "-m", "pip", "download", "--quiet", *words, f"{name}=={version}"])
        for archive in place.glob("*.tar.gz"):
            with tarfile.open(archive) as packed:
                packed.extractall(place, filter="data")

    root = kept(f"sdist-{name}-{version}", make)
    found = [path for path in root.iterdir() if path.is_dir()]
    if len(found) != 1:
        raise Unavailable(f"the source of {name} {version} is no one folder")
    return found[0]


def wheel(name: str, version: str) -> Path:
    """Return a folder with what is in a package's wheel, nothing of which is installed."""

    def make(place: Path) -> None:
        words = ["--no-deps", "--only-binary", ":all:", "--dest", str(place)]
        run([sys.executable, "-m", "pip", "download", "--quiet", *words, f"{name}=={version}"])
        for archive in list(place.glob("*.whl")):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(place)
            archive.unlink()

    return kept(f"wheel-{name}-{version}", make)


def npm(name: str, *packages: str) -> Path:
    """Return a folder with these packages in its `node_modules`."""
    if shutil.which("node") is None:
        raise Unavailable("node is not installed")

    def make(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}\n')
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], place)

    return kept(f"npm-{name}", make)


def repository(name: str, url: str, tag: str) -> Path:
    """Return a folder with a public repository at a tag."""

    def make(place: Path) -> None:
        run(["git", "clone", "--quiet", "--depth", "1", "--branch", tag, url, str(place)])

    return kept(f"git-{name}-{tag}", make)
