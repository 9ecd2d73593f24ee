"""How long the event loop stands still while a snapshot is sent, taken in, or made as a checkpoint.

    .venv/bin/python tests/bench/snapshot_stall.py [--mib 64]

Prints one line of JSON, then the same for people. A task that wants to run every millisecond notes
how late it is: the longest is the stall that every request meets.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import trio
from rocksdict import Checkpoint

from hstore.node.peers import wire
from hstore.node.peers.snapshot_transfer import Incoming, Outgoing, SnapshotChunk
from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.storage.interface import APPLIED_KEY, Identity, pack_applied
from hstore.node.storage.rocks import RocksStorage

_VALUE_BYTES = 4096
_TICK_S = 0.001
_FLUSH_BYTES = 4 * 1024 * 1024
_CACHE_BYTES = 64 << 20


@asynccontextmanager
async def watched(figures: dict[str, object], what: str) -> AsyncIterator[None]:
    """Note how long the body took, and how late the loop ever was meanwhile, in milliseconds."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await trio.sleep(_TICK_S)
            late.append(time.perf_counter() - due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await trio.sleep(0.05)
        late.clear()
        began = time.perf_counter()
        yield
        figures[f"{what}_s"] = round(time.perf_counter() - began, 2)
        await trio.sleep(2 * _TICK_S)
        nursery.cancel_scope.cancel()
    late.sort()
    figures[f"{what}_late_p99_ms"] = round(1e3 * late[int(0.99 * (len(late) - 1))], 1)
    figures[f"{what}_late_max_ms"] = round(1e3 * late[-1], 1)


def new_storage(path: Path, node_id: int) -> RocksStorage:
    RocksStorage.create(path, Identity("00" * 8, node_id))
    storage = RocksStorage.open(path, cache_bytes=_CACHE_BYTES)
    storage.load()
    return storage


async def fill(storage: RocksStorage, mib: int) -> None:
    source = random.Random(1)
    for number in range((mib << 20) // _VALUE_BYTES):
        storage.state.write([(b"k%08d" % number, source.randbytes(_VALUE_BYTES))])
        if number % 1000 == 0:
            await storage.flush()
    storage.state.write([(APPLIED_KEY, pack_applied(1, 1))])
    await storage.flush()


async def send(storage: RocksStorage, put: Callable[[bytes], Awaitable[None]]) -> None:
    """Send all of it, as `snapshot_sender.py` does."""
    view = storage.state.view(bulk=True)
    outgoing = Outgoing(1, SnapshotMeta(1, 1, chain=b"c" * 16), view.scan)
    outgoing.resume(Incoming(outgoing.start(1)).position())
    while not outgoing.is_exhausted:
        await put(wire.encode(outgoing.next_frame()))
    view.close()


async def take(storage: RocksStorage, frames: list[bytes]) -> None:
    """Take all of it in and install it, as `snapshot_receiver.py` does."""
    reader = wire.FrameReader()
    incoming = Incoming(
        Outgoing(1, SnapshotMeta(1, 1, chain=b"c" * 16), lambda _: iter(())).start(1)
    )
    staged = storage.begin_install()
    unflushed = 0
    for data in frames:
        for frame in reader.feed(data):
            staged.write(incoming.take(frame))
            unflushed += len(frame.data) if isinstance(frame, SnapshotChunk) else 0
        await trio.lowlevel.checkpoint()
        if unflushed >= _FLUSH_BYTES:
            unflushed = 0
            await storage.flush()
    storage.install(staged, incoming.meta, HardState(1, 0, 1))
    await storage.flush()


async def measure(folder: Path, mib: int) -> dict[str, object]:
    figures: dict[str, object] = {"bench": "snapshot_stall", "mib": mib}
    sender, receiver = new_storage(folder / "1", 1), new_storage(folder / "2", 2)
    await fill(sender, mib)
    near, far = socket.socketpair()
    async with trio.open_nursery() as nursery:
        away = partial(trio.run_process, stdin=far.fileno(), stdout=subprocess.DEVNULL)
        await nursery.start(away, ["cat"])
        far.close()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        async with watched(figures, "send"):
            await send(sender, stream.send_all)
        await stream.aclose()
    frames: list[bytes] = []

    async def keep(data: bytes) -> None:
        frames.append(data)
        await trio.lowlevel.checkpoint()

    await send(sender, keep)
    async with watched(figures, "take"):
        await take(receiver, frames)
    async with watched(figures, "checkpoint"):
        await trio.to_thread.run_sync(sender._engine._flush_blocking)
        Checkpoint(sender._engine._db).create_checkpoint(str(folder / "checkpoint"))
    async with watched(figures, "nothing"):
        await trio.sleep(0.5)
    await sender.close()
    await receiver.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = trio.run(measure, Path(temporary), arguments.mib)
    print(msgspec.json.encode(figures).decode())
    for name, value in figures.items():
        print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
