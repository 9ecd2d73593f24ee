"""One HTTP/1.1 server connection without any I/O: bytes in, whole requests or one refusal out.

Owns what the wire may look like: framing, limits, and what is refused because two programs could
read it differently (request smuggling, RFC 9112 section 11.2). No sockets, clocks, routes or
answers live here.

Theory of operation. `httptools` (llhttp) parses; this class is its callback object and keeps the
one request that is being read. `receive` returns the requests that became whole, in order, and
sets `error` when what follows them cannot be read any more: from then on, and after a request that
ends the connection, further bytes are ignored. The result does not depend on where the network cut
the stream, because all counting is done in callbacks whose arguments do not depend on it. A plain
request whose header lines are known is read without the parser, to the same result (`known_heads.py`).

What llhttp leaves to its caller, and is refused here: a transfer coding other than exactly
`chunked`, any transfer coding in HTTP/1.0, versions other than 1.0 and 1.1, a missing or doubled
`Host`, a fragment in the target, an upgrade or CONNECT (after which llhttp would not read the
body). By itself, in its default strict mode, llhttp refuses two lengths (equal ones too), a length
beside a transfer coding, lists and signs in a length, bare LF, bare CR, obs-fold, space before a
colon, and bad chunk sizes; `tests/node/api/http/test_smuggling.py` holds it to each.
"""

from __future__ import annotations

import enum

import httptools

from ...raft.errors import CoreBug
from .known_heads import SMALL_BODY_BYTES, KnownHeads, Plain

# Precedents: nginx 8 KiB a line and 32 KiB in all, Apache 8 KiB a line, Node 16 KiB in all. A key
# of 4,096 bytes takes 12,288 when every byte is percent-encoded, so the target gets more.
TARGET_BYTES_MAX = 32 * 1024
HEADER_BYTES_MAX = 16 * 1024
# Each is a call of the parser, however short: 3,000 of 4 bytes fit into the bytes above, and took 5 ms
# of the event loop. Precedents: Apache and hyper 100, Tomcat 100, nginx 1,000, Node 2,000.
HEADERS_MAX = 100
# A value of 1 MiB is up to six times that as JSON (`\u0000`), and so is its key.
BODY_BYTES_MAX = 6 * (1024 * 1024 + 4096) + 1024
# httptools keeps an unfinished header line and does not say how long it is. The bytes of one receive
# may belong to the request before, hence the addition.
RECEIVE_BYTES = 64 * 1024
# What is received at once where it may be whole requests: there may be some 200 in it, each an object
# that waits in memory for its turn.
REQUESTS_BYTES = 8 * 1024
UNFINISHED_BYTES_MAX = TARGET_BYTES_MAX + HEADER_BYTES_MAX + RECEIVE_BYTES

# Headers that may come only once. Others are joined by a comma, but two idempotency keys would so
# become a third, under which the write takes effect once more.
_SAID_ONCE = {b"host": "Host", b"idempotency-key": "Idempotency-Key"}


class Phase(enum.Enum):
    """How much of the next request has come."""

    IDLE = "idle"
    HEADERS = "headers"
    BODY = "body"


class RequestError(Exception):
    """The bytes received are not a request that can be served; the connection ends.

    Attributes:
        status: The HTTP status to answer with.
        method: Of the request; empty where its path is.
        path: Of the request, as far as it had come.
        size: Bytes of a body that is too large, as far as they are known; 0: it is not about that.
    """

    def __init__(
        self, status: int, text: str, method: bytes = b"", path: bytes = b"", size: int = 0
    ) -> None:
        super().__init__(text)
        self.status = status
        self.method = method
        self.path = path
        self.size = size


class BodyBudget:
    """How many bytes of large bodies all connections together may hold.

    Args:
        bytes_max: The bound.
    """

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, count: int) -> bool:
        """Take from what is left, and return whether there was enough."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Return what was taken."""
        self._left += count


class Request:
    """One whole request. Plain slots: thousands of these are made each second.

    Attributes:
        method: As sent, such as `b"GET"`.
        path: Up to the `?`, still percent-encoded.
        query: After the `?`, still percent-encoded; empty when there is none.
        headers: By lower-case name; values stripped, repeated ones joined by `, `.
        body: All of it.
        has_length: The length of the body was stated (also as chunked).
        keep_alive: The client lets the connection go on after the answer.
        is_http10: The answer must not be chunked.
    """

    __slots__ = (
        "body",
        "has_length",
        "headers",
        "is_http10",
        "keep_alive",
        "method",
        "path",
        "query",
    )

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    has_length: bool
    keep_alive: bool
    is_http10: bool

    def __repr__(self) -> str:
        return f"<Request {self.method!r} {self.path!r}?{self.query!r} body={len(self.body)}>"


class Connection:
    """The receiving side of one connection.

    Attributes:
        error: Why nothing further can be read; None while all is well. It is to be answered after
            the requests that came before it.
        is_begun: A part of a request has come, and not all of it yet.
    """

    def __init__(
        self,
        budget: BodyBudget | None = None,
        heads: KnownHeads | None = None,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self._heads = heads
        # All that has come so far are whole requests: the parser is where it was at the start.
        self._is_between = True
        self.error: RequestError | None = None
        self._body_bytes_max = body_bytes_max
        self._budget = budget or BodyBudget(body_bytes_max)
        self._budget_taken = 0
        self._budget_used = 0
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._requests: list[Request] = []
        self._is_over = False
        self.is_begun = False
        self._is_continue_due = False
        self._unfinished_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_room = HEADER_BYTES_MAX
        self._headers_left = HEADERS_MAX
        self._request: Request | None = None
        # One piece as it came; all of several in one buffer, for a million small ones would take twenty
        # times their bytes, which no budget counts.
        self._body: bytes | bytearray = b""
        self._body_bytes = 0

    def receive(self, data: bytes | bytearray) -> list[Request]:
        """Take bytes from the network and return the requests that they complete.

        After calling this method: answer the requests in order, then look at `error`, then at
        `take_continue`.
        """
        if self._is_over or self.error is not None:
            return []
        if self._budget_used:
            # Being called again means that the requests of before are answered.
            self._budget.give_back(self._budget_used)
            self._budget_used = 0
        heads = self._heads
        if heads is not None and self._is_between and type(data) is bytes:
            plain = heads.read(data)
            if plain is not None:
                return [_plain_request(plain)]
        return self._parse(data)

    def _parse(self, data: bytes | bytearray) -> list[Request]:
        body_bytes, parser = self._body_bytes, self._parser
        if parser is None:
            raise CoreBug("a connection reads on that was closed")
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Only after a request that was marked as the last one: see `on_headers_complete`.
            pass
        except httptools.HttpParserError as error:
            # Bytes after a request with `Connection: close` are ignored, not an error.
            if not self._is_over:
                self._refuse(400, f"this is not HTTP as we read it: {error}")
        if self._requests:
            self._unfinished_bytes = 0
        if self.is_begun:
            self._bound_unfinished(len(data), is_progress=self._body_bytes != body_bytes)
        requests, self._requests = self._requests, []
        was_between = self._is_between
        self._is_between = bool(requests) and not self.is_begun
        heads = self._heads
        if heads is not None and was_between and len(requests) == 1 and type(data) is bytes:
            one = requests[0]
            if one.keep_alive:
                heads.learn(data, one.headers, one.body, has_length=one.has_length)
        return requests

    def take_continue(self) -> bool:
        """Return, once per request, whether the client waits for `100 Continue` to send a body."""
        due = self._is_continue_due and self.is_begun and self._body_bytes == 0
        self._is_continue_due = False
        return due and self.error is None

    @property
    def phase(self) -> Phase:
        """Which part of a request the client is sending."""
        if not self.is_begun:
            return Phase.IDLE
        return Phase.HEADERS if self._request is None else Phase.BODY

    @property
    def receive_bytes(self) -> int:
        """How much to receive next: much only where it is certain to be of one body."""
        if self._request is None:
            return REQUESTS_BYTES
        left = int(self._request.headers.get(b"content-length", 0)) - self._body_bytes
        return min(max(left, REQUESTS_BYTES), RECEIVE_BYTES)

    def close(self) -> None:
        """Drop the parser, which is in a reference cycle with this object; give the budget back."""
        if self._parser is not None:
            self._budget.give_back(self._budget_taken + self._budget_used)
        self._is_over = True
        self._parser = None

    def _bound_unfinished(self, count: int, *, is_progress: bool) -> None:
        """Bound what the parser keeps of a line that does not end (a header, or a trailer)."""
        if is_progress:
            self._unfinished_bytes = 0
            return
        self._unfinished_bytes += count
        if self._unfinished_bytes > UNFINISHED_BYTES_MAX:
            self._refuse(431, "the headers are too large")

    def _refuse(self, status: int, text: str, size: int = 0) -> RequestError:
        if self.error is None:  # llhttp reports what a callback raised once more, as its own error.
            path = self._target.partition(b"?")[0]
            method = self._parser.get_method() if path and self._parser is not None else b""
            self.error = RequestError(status, text, method, path, size)
        return self.error

    def _refuse_size(self, size: int) -> RequestError:
        return self._refuse(413, f"the body is larger than {self._body_bytes_max} bytes", size)

    # What httptools calls. An exception raised here ends `feed_data` with an HttpParserError.

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        self.is_begun = True

    def on_url(self, part: bytes) -> None:
        """Called with the target, or the next piece of it."""
        self._target += part
        if len(self._target) > TARGET_BYTES_MAX:
            raise self._refuse(431, f"the request target is longer than {TARGET_BYTES_MAX} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called with each whole header line, and with trailers."""
        self._header_room -= len(name) + len(value) + 4
        if self._header_room < 0:
            raise self._refuse(431, f"the headers are larger than {HEADER_BYTES_MAX} bytes")
        self._headers_left -= 1
        if self._headers_left < 0:
            raise self._refuse(431, f"there are more than {HEADERS_MAX} headers")
        if self._request is not None:
            return  # RFC 9110 section 6.5.1: a trailer may be dropped, and never means anything.
        name = name.lower()
        value = value.strip(b" \t")
        if name in self._headers:
            if name in _SAID_ONCE:
                raise self._refuse(400, f"there is more than one {_SAID_ONCE[name]} header")
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Called at the empty line: decide all that can be decided before the body."""
        parser, headers = self._parser, self._headers
        if parser is None:
            raise CoreBug("a request has come that no parser has read")
        request = Request()
        request.method = parser.get_method()
        request.headers = headers
        request.keep_alive = parser.should_keep_alive()
        request.is_http10 = False
        if not request.keep_alive or b"connection" in headers:
            # Plain keep-alive without a header is 1.1 for certain; asking is slow.
            version = parser.get_http_version()
            if version not in {"1.0", "1.1"}:
                raise self._refuse(400, "only HTTP/1.0 and HTTP/1.1 are spoken here")
            request.is_http10 = version == "1.0"
        self._split_target(request)
        if b"host" not in headers and not request.is_http10:
            raise self._refuse(400, "there is no Host header")
        self._check_framing(request)
        if parser.should_upgrade():
            self._check_upgrade(request)
        if b"expect" in headers and not request.is_http10:
            self._is_continue_due = headers[b"expect"].lower() == b"100-continue"
        self._request = request

    def on_body(self, part: bytes) -> None:
        """Called with each piece of the body."""
        self._body_bytes += len(part)
        if self._body_bytes > self._body_bytes_max:
            raise self._refuse_size(self._body_bytes)
        if self._body_bytes > SMALL_BODY_BYTES:
            if not self._budget.take(len(part)):
                raise self._refuse(503, "too many large bodies are on their way to this node")
            self._budget_taken += len(part)
        if not self._body:
            self._body = part
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += part

    def on_message_complete(self) -> None:
        """Called after the last byte of a request."""
        request = self._request
        if request is None:
            raise CoreBug("a request has ended that did not begin")
        request.body = bytes(self._body)
        self._requests.append(request)
        self._budget_used += self._budget_taken
        self._budget_taken = 0
        self.is_begun = False
        self._is_over = not request.keep_alive
        self._is_continue_due = False
        self._reset()

    def _split_target(self, request: Request) -> None:
        target = self._target
        if b"#" in target:
            raise self._refuse(400, "a request target has no fragment: write # as %23")
        if not target.startswith(b"/") and target != b"*":
            target = self._split_absolute(target)
        request.path, _, request.query = target.partition(b"?")

    def _split_absolute(self, target: bytes) -> bytes:
        """RFC 9112 section 3.2.2: the host in an absolute target overrules the header."""
        scheme, separator, rest = target.partition(b"://")
        authority_end = min((i for i in map(rest.find, (b"/", b"?")) if i >= 0), default=len(rest))
        authority = rest[:authority_end]
        if scheme.lower() not in {b"http", b"https"} or not separator or not authority:
            raise self._refuse(400, "the request target must start with /")
        if b"host" in self._headers:
            self._headers[b"host"] = authority
        path = rest[authority_end:]
        return path if path.startswith(b"/") else b"/" + path

    def _check_framing(self, request: Request) -> None:
        """Check that the length of the body is certain, and within the limit."""
        headers = self._headers
        length = headers.get(b"content-length")
        coding = headers.get(b"transfer-encoding")
        request.has_length = length is not None or coding is not None
        if coding is not None:
            if request.is_http10:
                # RFC 9112 section 6.1: faulty framing, as a proxy may have passed it on unread.
                raise self._refuse(400, "HTTP/1.0 has no Transfer-Encoding")
            if coding.lower() != b"chunked":
                raise self._refuse(400, "the only transfer coding understood is chunked")
        if length is not None and int(length) > self._body_bytes_max:
            raise self._refuse_size(int(length))

    def _check_upgrade(self, request: Request) -> None:
        # llhttp takes what follows for another protocol. Without a body that does no harm: RFC
        # 9110 section 7.8 lets a server ignore an upgrade, and this answer is the last.
        has_body = request.has_length and request.headers.get(b"content-length") != b"0"
        if request.method == b"CONNECT" or has_body:
            raise self._refuse(400, "no other protocol can be spoken here: send no Upgrade")
        request.keep_alive = False


def _plain_request(plain: Plain) -> Request:
    request = Request()
    request.method, request.path, request.query = plain[0], plain[1], plain[2]
    request.headers, request.has_length, request.body = plain[3], plain[4], plain[5]
    request.keep_alive = True
    request.is_http10 = False
    return request
