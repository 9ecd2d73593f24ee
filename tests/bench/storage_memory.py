"""How much memory a store needs: keys of 4 KiB written through log and state, and read back.

    .venv/bin/python tests/bench/storage_memory.py [--keys 200000] [--cache-mib 32]

Prints one line of JSON, then the same for people. The claim: 200,000 keys with a 32 MiB cache
grow the process by less than 256 MiB.
"""

from __future__ import annotations

import argparse
import platform
import random
import re
import tempfile
import time
from pathlib import Path

import msgspec
import trio

from hstore.node.model import commands
from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.state.machine import State
from hstore.node.storage.interface import Identity
from hstore.node.storage.rocks import RocksStorage

_VALUE_BYTES = 4096
_BATCH = 64


def resident_mib() -> float:
    """Return the memory of this process, from Linux."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def key(number: int, keys: int) -> bytes:
    return b"key-%08d" % (number * 7919 % keys)  # not in order, each once


async def measure(path: Path, keys: int, cache_mib: int) -> dict[str, object]:
    RocksStorage.create(path, Identity("00" * 8, 1))
    storage = RocksStorage.open(path, cache_bytes=cache_mib << 20)
    storage.load()
    state = State(storage.state)
    source = random.Random(1)
    before = peak = resident_mib()
    began = time.perf_counter()
    inline_s_max = 0.0
    for first in range(1, keys + 1, _BATCH):
        entries = [
            Entry(
                i, 1, 0, commands.encode(commands.Put(key(i, keys), source.randbytes(_VALUE_BYTES)))
            )
            for i in range(first, min(first + _BATCH, keys + 1))
        ]
        started = time.perf_counter()
        storage.append(HardState(1, 1, first - 1), None, entries)
        inline_s_max = max(inline_s_max, time.perf_counter() - started)
        await storage.flush()
        state.apply(entries)
        if first // _BATCH % 16 == 0:
            storage.compact(SnapshotMeta(max(1, first - 1), 1))
            peak = max(peak, resident_mib())
    written = time.perf_counter()
    found = 0
    for number in range(keys):
        item = state.get(key(number, keys))
        found += item is not None and len(item.value) == _VALUE_BYTES
        if number % 1000 == 0:
            peak = max(peak, resident_mib())
    read = time.perf_counter()
    view = state.view()
    scanned = sum(1 for _ in view.scan())
    view.close()
    peak = max(peak, resident_mib())
    await storage.close()
    return {
        "bench": "storage_memory",
        "machine": f"{platform.machine()} {platform.python_version()}",
        "keys": keys,
        "cache_mib": cache_mib,
        "keys_read": min(found, scanned),
        "growth_mib": round(peak - before, 1),
        "write_s": round(written - began, 2),
        "read_s": round(read - written, 2),
        "scan_s": round(time.perf_counter() - read, 2),
        "append_ms_max": round(inline_s_max * 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--cache-mib", type=int, default=32)
    parser.add_argument("--dir", type=Path, help="an empty directory; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.dir or Path(temporary)
        figures = trio.run(measure, path, arguments.keys, arguments.cache_mib)
    print(msgspec.json.encode(figures).decode())
    for name, value in figures.items():
        print(f"{name:>14}  {value}")


if __name__ == "__main__":
    main()
