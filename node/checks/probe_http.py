"""HTTP checks: one request on a new connection, and what its answer says.

Status codes count as in Consul (`agent/checks/check.go`, `CheckHTTP.check`): 2xx is passing, 429
warning, everything else critical. The code counts as soon as the head is whole: a body that is cut
off, or that never ends, does not change it, as there. What a target sends costs bounded memory, and
only the time until the check's timeout.
"""

from __future__ import annotations

from collections.abc import Callable

import httptools

from ..model.checks import CheckDefinition, CheckStatus
from .connections import Connection, PlainConnection, Tls, connect, reason_of
from .output import REASON_CHARS_MAX, last_bytes, limit_of, shortened
from .requests import HttpRequest, first_request, redirected, without_password
from .targets import BadTarget, Targets
from .verdict import Progress, Verdict

HEAD_BYTES_MAX = 16 * 1024
"""Of an answer: its status line and its headers, with those of interim answers (1xx)."""

BODY_BYTES_MAX = 64 * 1024
"""Of an answer that is read; then the connection is closed (section 9.5 of the contract)."""

WIRE_BYTES_MAX = 4 * (HEAD_BYTES_MAX + BODY_BYTES_MAX)
"""Of all that is read, with what chunks have around them: a chunk of one byte takes six."""

RECEIVE_BYTES = 32 * 1024
"""Read in one go."""

REDIRECTS_MAX = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Answer:
    """What the parser has found so far. The names of its methods are httptools'."""

    def __init__(self, *, has_body: bool = True) -> None:
        self.code = 0
        self.reason = b""
        self.location = b""
        self.body: list[bytes] = []
        self.size = 0
        self.is_head_whole = self.is_whole = False
        self.parser: httptools.HttpResponseParser | None = None
        self._has_body = has_body

    def on_message_begin(self) -> None:
        self.reason = self.location = b""

    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_head_whole and name.lower() == b"location":
            self.location = value

    def on_headers_complete(self) -> None:
        code = self._parsed_code()
        if code >= 200:
            self.code, self.is_head_whole = code, True
            # The parser cannot know that an answer to HEAD has a length and no body.
            self.is_whole = not self._has_body

    def on_body(self, piece: bytes) -> None:
        # What was sent may be more than what is read.
        piece = piece[: BODY_BYTES_MAX - self.size] if self.is_head_whole else b""
        if piece:
            self.body.append(piece)
            self.size += len(piece)

    def on_message_complete(self) -> None:
        if self.is_head_whole:
            self.is_whole = True

    def _parsed_code(self) -> int:
        return 0 if self.parser is None else int(self.parser.get_status_code())

    @property
    def is_upgrade(self) -> bool:
        """Whether it wants to go on with another protocol."""
        return self._parsed_code() == 101

    @property
    def is_enough(self) -> bool:
        """Whether nothing more has to be read."""
        return self.is_whole or self.size >= BODY_BYTES_MAX


class HttpProbe:
    """Runs HTTP checks."""

    def __init__(self, targets: Targets, tls: Tls) -> None:
        self._targets = targets
        self._tls = tls

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """Carry out one check, as `Probes.run` says. Cancellation: the connection is closed."""
        try:
            request = first_request(definition)
        except BadTarget as error:
            method, url = definition.method or "GET", without_password(definition.http)
            return Verdict("critical", f"HTTP {shortened(method, 50)} {shortened(url)}: {error}")
        start = f"HTTP {request.method} {shortened(request.url.shown)}: "
        answer = _Answer()

        def so_far() -> Verdict:
            return _verdict(answer, definition, start)

        progress.so_far = so_far
        try:
            for _ in range(REDIRECTS_MAX + 1):
                answer = _Answer(has_body=request.method != "HEAD")
                await self._ask(request, definition, answer)
                if answer.code not in _REDIRECTS or not answer.location or definition.no_redirects:
                    return so_far()
                location = answer.location.decode("utf-8", "replace")
                request = redirected(request, answer.code, location)
        except (BadTarget, OSError) as error:
            return Verdict("critical", start + reason_of(error))
        return Verdict("critical", f"{start}stopped after {REDIRECTS_MAX} redirects")

    async def _ask(
        self, request: HttpRequest, definition: CheckDefinition, answer: _Answer
    ) -> None:
        """Send a request and read its answer.

        Raises:
            BadTarget, OSError: There is none.
        """
        url = request.url
        sock = await connect(await self._targets.find(url.host, url.port))
        connection: Connection = PlainConnection(sock)
        if url.scheme == "https":
            name = definition.tls_server_name or url.host
            is_verified = not definition.tls_skip_verify
            connection = await self._tls.start(sock, name, is_verified=is_verified)
        try:
            await connection.send_all(request.data)
            await _receive(connection, answer)
        finally:
            connection.close(reset=not answer.is_whole)
            # It refers to the answer: such circles stay in memory until the collector of cycles runs,
            # which is rarely.
            answer.parser = None


def _verdict(answer: _Answer, definition: CheckDefinition, start: str) -> Verdict:
    """Return what an answer says, as far as it has come."""
    if not answer.is_head_whole:
        return Verdict("critical", f"{start}no answer in time")
    reason = shortened(answer.reason.decode("latin-1"), REASON_CHARS_MAX)
    body = last_bytes(b"".join(answer.body), limit_of(definition))
    said = f"{answer.code} {reason}".rstrip()
    return Verdict(_status(answer.code), f"{start}{said} Output: {body}")


async def _receive(connection: Connection, answer: _Answer) -> None:
    """Read an answer until it is whole, or enough.

    Raises:
        OSError: It broke off before its head was whole.
        BadTarget: It is not HTTP, or its head has no end.
    """
    answer.parser = httptools.HttpResponseParser(answer)
    feed: Callable[[bytes], object] = answer.parser.feed_data
    size = 0
    while not answer.is_enough and size < WIRE_BYTES_MAX:
        # No head is read that is longer than it may be.
        room = RECEIVE_BYTES if answer.is_head_whole else HEAD_BYTES_MAX - size
        if room <= 0:
            raise BadTarget(f"its head is larger than {HEAD_BYTES_MAX // 1024} KiB")
        try:
            data = await connection.receive(room)
        except OSError:
            if answer.is_head_whole:
                return
            raise
        if not data:
            break
        size += len(data)
        try:
            feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            _judge(answer, error)
            return
    if not answer.is_head_whole:
        raise BadTarget("the connection was closed without an answer")


def _judge(answer: _Answer, error: Exception) -> None:
    """Take what came before a mistake; what follows a whole answer is no mistake of it.

    Raises:
        BadTarget: There was no head.
    """
    if not answer.is_head_whole:
        if answer.is_upgrade:
            raise BadTarget("it switches protocols, which nobody asked for")
        raise BadTarget(f"not an answer of HTTP: {shortened(str(error), REASON_CHARS_MAX)}")


def _status(code: int) -> CheckStatus:
    if 200 <= code <= 299:
        return "passing"
    return "warning" if code == 429 else "critical"
