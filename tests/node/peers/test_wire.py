"""Frames: what is encoded comes out again, whole, in order, and within bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.driver import bundles, forwarding
from hstore.node.driver.requests import NotLeading
from hstore.node.errors import (
    HstoreError,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    PeerError,
    Refused,
)
from hstore.node.model import commands
from hstore.node.model.cluster_info import NodeFigures
from hstore.node.model.commands import Delete, Outcome, Put
from hstore.node.model.statistics import SPANS, Points, Question
from hstore.node.peers import frame_check, links, wire
from hstore.node.peers.snapshot_transfer import (
    SnapshotChunk,
    SnapshotEnd,
    SnapshotPosition,
    SnapshotStart,
    SnapshotTaken,
)
from hstore.node.peers.wire import ForwardKind, ForwardStatus
from hstore.node.raft.entry import Entry, EntryKind, SnapshotMeta
from hstore.node.raft.log import entry_size
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import Append, AppendResponse, ReadIndexResponse, VoteRequest
from hstore.node.raft.options import Options

FIGURES = NodeFigures("running", 3, 10, 9, "0.1.0", 60)
META = SnapshotMeta(7, 2, Configuration((1, 2), (3,)), b"chain")
FRAMES: list[wire.Frame] = [
    wire.Hello(1, "00112233445566aa", 1, 2, "n1", 0, "10.0.0.1:8300"),
    wire.Welcome(1, 2, "n2", ""),
    VoteRequest(1, 2, 3, 4, 5),
    Append(1, 2, 3, 4, 3, [Entry(5, 3, EntryKind.COMMAND, b"data")], 4),
    AppendResponse(2, 1, 3, 5),
    ReadIndexResponse(1, 2, 3, 2**64 - 1, None),
    wire.Forward(1, ForwardKind.WRITE, b"data", 5000),
    wire.ForwardReply(1, ForwardStatus.DONE, b"data"),
    wire.Bundle([wire.Forward(2, ForwardKind.WRITE, b"", 1), wire.ForwardReply(3, 1, b"no")]),
    wire.Report(FIGURES),
    wire.Bulletin(3, {1: ("alive", 0, FIGURES, ""), 2: ("failed", None, None, "is silent")}),
    wire.StopAll(),
    wire.AskStatistics(7, Question(("keys",), 15, 1)),
    wire.StatisticsReply(7, Points(15, 15_000, {"keys": b"12345678"})),
    SnapshotStart(3, META, 2**64 - 1),
    SnapshotPosition(9, 3, b"key", b"digest"),
    SnapshotChunk(9, 3, b"key", b"data", b"digest"),
    SnapshotEnd(9, 4, b"digest"),
    SnapshotTaken(9),
]


@given(st.lists(st.sampled_from(FRAMES)), st.lists(st.integers(1, 50)))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[wire.Frame], cuts: list[int]
) -> None:
    data = b"".join(map(wire.encode, frames))
    reader = wire.FrameReader()
    got: list[wire.Frame] = []
    for cut in cuts:
        got += reader.feed(data[:cut])
        data = data[cut:]
    got += reader.feed(data)

    assert got == frames


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error_of_the_peer(data: bytes) -> None:
    reader = wire.FrameReader()
    try:
        reader.feed(data)
    except PeerError:
        return
    assert len(data) < 4 or int.from_bytes(data[:4]) > len(data) - 4


def test_a_frame_longer_than_the_bound_is_refused_before_it_has_come() -> None:
    with pytest.raises(PeerError, match="more than"):
        wire.FrameReader().feed((wire.MAX_FRAME + 1).to_bytes(4))
    assert wire.FrameReader().feed(wire.MAX_FRAME.to_bytes(4)) == []
    with pytest.raises(PeerError, match="more than 100"):
        wire.FrameReader(100).feed((101).to_bytes(4))


def test_what_follows_a_bad_frame_is_not_read() -> None:
    good = wire.encode(FRAMES[1])
    with pytest.raises(PeerError):
        wire.FrameReader().feed(good + (1).to_bytes(4) + b"\xc1" + good)


def test_the_largest_entry_fits_into_one_frame() -> None:
    entry = Entry(2**63, 2**63, EntryKind.COMMAND, bytes(frame_check._MAX_ENTRY))
    frame = wire.encode(Append(2**63, 2**63, 2**63, 2**63, 2**63, [entry], 2**63))
    assert len(frame) < wire.MAX_FRAME


def test_the_largest_answer_about_statistics_fits_into_one_frame() -> None:
    series = {f"{name:32}": bytes(SPANS[-1].points * 8) for name in range(32)}
    frame = wire.encode(wire.StatisticsReply(2**63, Points(120, 2**63, series)))
    assert len(frame) < wire.MAX_FRAME


def test_the_most_of_the_smallest_entries_fit_into_one_frame() -> None:
    empty = Entry(2**62, 2**62, EntryKind.COMMAND, b"")
    count = Options().max_append_bytes // entry_size(empty)
    frame = wire.encode(Append(2**63, 2**63, 2**62, 2**62, 2**62, [empty] * count, 2**62))
    assert len(frame) < wire.MAX_FRAME


def test_half_a_frame_on_every_connection_leaves_room_in_memory() -> None:
    """A node held 1.2 GiB of them."""
    assert links._MAX_ACCEPTED * wire.MAX_FRAME <= 288 * 2**20


# -- what becomes of a request that is passed on -----------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotLeading(), ForwardStatus.NOT_LEADER),
        (NotApplied("x"), ForwardStatus.NOT_APPLIED),
        (NoLeader("x"), ForwardStatus.NOT_APPLIED),
        (Overloaded("x"), ForwardStatus.OVERLOADED),
        (OutcomeUnknown("x"), ForwardStatus.UNKNOWN),
        (Refused("x"), ForwardStatus.REFUSED),
        (HstoreError("x"), ForwardStatus.UNKNOWN),
    ],
)
def test_an_error_keeps_what_it_says_of_the_outcome(
    error: HstoreError, status: ForwardStatus
) -> None:
    """An unknown outcome must never become a "not applied" on its way, nor the reverse."""
    reply = forwarding.reply(1, error)
    assert reply.status == status
    if status is ForwardStatus.NOT_LEADER:
        return
    answer = forwarding.answer(reply, ForwardKind.WRITE)
    expected = "unknown" if status is ForwardStatus.UNKNOWN else "not applied"
    if not isinstance(error, Refused):
        assert answer.outcome == expected
    else:
        assert isinstance(answer, Refused)
    assert str(answer) == "x"


def test_a_result_comes_back_as_it_was() -> None:
    outcome = Outcome(True, 42, "text")
    reply = forwarding.reply(1, outcome)
    assert forwarding.answer(reply, ForwardKind.WRITE) == outcome
    assert forwarding.answer(forwarding.reply(1, None), ForwardKind.REMOVE) is None


def test_what_is_bundled_stays_in_order_and_below_its_bound(monkeypatch) -> None:
    monkeypatch.setattr(bundles, "_MAX_BYTES", 10)
    made = bundles.Bundles()
    frames = [wire.ForwardReply(number, 0, b"12345") for number in range(3)]
    large = wire.ForwardReply(9, 0, b"longer than the bound")
    for frame in (*frames, large, *frames):
        made.add(1, frame)
    made.add(2, large)
    taken = list(made.take())
    assert taken == [
        (1, frames[:2]),
        (1, frames[2:]),
        (1, [large]),
        (1, frames[:2]),
        (1, frames[2:]),
        (2, [large]),
    ]
    assert list(made.take()) == []


def test_a_status_from_the_future_is_an_unknown_outcome() -> None:
    answer = forwarding.answer(wire.ForwardReply(1, 99, b"x"), ForwardKind.WRITE)
    assert isinstance(answer, OutcomeUnknown)


@pytest.mark.parametrize(
    "bad", [Put(b"k", b"v", flags=-1), Put(b"k", b"v", cas=-1), Delete(b"k", -1)]
)
def test_a_command_that_no_record_can_hold_is_not_decoded(bad) -> None:
    """It would be committed, and then stop every node that applies it, at each start anew."""
    with pytest.raises(msgspec.ValidationError):
        commands.decode(commands.encode(bad))
