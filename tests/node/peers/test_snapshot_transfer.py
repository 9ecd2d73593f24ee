"""A snapshot's way: what is sent arrives as it was, or not at all, whatever the links do to it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.errors import PeerError
from hstore.node.peers import snapshot_transfer as transfer
from hstore.node.peers.snapshot_transfer import (
    Incoming,
    Outgoing,
    Pairs,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotPosition,
    SnapshotStart,
)
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.membership import Configuration

META = SnapshotMeta(7, 2, Configuration((1, 2), (3,)), b"chain")
PAIRS: Pairs = [(b"k%03d" % i, b"v" * (i % 40)) for i in range(60)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 200)


def outgoing(pairs: Pairs = PAIRS, snapshot_id: int = 99, meta: SnapshotMeta = META) -> Outgoing:
    def scan(start: bytes) -> Iterator[tuple[bytes, bytes]]:
        return (pair for pair in pairs if pair[0] >= start)

    return Outgoing(snapshot_id, meta, scan)


def frames_from(sender: Outgoing) -> Iterator[SnapshotChunk | SnapshotEnd]:
    while not sender.is_exhausted:
        yield sender.next_frame()


def cross(sender: Outgoing, receiver: Incoming, stop_after: int = 1 << 30) -> Pairs:
    """Have one connection carry so many frames, and return what it brought."""
    assert receiver.continues(sender.start(5))
    sender.resume(receiver.position())
    got: Pairs = []
    for count, frame in enumerate(frames_from(sender)):
        if count >= stop_after:
            break
        got += receiver.take(frame)
    return got


def test_what_is_sent_arrives_in_order_and_is_known_to_be_whole() -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))

    assert cross(sender, receiver) == PAIRS
    assert receiver.is_whole
    assert (receiver.meta, receiver.term, receiver.id) == (META, 5, 99)


def test_the_empty_state_arrives_too() -> None:
    sender = outgoing([])
    receiver = Incoming(sender.start(3))

    assert cross(sender, receiver) == []
    assert receiver.is_whole


def test_a_chunk_is_bounded_in_bytes_and_in_pairs_and_a_large_pair_is_one_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "CHUNK_PAIRS", 5)
    large = (b"k030x", b"x" * 1000)
    pairs = sorted([*PAIRS, large])
    sender = outgoing(pairs)
    sender.resume(Incoming(sender.start(1)).position())

    chunks = [
        transfer.decode_pairs(frame.data)
        for frame in frames_from(sender)
        if isinstance(frame, SnapshotChunk)
    ]

    assert [pair for chunk in chunks for pair in chunk] == pairs
    assert [large] in chunks
    assert max(len(chunk) for chunk in chunks) == 5
    assert all(
        sum(len(key) + len(value) for key, value in chunk) <= 200
        for chunk in chunks
        if chunk != [large]
    )


@given(st.lists(st.integers(0, 9), max_size=30))
def test_it_goes_on_where_the_last_connection_broke(breaks: list[int]) -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    got: Pairs = []
    sent = 0

    for stop_after in breaks:
        if receiver.is_whole:
            break
        before = receiver.position().chunks
        got += cross(sender, receiver, stop_after)
        sent += receiver.position().chunks - before
    if not receiver.is_whole:
        got += cross(sender, receiver)

    assert got == PAIRS
    assert receiver.is_whole


def test_what_was_sent_and_not_taken_is_sent_again() -> None:
    """The sender is ahead of the receiver by what was in the links when they broke."""
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    got = cross(sender, receiver, 3)
    lost = [next(frames_from(sender)) for _ in range(4)]

    assert len(lost) == 4
    assert got + cross(sender, receiver) == PAIRS
    assert receiver.is_whole


FAULTS = ["lose", "repeat", "swap", "data", "digest", "after", "number", "id", "end", "cut"]


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(FAULTS)), max_size=12))
def test_whatever_happens_to_frames_nothing_but_the_very_state_arrives(
    faults: list[tuple[int, str]],
) -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    got: Pairs = []
    for at, fault in [*faults, (0, "none")]:
        if receiver.is_whole:
            break
        sender.resume(receiver.position())
        frames = damaged(list(frames_from(sender)), at, fault)
        try:
            for frame in frames:
                got += receiver.take(frame)
        except PeerError:
            assert fault != "none"
        assert got == PAIRS[: len(got)]

    assert receiver.is_whole
    assert got == PAIRS


def damaged(
    frames: list[SnapshotChunk | SnapshotEnd], at: int, fault: str
) -> list[SnapshotChunk | SnapshotEnd]:
    """Do something to the frame at a place, or to the last."""
    at = min(at, len(frames) - 1)
    frame = frames[at]
    if fault == "lose":
        return frames[:at] + frames[at + 1 :]
    if fault == "repeat":
        return [*frames[: at + 1], *frames[max(at - 2, 0) :]]
    if fault == "swap":
        return [*frames[:at], *frames[at : at + 2][::-1], *frames[at + 2 :]]
    if fault == "cut":
        return frames[:at]
    fields = changes(frame, at).get(fault, {})
    known = {name: value for name, value in fields.items() if hasattr(frame, name)}
    changed = SnapshotEnd(99, at, b"\0" * 16) if fault == "end" else frame
    return [*frames[:at], msgspec.structs.replace(changed, **known), *frames[at + 1 :]]


def changes(frame: SnapshotChunk | SnapshotEnd, at: int) -> dict[str, dict[str, object]]:
    return {
        "id": {"id": 98},
        "digest": {"digest": b"\0" * 16},
        "data": {"data": frame.data[:-1] + b"!"} if isinstance(frame, SnapshotChunk) else {},
        "after": {"after": frame.after + b"!"} if isinstance(frame, SnapshotChunk) else {},
        "number": {"number": at + 1},
    }


@pytest.mark.parametrize("fault", ["data", "digest", "after", "number", "id", "lose", "swap"])
def test_a_chunk_that_is_not_the_next_one_is_refused_and_what_came_before_stays_good(
    fault: str,
) -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    sender.resume(receiver.position())
    got: Pairs = []

    with pytest.raises(PeerError):
        for frame in damaged(list(frames_from(sender)), 3, fault):
            got += receiver.take(frame)

    assert receiver.position().chunks == 3
    assert got + cross(sender, receiver) == PAIRS


def test_a_chunk_that_was_taken_is_ignored_when_it_comes_again() -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    sender.resume(receiver.position())
    first, second = sender.next_frame(), sender.next_frame()
    receiver.take(first)
    receiver.take(second)
    position = receiver.position()

    assert receiver.take(first) == []
    assert receiver.take(second) == []
    assert receiver.position() == position


@pytest.mark.parametrize("missing", ["last chunk", "digest"])
def test_an_end_that_does_not_agree_is_refused(missing: str) -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    sender.resume(receiver.position())
    *chunks, end = list(frames_from(sender))
    assert isinstance(end, SnapshotEnd)
    for chunk in chunks if missing == "digest" else chunks[:-1]:
        receiver.take(chunk)
    if missing == "digest":
        end = msgspec.structs.replace(end, digest=b"\0" * 16)

    with pytest.raises(PeerError, match="not whole"):
        receiver.take(end)
    assert not receiver.is_whole


@pytest.mark.parametrize("what", ["id", "meta"])
def test_another_view_is_not_a_continuation(what: str) -> None:
    """The same index under another id: keys may be cut elsewhere, and nobody has compared them."""
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    cross(sender, receiver, 3)
    other = outgoing(snapshot_id=98) if what == "id" else outgoing(meta=SnapshotMeta(8, 2))

    assert not receiver.continues(other.start(5))
    assert receiver.continues(sender.start(6))
    assert receiver.term == 6


def test_a_snapshot_that_is_whole_is_not_continued() -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    cross(sender, receiver)

    assert not receiver.continues(sender.start(3))


def position_of(sender: Outgoing) -> SnapshotPosition:
    receiver = Incoming(sender.start(3))
    cross(sender, receiver, 4)
    return receiver.position()


@pytest.mark.parametrize(
    "change",
    [
        {"id": 98},
        {"chunks": 5},
        {"chunks": 3},
        {"chunks": 10**6},
        {"chunks": -1},
        {"digest": b"\0" * 16},
        {"digest": b""},
        {"after": b""},
    ],
    ids=str,
)
def test_a_position_that_is_not_one_of_this_view_is_refused(change: dict[str, object]) -> None:
    sender = outgoing()
    position = msgspec.structs.replace(position_of(sender), **change)

    with pytest.raises(PeerError):
        sender.resume(position)


def test_a_position_whose_key_was_damaged_skips_nothing() -> None:
    """The chain alone would agree: it goes over what was sent, and the rest was not."""
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    got = cross(sender, receiver, 4)
    sender.resume(msgspec.structs.replace(receiver.position(), after=b"k050"))

    with pytest.raises(PeerError, match="does not follow"):
        receiver.take(sender.next_frame())

    assert got + cross(sender, receiver) == PAIRS


def test_a_meta_that_was_damaged_on_its_way_is_found_before_the_first_chunk() -> None:
    sender = outgoing()
    start = SnapshotStart(3, SnapshotMeta(7, 3, META.config, META.chain), 99)

    with pytest.raises(PeerError, match="another snapshot"):
        sender.resume(Incoming(start).position())


@pytest.mark.parametrize("pairs", [[], [(b"k000", b"again")]], ids=["none", "an earlier key"])
def test_a_chunk_whose_keys_do_not_ascend_is_refused(pairs: Pairs) -> None:
    sender = outgoing()
    receiver = Incoming(sender.start(3))
    cross(sender, receiver, 2)
    at = receiver.position()
    data = transfer.encode_pairs(pairs)
    digest = transfer.chunk_digest(at.chunks, at.after, data)

    with pytest.raises(PeerError, match="not in order"):
        receiver.take(SnapshotChunk(99, at.chunks, at.after, data, digest))


@pytest.mark.parametrize("frame", [SnapshotStart(3, META, 99), None], ids=["start", "none"])
def test_what_does_not_belong_into_a_snapshot_is_refused(frame: object) -> None:
    with pytest.raises(PeerError, match="inside a snapshot"):
        Incoming(SnapshotStart(3, META, 99)).take(frame)


def test_pairs_that_cannot_be_read_are_refused() -> None:
    data = b"\xc1"
    receiver = Incoming(SnapshotStart(3, META, 99))

    with pytest.raises(PeerError, match="cannot be read"):
        receiver.take(SnapshotChunk(99, 0, b"", data, transfer.chunk_digest(0, b"", data)))
