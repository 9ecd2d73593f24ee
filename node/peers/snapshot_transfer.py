"""The protocol that sends a whole state from one node to another, without I/O, clocks or chance.

Owns the frames, what the sender may send when, what the receiver accepts, and where both go on
after a lost connection. Connections, times and limits are those of `cluster/snapshot_sender.py` and
`cluster/snapshot_receiver.py`; a simulator can take their place. Keys and values are bytes here, without meaning.

Theory of operation. The sender holds one *view*: an iteration over the state as of one index, in
the order of keys, with an id that was drawn at random. The conversation on each connection:

    sender                                      receiver
    SnapshotStart(term, meta, id)          ->
                                           <-   SnapshotPosition: what it already has of that id
    SnapshotChunk, from there on           ->   each taken, or the connection ends
    SnapshotEnd                            ->
                                           <-   SnapshotTaken

Rule 1: a chunk has a number, the last key before it, and a digest of its own. The digest of the
whole is a chain over the meta and the digests of the chunks, so at the end both sides know that
they mean the same bytes in the same order.
Rule 2: the receiver takes chunks in order only. A chunk that it has is ignored; a gap, a damaged
chunk or another id ends the connection. Chunks taken before stay taken, since each was checked.
Rule 3: the next connection goes on behind the last chunk taken. The sender accepts a position only
if it made exactly these chunks from this view.
Rule 4: every chunk repeats the key that it follows, so a damaged position cannot skip any pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b

import msgspec

from ..errors import PeerError
from ..raft.entry import Number, SnapshotMeta

# A chunk is read or written without a checkpoint, and the event loop does several of them while a
# request is on its way through the node, so they are small. A larger pair is a chunk by itself, of
# a little over 1 MiB.
CHUNK_BYTES = 64 * 1024
CHUNK_PAIRS = 512

# Both sides keep their half for a peer whose connection broke: the sender an open view, which keeps
# old data on its disk, the receiver what it has staged there. Looked at every `SWEEP_SECONDS`.
KEEP_SECONDS = 60.0
SWEEP_SECONDS = 5.0

_DIGEST_BYTES = 16
_PAIR_OVERHEAD = 16

Pairs = list[tuple[bytes, bytes]]

Scan = Callable[[bytes], Iterator[tuple[bytes, bytes]]]
"""Iterates over the pairs of one view from a key (inclusive) on, in order; no key is empty."""


class SnapshotStart(msgspec.Struct, frozen=True, array_like=True, tag=50, gc=False):
    """The sender's first frame after the hello.

    Attributes:
        term: The term in which the sender leads.
        meta: The snapshot that is sent.
        id: The view's. If the sender offers an id again, it is that very view.
    """

    term: Number
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
    """The receiver's answer to a start: what it has, so where the sender goes on.

    Attributes:
        id: As in `SnapshotStart`.
        chunks: How many chunks it has, which is the number of the next.
        after: The last key it has.
        digest: Of all that it has.
    """

    id: int
    chunks: int
    after: bytes
    digest: bytes


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True, tag=54, gc=False):
    """The receiver's answer to an end: its core has the snapshot, or does not need it."""

    id: int


Frame = SnapshotStart | SnapshotChunk | SnapshotEnd | SnapshotPosition | SnapshotTaken

_encode = msgspec.msgpack.Encoder().encode
_pairs_decoder: msgspec.msgpack.Decoder[Pairs] = msgspec.msgpack.Decoder(Pairs)


def encode_pairs(pairs: Pairs) -> bytes:
    """Return the `data` of a chunk."""
    return _encode(pairs)


def decode_pairs(data: bytes) -> Pairs:
    """Return what was given to `encode_pairs`.

    Raises:
        PeerError: `data` is not the result of `encode_pairs`.
    """
    try:
        return _pairs_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise PeerError(f"a chunk of a snapshot cannot be read: {error}") from None


def chunk_digest(number: int, after: bytes, data: bytes) -> bytes:
    """Return the digest of one chunk."""
    # With the length of `after`, so that no byte can pass from `after` to `data` unnoticed.
    digest = blake2b(number.to_bytes(8) + len(after).to_bytes(4) + after, digest_size=_DIGEST_BYTES)
    digest.update(data)
    return digest.digest()


def _first_digest(meta: SnapshotMeta) -> bytes:
    return blake2b(_encode(meta), digest_size=_DIGEST_BYTES).digest()


def _next_digest(whole: bytes, chunk: bytes) -> bytes:
    return blake2b(whole + chunk, digest_size=_DIGEST_BYTES).digest()


class Outgoing:
    """One view on its way to one peer; it is kept while connections come and go.

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
            meta: The snapshot that the view is of.
            scan: Called again after each interruption; always of the same view.
            chunk_pairs: Pairs in a chunk at most; 0: `CHUNK_PAIRS`.
        """
        self.id = snapshot_id
        self.meta = meta
        self.is_exhausted = False
        self._scan = scan
        self._chunk_pairs = chunk_pairs
        self._pairs: Iterator[tuple[bytes, bytes]] = iter(())
        self._ahead: tuple[bytes, bytes] | None = None
        self._after = b""
        # The digest of the whole after 0, 1, 2, ... chunks, to check any position that the receiver
        # may have: 256 KiB for each GiB of the state.
        self._digests = bytearray(_first_digest(meta))

    def start(self, term: int) -> SnapshotStart:
        """Return the first frame for a new connection."""
        return SnapshotStart(term, self.meta, self.id)

    def resume(self, position: SnapshotPosition) -> None:
        """Go on behind what the receiver has.

        Raises:
            PeerError: It has something that was not made from this view. This view is then of no
                use to it: another has to be sent from the start.
        """
        # The view may have been sent further than the receiver has stored, never less far.
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
        # `key + b"\0"` is the smallest key above `key`: the scan begins with an inclusive one.
        self._pairs = self._scan(position.after + b"\0" if chunks else b"")
        self._ahead = next(self._pairs, None)

    def next_frame(self) -> SnapshotChunk | SnapshotEnd:
        """Return the next frame. Only after `resume`, and not after the end.

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
        """Take pairs for one chunk; an empty list is the end of the view."""
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
    """What has arrived of one view. The caller stores what `take` returns, in that order.

    Attributes:
        id, meta, term: As in the last `SnapshotStart` for this view.
        is_whole: All of it was taken, and the sender's end has confirmed it.
    """

    def __init__(self, start: SnapshotStart) -> None:
        """Begin with nothing."""
        self.id = start.id
        self.meta = start.meta
        self.term = start.term
        self.is_whole = False
        self._chunks = 0
        self._after = b""
        self._digest = _first_digest(start.meta)

    def continues(self, start: SnapshotStart) -> bool:
        """Whether `start` offers the rest of this very view; if so, take over its term."""
        is_same = (start.id, start.meta) == (self.id, self.meta) and not self.is_whole
        if is_same:
            self.term = start.term
        return is_same

    def position(self) -> SnapshotPosition:
        """Return the answer to a start."""
        return SnapshotPosition(self.id, self._chunks, self._after, self._digest)

    def take(self, frame: object) -> Pairs:
        """Check the next frame, and return the pairs it adds; none for a chunk taken before.

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
        # A chunk again, from a connection that was lost before the answer, was ignored above.
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
