"""The rules of a whole state's way from one node to another, without I/O, clocks or chance.

Owns the frames, what a sender says when, what a receiver accepts, and where both go on after a
link that broke. Connections, times and limits are those of `cluster/snapshot_sender.py` and
`cluster/snapshot_receiver.py`; a simulator can take their place. Knows keys and values as bytes, and not what they mean.

Theory of operation. A sender holds one *view*: an iteration over the state as of one index, in the
order of keys, under an id that is drawn at random. The conversation on each connection:

    sender                                      receiver
    SnapshotStart(term, meta, id)          ->
                                           <-   SnapshotPosition: what it holds of that very id
    SnapshotChunk, from there on           ->   each taken, or the connection ends
    SnapshotEnd                            ->
                                           <-   SnapshotTaken

A chunk has a number, the last key before it, and a digest of its own. The digest of the whole is a
chain over the meta and the digests of the chunks, so that at the end both sides know that they
speak of the same bytes in the same order. A receiver takes chunks in order only: what it has
already is ignored, and a gap, a damaged chunk or another id ends the connection and takes nothing
back, for each chunk before was whole. So the next connection goes on where the last one was good.
A sender accepts a position only if it has made exactly these chunks from this view; and as every
chunk repeats the key it follows, a position that was damaged on its way cannot skip anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b

import msgspec

from ..errors import PeerError
from ..raft.entry import SnapshotMeta

CHUNK_BYTES = 64 * 1024
CHUNK_PAIRS = 512
"""One chunk is read, or written, without a pause, and a request meets several on its way: so they are
short. A pair that is larger than a chunk is a chunk by itself: a little over 1 MiB."""

_DIGEST_BYTES = 16
_PAIR_OVERHEAD = 16

Pairs = list[tuple[bytes, bytes]]

Scan = Callable[[bytes], Iterator[tuple[bytes, bytes]]]
"""Iterates over the pairs of one view from a key (inclusive) on, in the order of keys, none of
which is empty."""


class SnapshotStart(msgspec.Struct, frozen=True, array_like=True, tag=50, gc=False):
    """The sender's first frame after the hello.

    Attributes:
        term: The term that the sender leads.
        meta: What the snapshot stands for.
        id: Of the view: a sender that offers an id again has that very view still.
    """

    term: int
    meta: SnapshotMeta
    id: int


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=51, gc=False):
    """Some of the state's keys and values, in order.

    Attributes:
        id: As in `SnapshotStart`.
        number: From 0.
        after: The last key of the chunk before; empty for the first.
        data: The pairs, encoded; see `decode_pairs`.
        digest: BLAKE2b-128 of number, `after` and data.
    """

    id: int
    number: int
    after: bytes
    data: bytes
    digest: bytes


class SnapshotEnd(msgspec.Struct, frozen=True, array_like=True, tag=52, gc=False):
    """The sender's last frame: how many chunks there were, and the digest of the whole."""

    id: int
    chunks: int
    digest: bytes


class SnapshotPosition(msgspec.Struct, frozen=True, array_like=True, tag=53, gc=False):
    """The receiver's answer to a start: go on from here.

    Attributes:
        id: As in `SnapshotStart`.
        chunks: How many it holds, which is the number of the next.
        after: The last key it holds.
        digest: Of all that it holds.
    """

    id: int
    chunks: int
    after: bytes
    digest: bytes


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True, tag=54, gc=False):
    """The receiver's answer to an end: its core has it, or does not need it."""

    id: int


Frame = SnapshotStart | SnapshotChunk | SnapshotEnd | SnapshotPosition | SnapshotTaken

_encode = msgspec.msgpack.Encoder().encode
_pairs_decoder: msgspec.msgpack.Decoder[Pairs] = msgspec.msgpack.Decoder(Pairs)


def encode_pairs(pairs: Pairs) -> bytes:
    """Return the `data` of a chunk."""
    return _encode(pairs)


def decode_pairs(data: bytes) -> Pairs:
    """Return what `encode_pairs` was given.

    Raises:
        PeerError: It was given nothing like this.
    """
    try:
        return _pairs_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise PeerError(f"a chunk of a snapshot cannot be read: {error}") from None


def chunk_digest(number: int, after: bytes, data: bytes) -> bytes:
    """Return the digest of one chunk."""
    digest = blake2b(number.to_bytes(8) + len(after).to_bytes(4) + after, digest_size=_DIGEST_BYTES)
    digest.update(data)
    return digest.digest()


def _first_digest(meta: SnapshotMeta) -> bytes:
    return blake2b(_encode(meta), digest_size=_DIGEST_BYTES).digest()


def _next_digest(whole: bytes, chunk: bytes) -> bytes:
    return blake2b(whole + chunk, digest_size=_DIGEST_BYTES).digest()


class Outgoing:
    """One view on its way to one peer; it outlives the connections on which it travels.

    Attributes:
        id, meta: As in `SnapshotStart`.
        is_exhausted: `SnapshotEnd` was the last frame made.
    """

    def __init__(
        self,
        snapshot_id: int,
        meta: SnapshotMeta,
        scan: Scan,
        *,
        chunk_pairs: int = 0,
    ) -> None:
        """Begin before the first key.

        Args:
            snapshot_id: Never used for another view, by any node: random, up to 64 bits.
            meta: What the view stands for.
            scan: Called anew after each interruption; always of the same view.
            chunk_pairs: A chunk has no more of them; 0: than `CHUNK_PAIRS`.
        """
        self.id = snapshot_id
        self.meta = meta
        self.is_exhausted = False
        self._scan = scan
        self._chunk_pairs = chunk_pairs
        self._pairs: Iterator[tuple[bytes, bytes]] = iter(())
        self._ahead: tuple[bytes, bytes] | None = None
        self._after = b""
        # Of the whole after 0, 1, 2, ... chunks: 256 KiB for each GiB of the state.
        self._digests = bytearray(_first_digest(meta))

    def start(self, term: int) -> SnapshotStart:
        """Return the first frame for a new connection."""
        return SnapshotStart(term, self.meta, self.id)

    def resume(self, position: SnapshotPosition) -> None:
        """Go on where the receiver stands.

        Raises:
            PeerError: It holds something that was not sent from this view, which is then of no
                use to it any more.
        """
        made = len(self._digests) // _DIGEST_BYTES
        chunks = position.chunks
        is_ours = position.id == self.id and 0 <= chunks < made
        if not is_ours or position.digest != self._digest_after(chunks):
            raise PeerError("the peer holds another snapshot than the one that is sent")
        if (chunks == 0) != (position.after == b""):
            raise PeerError("the peer's position in the snapshot contradicts itself")
        del self._digests[(chunks + 1) * _DIGEST_BYTES :]
        self.is_exhausted = False
        self._after = position.after
        self._pairs = self._scan(position.after + b"\0" if chunks else b"")
        self._ahead = next(self._pairs, None)

    def next_frame(self) -> SnapshotChunk | SnapshotEnd:
        """Return what comes next; after `resume`, and not after the end.

        Raises:
            StorageError: The view cannot be read.
        """
        number = len(self._digests) // _DIGEST_BYTES - 1
        whole = self._digest_after(number)
        pairs = self._cut()
        if not pairs:
            self.is_exhausted = True
            return SnapshotEnd(self.id, number, whole)
        after, self._after = self._after, pairs[-1][0]
        data = encode_pairs(pairs)
        digest = chunk_digest(number, after, data)
        self._digests += _next_digest(whole, digest)
        return SnapshotChunk(self.id, number, after, data, digest)

    def _cut(self) -> Pairs:
        """Take pairs until the next would make the chunk too large."""
        pairs: Pairs = []
        size = 0
        most = self._chunk_pairs or CHUNK_PAIRS
        while self._ahead is not None and len(pairs) < most:
            size += len(self._ahead[0]) + len(self._ahead[1]) + _PAIR_OVERHEAD
            if pairs and size > CHUNK_BYTES:
                break
            pairs.append(self._ahead)
            self._ahead = next(self._pairs, None)
        return pairs

    def _digest_after(self, chunks: int) -> bytes:
        return bytes(self._digests[chunks * _DIGEST_BYTES : (chunks + 1) * _DIGEST_BYTES])


class Incoming:
    """What has come of one view; whoever owns it keeps what `take` returned, in that order.

    Attributes:
        id, meta, term: As in the last `SnapshotStart` about it.
        is_whole: All of it was taken, and the end confirmed it.
    """

    def __init__(self, start: SnapshotStart) -> None:
        """Hold nothing yet."""
        self.id = start.id
        self.meta = start.meta
        self.term = start.term
        self.is_whole = False
        self._chunks = 0
        self._after = b""
        self._digest = _first_digest(start.meta)

    def continues(self, start: SnapshotStart) -> bool:
        """Whether `start` offers the rest of this very view; if so, its term counts from now on."""
        is_same = (start.id, start.meta) == (self.id, self.meta) and not self.is_whole
        if is_same:
            self.term = start.term
        return is_same

    def position(self) -> SnapshotPosition:
        """Return the answer to a start."""
        return SnapshotPosition(self.id, self._chunks, self._after, self._digest)

    def take(self, frame: object) -> Pairs:
        """Accept the next frame, and return the pairs that it adds; none for what is known.

        Raises:
            PeerError: It is damaged, leaves a gap, or is of something else. Nothing of it was
                taken, and what was taken before is still good: `position` says where to go on.
        """
        if isinstance(frame, SnapshotEnd):
            self._take_end(frame)
            return []
        if not isinstance(frame, SnapshotChunk):
            raise PeerError(f"{type(frame).__name__} inside a snapshot")
        self._check_id(frame.id)
        if 0 <= frame.number < self._chunks:
            return []
        if frame.number != self._chunks or frame.after != self._after:
            raise PeerError(
                f"chunk {frame.number} of a snapshot does not follow {self._chunks - 1}"
            )
        if frame.digest != chunk_digest(frame.number, frame.after, frame.data):
            raise PeerError(f"chunk {frame.number} of the snapshot is damaged")
        pairs = decode_pairs(frame.data)
        if not pairs or (self._chunks and pairs[0][0] <= self._after):
            raise PeerError(f"chunk {frame.number} of the snapshot is not in order")
        self._chunks += 1
        self._after = pairs[-1][0]
        self._digest = _next_digest(self._digest, frame.digest)
        return pairs

    def _take_end(self, frame: SnapshotEnd) -> None:
        self._check_id(frame.id)
        if (frame.chunks, frame.digest) != (self._chunks, self._digest):
            raise PeerError("the snapshot is not whole")
        self.is_whole = True

    def _check_id(self, snapshot_id: int) -> None:
        if snapshot_id != self.id:
            raise PeerError(f"a frame of snapshot {snapshot_id:x} inside {self.id:x}")
