"""What the figures were taken on: tools, versions, processor, file system and its own flush."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "wrk": "wrk",
    "dnsperf": "dnsperf",
    "dnsmasq": "dnsmasq-base",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
}
"""The Debian package of each program."""

SERVICE_PACKAGES = {"named": "bind9", "haproxy": "haproxy", "nginx": "nginx-light"}
"""Of those that only the section `services` needs."""

RESOLVER_PACKAGES = ("unbound", "dnsmasq-base", "bind9", "systemd-resolved", "knot-resolver")
"""Those of the section `resolvers`, which measures what is there."""

_IN_MEMORY = {"tmpfs", "ramfs"}
_FLUSHES = 200
_FLUSH_BYTES = 4096


def missing_tools(needed: Iterable[str] = PACKAGES) -> str:
    """Say what is missing of what is needed and how to get it; empty: nothing."""
    missing = [tool for tool in needed if _which(tool) is None]
    if not missing:
        return ""
    package_of = {**PACKAGES, **SERVICE_PACKAGES}
    packages = " ".join(dict.fromkeys(package_of[tool] for tool in missing))
    return f"missing: {', '.join(missing)}\napt-get install {packages}"


def _which(tool: str) -> str | None:
    # Debian has servers in a folder that is not on everybody's path.
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")


def program(tool: str) -> str:
    """Return the path of a program that is not missing."""
    found = _which(tool)
    assert found is not None, tool
    return found


def default_folder() -> Path:
    """Return where temporary files go, or where they go that outlive memory."""
    folder = Path(tempfile.gettempdir())
    return Path("/var/tmp") if file_system(folder)[0] in _IN_MEMORY else folder


def unfit_folder(folder: Path) -> str:
    """Say why no data may go there; empty: it may."""
    if not folder.is_dir():
        return f"there is no folder {folder}: make it, or name another with --dir"
    kind, mounted = file_system(folder)
    if kind in _IN_MEMORY:
        return (
            f"{folder} is in memory ({kind} at {mounted}), where a flush costs nothing: "
            "name a folder on a disk with --dir"
        )
    return ""


def file_system(folder: Path) -> tuple[str, str]:
    """Return the kind of the file system a folder is on, and where that is mounted."""
    return file_system_in(Path("/proc/self/mountinfo").read_text(), str(folder.resolve()))


def file_system_in(mounts: str, path: str) -> tuple[str, str]:
    """Find it in the text of `/proc/self/mountinfo` (proc(5)); the last of two mounts covers."""
    best = ("unknown", "")
    for text in mounts.splitlines():
        left, _, right = text.partition(" - ")
        where = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), left.split()[4])
        is_above = path == where or path.startswith(where.rstrip("/") + "/")
        if is_above and len(where) >= len(best[1]):
            best = (right.split()[0], where)
    return best


def flush_median_us(folder: Path) -> float:
    """Return what `fdatasync` takes after a write of 4 KiB at the end of a file."""
    times = []
    with (folder / "flush").open("wb", buffering=0) as file:
        for _ in range(_FLUSHES):
            file.write(b"x" * _FLUSH_BYTES)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def facts(folder: Path) -> dict[str, str]:
    """Return all that has to be known beside the figures."""
    kind, mounted = file_system(folder)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.1f} GiB",
        "kernel": platform.release(),
        "file system": f"{kind} ({mounted}), fdatasync of 4 KiB {flush_median_us(folder):.0f} us",
        "hstore": _commit(),
        "Python": f"{platform.python_version()} ({Path(sys.executable).resolve()}), "
        f"trio {version('trio')}, rocksdict {version('rocksdict')}",
        **{name: _version(*command) for name, command in _VERSIONS.items()},
        "resolvers": ", ".join(f"{one} {_package_version(one)}" for one in RESOLVER_PACKAGES),
    }


_VERSIONS = {
    "etcd": ("etcd", "--version"),
    "wrk": ("wrk", "--version"),
    "dnsperf": ("dnsperf", "-h"),
    "dnsmasq": ("dnsmasq", "--version"),
    "redis": ("redis-server", "--version"),
}


def _version(tool: str, *options: str) -> str:
    if _which(tool) is None:
        return "not installed"
    done = subprocess.run(
        [program(tool), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    found = re.search(r"(?:[Vv]ersion:? |v=|wrk )(\S+)", done.stdout + done.stderr)
    if found is None and tool == "dnsperf":
        # It tells its version only when it has something to do.
        return _package_version(tool)
    return found[1] if found else "unknown"


def _package_version(package: str) -> str:
    if shutil.which("dpkg-query") is None:
        return "unknown"
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3


def _commit() -> str:
    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip()

    if shutil.which("git") is None or not (commit := git("rev-parse", "--short=12", "HEAD")):
        return "commit unknown"
    return f"commit {commit}" + (" with changes" if git("status", "--porcelain") else "")
