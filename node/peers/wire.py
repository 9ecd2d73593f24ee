"""The frames between nodes, and how they are encoded.

A frame is four bytes of length, big-endian, and one tagged msgpack array. Consensus messages have
the tags 1 to 31 (`raft/messages.py`), those of the drivers the tags from 32 on, snapshots from 50
(`snapshot_transfer.py`).

A connection carries frames in one direction, from the node that dialled. Only two things go back:
one `Welcome`, and on a connection for a snapshot the receiver's answers (`snapshot_transfer.py`).

Rule: tags and the order of fields are the wire format. They are added to, never changed; the
protocol number in `Hello` and `Welcome` keeps nodes of different formats apart.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from ..errors import BadFrame, BadNumber, PeerError
from ..model.checks import Word
from ..model.cluster_info import JoinReply, NodeFigures, Reason
from ..model.commands import Outcome
from ..model.locks import Session
from ..model.numbers import Unsigned
from ..model.statistics import Points, Question
from ..raft.entry import NUMBER_MAX, Number
from ..raft.membership import MEMBERS_MAX
from ..raft.messages import Message
from . import snapshot_transfer

# Bytes of a hello or a welcome. A peer that has not sent its hello yet gets no larger frame in.
MAX_GREETING = 4096

# Bytes of one frame. An append or a bundle is at most 512 KiB, or one entry: a little over 1 MiB, and never
# more than 2 MiB (`frame_check.py`). Each connection may hold half a frame: 128 of them, 288 MiB.
MAX_FRAME = (2048 + 256) * 1024


# Of a state. Enough to find states that differ by a mistake; it is no defence against an attacker.
DIGEST_BYTES = 16


# The frames are arrays (`array_like`): field names do not travel, positions do. `gc=False` keeps
# them out of the garbage collector's work, which is right for values that cannot refer back to
# themselves.
class Purpose(enum.IntEnum):
    """What the dialling node will send on a connection."""

    MESSAGES = 0
    SNAPSHOT = 1
    IDENTIFY = 2
    """Nothing: it only wants the welcome, which says which process of which node answers."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """The first frame of a connection: which node dials, and which node it wants to reach.

    Attributes:
        protocol: `PROTOCOL` of the dialling node; always the first field, in all versions.
        cluster_id: 16 hex digits.
        node_id: The dialling node.
        to: The node it wants to reach.
        name: The dialling node's name, for logs.
        purpose: A `Purpose`.
        address: `HOST:PORT` at which the dialling node can be dialled; empty: unknown.
        incarnation: The process of the dialling node; see `incarnations.py`. 0: it has none.
    """

    protocol: int
    cluster_id: str
    node_id: Annotated[int, msgspec.Meta(ge=1)]
    to: int
    name: str
    purpose: int
    address: str = ""
    incarnation: int = 0


class Refusal(enum.StrEnum):
    """Why a hello was refused."""

    PROTOCOL = "protocol"
    CLUSTER = "cluster"
    WRONG_NODE = "wrong node"
    REMOVED = "removed"
    DUPLICATE = "duplicate"
    """Another process of the same node runs, and has just answered."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=33, gc=False):
    """The answer to a hello.

    Attributes:
        protocol: `PROTOCOL` of the answering node.
        node_id: The answering node.
        name: Its name, for logs.
        refusal: Empty, or a `Refusal`.
        incarnation: The process of the answering node, as in `Hello`.
        other: With `DUPLICATE`: `HOST:PORT` where the other process of the dialling node answers.
    """

    protocol: int
    node_id: int
    name: str
    refusal: str
    incarnation: int = 0
    other: str = ""


SESSIONS_ASKED_MAX = 512
"""Sessions of which one request asks how much time they have left."""


class ForwardKind(enum.IntEnum):
    """The kinds of requests that a node forwards to the leader.

    3 was a keyed write, until protocol 4; it is not used again.
    """

    WRITE = 0
    """`data` is an encoded command, which the leader stamps with the cluster's time if it needs it."""
    JOIN = 1
    """`data` is a `JoinRequest`."""
    REMOVE = 2
    """`data` names a member."""
    STOP = 4
    """`data` is the id of a member that will stop soon, as 16 hex digits."""
    TRANSFER = 5
    """`data` is the id of the member that is to lead, likewise; empty: the leader chooses."""
    DEMOTE = 6
    """`data` is the id of a member that becomes a learner until it is promoted again, likewise."""
    PROMOTE = 7
    """`data` is the id of a demoted member that votes again, likewise."""
    RENEW = 8
    """`data` is the id of a session, 16 bytes: its time starts again. The result is the session, or None."""
    WORD = 9
    """`data` is what a client says of a TTL check (`checks/words.py`); the result is a `Word`. The only
    kind that a node answers without leading: if the check is of its own."""
    LEFT = 10
    """`data` is ids of sessions, 16 bytes each, up to `SESSIONS_ASKED_MAX`. The result is for each of them
    the milliseconds until its TTL is over; None: it has no clock."""


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=40, gc=False):
    """A request forwarded to the leader. The sender never uses an `id` twice."""

    id: int
    kind: int
    data: bytes
    # How long the client still waits, as a duration: the clocks of two nodes cannot be compared.
    timeout_ms: int


class ForwardStatus(enum.IntEnum):
    """The result of a forwarded request."""

    DONE = 0
    """It took effect; `data` is the result."""
    NOT_LEADER = 1
    """It certainly did not take effect; the node that forwarded it may look for another leader."""
    NOT_APPLIED = 2
    OVERLOADED = 3
    UNKNOWN = 4
    REFUSED = 5
    """`data` says why, in UTF-8, here and in all statuses but DONE."""
    NO_SPACE = 6


class ForwardReply(msgspec.Struct, frozen=True, array_like=True, tag=41, gc=False):
    """The answer to the `Forward` of the same id."""

    id: int
    status: int
    data: bytes


class Bundle(msgspec.Struct, frozen=True, array_like=True, tag=45, gc=False):
    """Several frames in one, handled as if they had come one by one in this order."""

    frames: list[Forward | ForwardReply]


class Report(msgspec.Struct, frozen=True, array_like=True, tag=42, gc=False):
    """A member tells the leader its figures, once in a health-check interval."""

    figures: NodeFigures


Health = Literal["alive", "suspect", "failed", "stopped", "joining", "recovering"]

Seen = tuple[Health, Annotated[int, msgspec.Meta(ge=0)] | None, NodeFigures | None, Reason]
"""How the leader sees a member; see `Bulletin`."""


class Bulletin(msgspec.Struct, frozen=True, array_like=True, tag=43, gc=False):
    """The leader sends its view of all members to all members (contract, section 1).

    Attributes:
        term: The leader's term; a bulletin of an older term is ignored.
        members: By id: health, milliseconds since the last contact, figures or None, and why it is
            not alive; empty: it is.
    """

    term: Number
    members: Annotated[dict[int, Seen], msgspec.Meta(max_length=MEMBERS_MAX)]


class StateDigest(msgspec.Struct, frozen=True, array_like=True, tag=44, gc=False):
    """The digest of the sender's state right after it applied entry `index`, a `Checkpoint`."""

    index: Number
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class AskStatistics(msgspec.Struct, frozen=True, array_like=True, tag=47, gc=False):
    """A member asks another for figures that it has kept (`node/metrics/statistics/asked.py`).

    Attributes:
        id: Names the question in its answer; never used twice by one process.
        question: What is asked.
    """

    id: Unsigned
    question: Question


class StatisticsReply(msgspec.Struct, frozen=True, array_like=True, tag=48, gc=False):
    """The answer to the `AskStatistics` of the same id; half a MiB where all is asked for."""

    id: Unsigned
    points: Points


class StopAll(msgspec.Struct, frozen=True, array_like=True, tag=46, gc=False):
    """An order to stop for every member, passed on by each (`cluster/shutdown.py`)."""


Frame = (
    Message
    | Hello
    | Welcome
    | Forward
    | ForwardReply
    | Bundle
    | Report
    | Bulletin
    | StateDigest
    | StopAll
    | AskStatistics
    | StatisticsReply
    | snapshot_transfer.Frame
)

# The result of a forwarded request that is DONE.
Result = Outcome | JoinReply | Session | Word | list[int | None] | None

# Made at import: msgspec prepares a type at its first use, and two threads that do so at the same
# time can crash the process.
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


_RESULTS: dict[int, msgspec.msgpack.Decoder[Result]] = {
    ForwardKind.WRITE: msgspec.msgpack.Decoder(Outcome),
    ForwardKind.JOIN: msgspec.msgpack.Decoder(JoinReply),
    ForwardKind.REMOVE: msgspec.msgpack.Decoder(None),
    ForwardKind.STOP: msgspec.msgpack.Decoder(None),
    ForwardKind.TRANSFER: msgspec.msgpack.Decoder(None),
    ForwardKind.DEMOTE: msgspec.msgpack.Decoder(None),
    ForwardKind.PROMOTE: msgspec.msgpack.Decoder(None),
    ForwardKind.RENEW: msgspec.msgpack.Decoder(Session | None),
    ForwardKind.WORD: msgspec.msgpack.Decoder(Word),
    ForwardKind.LEFT: msgspec.msgpack.Decoder(list[int | None]),
}


def encode_result(result: Result) -> bytes:
    """Return the `data` of a `ForwardReply` that is DONE."""
    return _encoder.encode(result)


def decode_result(kind: int, data: bytes) -> Result:
    """Return the result of a forwarded request of `kind`.

    Raises:
        PeerError: `data` is not such a result.
    """
    try:
        return _RESULTS[kind].decode(data)
    except msgspec.MsgspecError as error:
        raise PeerError(f"the result of a forwarded request cannot be read: {error}") from None


def encode(frame: Frame) -> bytes:
    """Return `frame` with its length in front."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4) + body


def _refusal(why: str) -> BadFrame:
    """Return the error for a frame that cannot be decoded."""
    if f"`int` <= {NUMBER_MAX}" in why:  # The words of msgspec.
        return BadNumber(f"a number beyond {NUMBER_MAX} ({why})")
    return BadFrame(f"a frame that is not of this protocol: {why}")


class FrameReader:
    """Cuts a stream of bytes into frames.

    Attributes:
        limit: Bytes of the longest frame it accepts; `MAX_GREETING` until the peer is known.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        """Start at a frame's first byte."""
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            PeerError: A frame is too long.
            BadFrame: It is not one of this protocol.
        """
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - start >= 4:
                length = int.from_bytes(view[start : start + 4])
                # Before the body is there: a peer must not fill the memory by announcing a large
                # frame.
                if length > self.limit:
                    raise PeerError(f"a frame of {length} bytes, more than {self.limit}")
                if end - start - 4 < length:
                    break
                start += 4
                try:
                    frames.append(_decoder.decode(view[start : start + length]))
                except (msgspec.MsgspecError, RecursionError) as error:
                    raise _refusal(str(error)) from None
                start += length
        del buffer[:start]
        return frames
