"""What crosses a link between nodes, and how it is framed.

A frame is four bytes of length, big-endian, and one tagged msgpack array. Consensus messages have
the tags 1 to 31 (`raft/messages.py`); those of the drivers have the tags from 32 on, snapshots from
50 (`snapshot_transfer.py`). A connection
carries frames in one direction only, from the node that dialled; the other sends back one `Welcome`,
and the receiver's part of `snapshot_transfer.py` where that is what the connection is for.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from ..errors import PeerError
from ..model.cluster_info import JoinReply, NodeFigures
from ..model.commands import Outcome
from ..raft.messages import Message
from . import snapshot_transfer

MAX_GREETING = 4096
"""Bytes of a hello or a welcome, the only frames of a peer that is not known yet."""

MAX_FRAME = 8 * 1024 * 1024
"""Bytes of one frame. An append is at most 512 KiB or one entry, which is a little over 1 MiB."""


DIGEST_BYTES = 16
"""Of a state: it tells states that differ by mistake, not by somebody's design."""


class Purpose(enum.IntEnum):
    """What a connection is for."""

    MESSAGES = 0
    SNAPSHOT = 1


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """The first frame of a connection: the node that dials, and the node it means to reach.

    Attributes:
        protocol: `PROTOCOL` of the dialling node; always the first field, in all versions.
        cluster_id: 16 hex digits.
        node_id: The dialling node.
        to: The node it means to reach.
        name: The dialling node's name, for logs.
        purpose: A `Purpose`.
        address: `HOST:PORT` where the dialling node is dialled; empty: it does not say.
    """

    protocol: int
    cluster_id: str
    node_id: int
    to: int
    name: str
    purpose: int
    address: str = ""


class Refusal(enum.StrEnum):
    """Why a hello was refused."""

    PROTOCOL = "protocol"
    CLUSTER = "cluster"
    WRONG_NODE = "wrong node"
    REMOVED = "removed"


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=33, gc=False):
    """The answer to a hello; `refusal` is empty or a `Refusal`."""

    protocol: int
    node_id: int
    name: str
    refusal: str


class ForwardKind(enum.IntEnum):
    """The kinds of request that are forwarded to the leader. 3 was a write with a key, until protocol 4."""

    WRITE = 0
    """`data` is an encoded command, which the leader stamps with the cluster's time if it needs it."""
    JOIN = 1
    """`data` is a `JoinRequest`."""
    REMOVE = 2
    """`data` names a member."""
    STOP = 4
    """`data` is the id of a member that is about to stop, as 16 hex digits."""
    TRANSFER = 5
    """`data` is the id of the member that shall lead, likewise; empty: the leader chooses."""
    DEMOTE = 6
    """`data` is the id of a member that shall be a learner for good, likewise."""
    PROMOTE = 7
    """`data` is the id of a member that shall vote again, likewise."""


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=40, gc=False):
    """A request forwarded to the leader, once. `id` is the sender's, never used twice."""

    id: int
    kind: int
    data: bytes
    timeout_ms: int


class ForwardStatus(enum.IntEnum):
    """The outcome of a forwarded request."""

    DONE = 0
    """`data` is the result."""
    NOT_LEADER = 1
    """Not done for certain; the receiver may look for another leader."""
    NOT_APPLIED = 2
    OVERLOADED = 3
    UNKNOWN = 4
    REFUSED = 5
    """`data` says why, in UTF-8; likewise for all but DONE."""
    NO_SPACE = 6


class ForwardReply(msgspec.Struct, frozen=True, array_like=True, tag=41, gc=False):
    """The answer to the `Forward` of the same id."""

    id: int
    status: int
    data: bytes


class Bundle(msgspec.Struct, frozen=True, array_like=True, tag=45, gc=False):
    """Several of these at once, as if each had come by itself, in this order."""

    frames: list[Forward | ForwardReply]


class Report(msgspec.Struct, frozen=True, array_like=True, tag=42, gc=False):
    """A member tells the leader how it is, once in a health-check interval."""

    figures: NodeFigures


class Bulletin(msgspec.Struct, frozen=True, array_like=True, tag=43, gc=False):
    """The leader tells everyone how everyone is: its view is the cluster's (contract, section 1).

    Attributes:
        term: The leader's term; an older bulletin is ignored.
        members: By id: health, milliseconds since the last contact, figures or None.
    """

    term: int
    members: dict[int, tuple[str, int | None, NodeFigures | None]]


class StateDigest(msgspec.Struct, frozen=True, array_like=True, tag=44, gc=False):
    """The digest of the sender's state as the entry at `index`, a `Checkpoint`, left it."""

    index: int
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


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
    | snapshot_transfer.Frame
)

Result = Outcome | JoinReply | None
"""What a forwarded request can end in when it is done."""

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
}


def encode_result(result: Result) -> bytes:
    """Return the `data` of a `ForwardReply` that is DONE."""
    return _encoder.encode(result)


def decode_result(kind: int, data: bytes) -> Result:
    """Return the result of a forwarded request of `kind`.

    Raises:
        PeerError: It is none.
    """
    try:
        return _RESULTS[kind].decode(data)
    except msgspec.MsgspecError as error:
        raise PeerError(f"a result that is not of this protocol: {error}") from None


def encode(frame: Frame) -> bytes:
    """Return `frame` with its length in front."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4) + body


class FrameReader:
    """Cuts a stream of bytes into frames.

    Attributes:
        limit: Bytes of the longest frame that is taken; less for a peer that is not known yet.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        """Start at a frame's first byte."""
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            PeerError: A frame is too long, or is not one of this protocol.
        """
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - start >= 4:
                length = int.from_bytes(view[start : start + 4])
                if length > self.limit:
                    raise PeerError(f"a frame of {length} bytes, more than {self.limit}")
                if end - start - 4 < length:
                    break
                start += 4
                try:
                    frames.append(_decoder.decode(view[start : start + length]))
                except msgspec.MsgspecError as error:
                    raise PeerError(f"a frame that is not of this protocol: {error}") from None
                start += length
        del buffer[:start]
        return frames
