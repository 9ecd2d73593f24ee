"""One node's HTTP API, as the commands use it: the only module that knows httpx.

Owns the translation of what httpx raises and of HTTP statuses into errors with an exit status. It
never sends a write twice, and decides nothing about which node to ask: see `search/find.py`.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import re
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec

from hstore.node.errors import (
    Compacted,
    ConfigError,
    HstoreError,
    NotApplied,
    OutcomeUnknown,
    Refused,
    Unavailable,
)
from hstore.node.model.cluster_info import ClusterInfo, ConfigValue

from .httpx_alone import httpx
from .plain import plain_cluster
from .server_sent import TooLargeError, blocks, data_of

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

REQUEST_TIMEOUT_S = 8.0
"""More than the 5 s after which a node gives up by itself and says why."""

# While a node lives it sends figures about once a second.
STALL_TIMEOUT_S = 3.0

# A watch says every 15 s that it lives.
WATCH_STALL_S = 40.0

CONNECT_TIMEOUT_S = 2.0

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')

# Only plain HTTP is spoken here. By default httpx would read every authority of the system for each
# client, which takes longer than all the rest of a command.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Unreachable(HstoreError):
    """No node could be reached; the message says what was tried."""

    exit_code = 3


class NotConnected(Unreachable):
    """Nothing was sent, for there is no connection."""


class NothingListens(NotConnected):
    """There is no process at the address, or it takes no connections any more."""


class NotFound(HstoreError):
    """The node has no such key."""


class _ErrorBody(msgspec.Struct):
    error: str
    outcome: str | None = None


class _Renamed(msgspec.Struct):
    was: str


class _Stopping(msgspec.Struct):
    still_voter: str = ""


class _Written(msgspec.Struct):
    revision: int


class _Base64(msgspec.Struct):
    base64: str


class _Entry(msgspec.Struct):
    key: str
    revision: int
    value: str = ""
    value_base64: str | None = None
    deleted: bool = False

    def data(self) -> bytes:
        return self.value.encode() if self.value_base64 is None else _from_base64(self.value_base64)


def _from_base64(text: str) -> bytes:
    return binascii.a2b_base64(text)


class Value(NamedTuple):
    """What is stored under a key, and the revision of the write that last touched it."""

    data: bytes
    revision: int


class Seen(NamedTuple):
    """What a watch says.

    Attributes:
        position: All up to this revision has been said; None: not all of this one.
        key: The key that has changed; None: none has, it only says how far it is.
        revision: Of the change.
        value: What it was set to; None: it was deleted.
    """

    position: int | None
    key: str | None = None
    revision: int = 0
    value: bytes | None = None


# Made here and not at each use: clients run in several threads at a time (`search/find.py`), and where two
# threads are the first to decode into one type, msgspec 0.22 reads a table that is half filled and
# crashes the process.
_cluster = msgspec.json.Decoder(ClusterInfo)
_config = msgspec.json.Decoder(dict[str, ConfigValue])
_config_value = msgspec.json.Decoder(ConfigValue)
_error_body = msgspec.json.Decoder(_ErrorBody)
_renamed = msgspec.json.Decoder(_Renamed)
_entry = msgspec.json.Decoder(_Entry)
_done = msgspec.json.Decoder(bool)
_listing = msgspec.json.Decoder(dict[str, str | _Base64])
_stopping = msgspec.json.Decoder(_Stopping)
_written = msgspec.json.Decoder(_Written)


class NodeClient:
    """A connection to one node. Closes: its connections, at the end of `with`.

    Args:
        address: `HOST:PORT` of the node's API.
        timeout_s: How long a request may take, in seconds.
        transport: What carries requests, in tests.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = address
        self._http = httpx.Client(
            base_url=f"http://{address}",
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            transport=transport,
            verify=_TRUSTS_NOBODY,
            # A proxy of the environment must not come between a command and a node on loopback.
            trust_env=False,
            event_hooks={"response": [self._refuse_stranger]},
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._http.close()

    def cluster(self) -> ClusterInfo:
        """Return the cluster as the node sees it."""
        response = self._ask("GET", "/v1/cluster")
        try:
            return plain_cluster(_cluster.decode(response.content))
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def events(self) -> Iterator[ClusterInfo]:
        """Yield the cluster now and at each change, without end.

        Raises:
            Unreachable: The node cannot be reached, or has fallen silent, or has ended.
        """
        timeout = httpx.Timeout(STALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        with (
            self._errors(),
            self._http.stream("GET", "/v1/events", timeout=timeout) as response,
        ):
            for data in data_of(self._check(response).iter_bytes(), "cluster"):
                try:
                    info = _cluster.decode(data)
                except msgspec.DecodeError:
                    raise self._stranger(response) from None
                yield plain_cluster(info)
        raise Unreachable(f"the node at {self.address} has ended")

    def unhealthy(self) -> str | None:
        """Return why the node is not in contact with a leader, or None when it is.

        Raises:
            Unreachable: It does not answer.
        """
        try:
            self._ask("GET", "/v1/health")
        except Unavailable as error:
            return str(error)
        return None

    def read(self, key: str) -> bytes:
        """Return the value of a key.

        Raises:
            NotFound: There is none.
        """
        return self._ask("GET", f"/v1/kv/{_path(key)}?raw").content

    def read_all(self) -> Iterator[bytes]:
        """Yield the pieces of one JSON object that holds all keys and values."""
        with self._errors(), self._http.stream("GET", "/read") as response:
            yield from self._check(response).iter_bytes()

    def write(self, key: str, value: str) -> int:
        """Create or overwrite a key; return its revision."""
        return self._write("POST", "/write", {"key": key, "value": value})

    def update(self, key: str, value: str) -> int:
        """Overwrite a key that exists; return its revision.

        Raises:
            NotFound: It does not exist.
        """
        return self._write("POST", "/update", {"key": key, "value": value})

    def delete(self, key: str) -> int:
        """Delete a key that exists; return the revision of that.

        Raises:
            NotFound: It does not exist.
        """
        return self._write("DELETE", f"/delete/{_path(key)}")

    def config(self, *, is_stale: bool = False) -> dict[str, ConfigValue]:
        """Return every setting by key; `is_stale`: as this node knows them, whoever leads.

        Raises:
            NotApplied: There is no leader.
        """
        response = self._ask("GET", "/v1/config?stale" if is_stale else "/v1/config?timeout=2s")
        try:
            return _config.decode(response.content)
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def configure(self, key: str, value: str) -> ConfigValue:
        """Change a setting; return what it is then."""
        with self._errors(sent=True):
            response = self._http.put(f"/v1/config/{_path(key)}", json={"value": value})
        try:
            return _config_value.decode(self._check(response).content)
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def rename(self, name: str) -> str:
        """Give the node another name; return the one it had."""
        with self._errors(sent=True):
            response = self._http.post("/v1/node/rename", json={"name": name})
        try:
            return _renamed.decode(self._check(response).content).was
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def get(self, key: str) -> Value:
        """Return what is stored under a key.

        Raises:
            NotFound: Nothing is.
        """
        response = self._ask("GET", f"/read/{_path(key)}")
        found = self._decoded(response, _entry)
        return Value(found.data(), found.revision)

    def put(self, key: str, value: bytes, cas: int | None = None) -> bool:
        """Write a value of any bytes; return whether it was done.

        Args:
            key: Where.
            value: What.
            cas: Only if the key's revision is this (0: it does not exist); None: always.
        """
        query = "" if cas is None else f"?cas={cas}"
        with self._errors(sent=True):
            response = self._http.put(f"/v1/kv/{_path(key)}{query}", content=value)
        return self._decoded(self._check(response), _done)

    def scan(self, prefix: str, after: str, limit: int) -> dict[str, bytes]:
        """Return at most so many keys and values, from the first key behind `after` on."""
        query = f"prefix={quote(prefix, safe='')}&limit={limit}"
        if after:
            query += f"&after={quote(after, safe='')}"
        found = self._decoded(self._ask("GET", f"/read?{query}"), _listing)
        return {
            key: value.encode() if isinstance(value, str) else _from_base64(value.base64)
            for key, value in found.items()
        }

    def keys(self, prefix: str, *, stale: bool = False) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, as they come; `stale`: of the node's own copy.

        Raises:
            NotFound: There is none.
        """
        path = f"/v1/kv/{_path(prefix) if prefix else ''}?keys{'&stale' if stale else ''}"
        with self._errors(), self._http.stream("GET", path) as response:
            rest = b""
            for piece in self._check(response).iter_bytes():
                rest += piece
                end = 0
                for match in _JSON_STRING.finditer(rest):
                    yield json.loads(match[0])
                    end = match.end()
                rest = rest[end:]

    def watch(self, prefix: str, after: int | None) -> Iterator[Seen]:
        """Yield the changes under a prefix, and between them how far it is, without end.

        Args:
            prefix: Of the keys.
            after: The revision to go on after; None: from now on.

        Raises:
            Compacted: It is not known there any more what came next.
            Unreachable: The node cannot be reached, or has fallen silent, or has ended.
        """
        query = f"prefix={quote(prefix, safe='')}" + ("" if after is None else f"&after={after}")
        timeout = httpx.Timeout(WATCH_STALL_S, connect=CONNECT_TIMEOUT_S)
        with (
            self._errors(),
            self._http.stream("GET", f"/v1/watch?{query}", timeout=timeout) as response,
        ):
            for block in blocks(self._check(response).iter_bytes()):
                yield self._seen(block, response)
        raise Unreachable(f"the node at {self.address} has ended")

    def _seen(self, block: dict[str, str], response: httpx.Response) -> Seen:
        try:
            position = int(block["id"]) if "id" in block else None
            if "data" not in block:
                return Seen(position)
            if block.get("event") == "error":
                raise Compacted(_error_body.decode(block["data"]).error)
            change = _entry.decode(block["data"])
            value = None if change.deleted else change.data()
        except (ValueError, msgspec.DecodeError):
            raise self._stranger(response) from None
        return Seen(position, change.key, change.revision, value)

    def _decoded(self, response: httpx.Response, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            return decoder.decode(response.content)
        except (msgspec.DecodeError, ValueError):
            raise self._stranger(response) from None

    def command(self, path: str, body: dict[str, str] | None = None) -> None:
        """Send an order to the node itself, such as `/v1/node/leave`."""
        self._ask("POST", path, body or {})

    def stop(self) -> str:
        """Have the node stop; return why it is still a voter of its cluster, if it is."""
        response = self._ask("POST", "/v1/node/stop", {})
        try:
            return _stopping.decode(response.content).still_voter
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def restart(self) -> None:
        """Have the node stop, and begin anew in the same process."""
        self._ask("POST", "/v1/node/restart", {})

    def kill(self) -> None:
        """Have the process end at once. That it ends before it has answered is no error."""
        try:
            with self._errors(sent=True):
                response = self._http.post("/v1/node/kill", json={})
        except OutcomeUnknown:
            return
        self._check(response)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        with self._errors():
            response = self._http.request(method, path, json=body)
        return self._check(response)

    def _write(self, method: str, path: str, body: dict[str, str] | None = None) -> int:
        with self._errors(sent=True):
            response = self._http.request(method, path, json=body)
        content = self._check(response).content
        try:
            return _written.decode(content).revision
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def _check(self, response: httpx.Response) -> httpx.Response:
        if response.status_code != 200:
            response.read()
            raise self._refusal(response)
        return response

    def _refusal(self, response: httpx.Response) -> HstoreError:
        status = response.status_code
        try:
            body = _error_body.decode(response.content)
        except msgspec.DecodeError:
            if status == 404:
                return NotFound("there is no such key")
            return self._stranger(response)
        if status == 404:
            return NotFound(body.error)
        if status == 400:
            return ConfigError(body.error)
        if status == 410:
            return Compacted(body.error)
        if body.outcome == "unknown":
            return OutcomeUnknown(body.error)
        return NotApplied(body.error) if status == 503 else Refused(body.error)

    def _refuse_stranger(self, response: httpx.Response) -> None:
        """Go no further than the headers with some other program, whose body may have no end."""
        if "x-hstore-index" not in response.headers:
            raise self._stranger(response)

    def _stranger(self, response: httpx.Response) -> Unreachable:
        return Unreachable(
            f"{self.address} answers (HTTP {response.status_code}), but is not an hstore node; "
            "give the address of a node's API with -h"
        )

    @contextlib.contextmanager
    def _errors(self, *, sent: bool = False) -> Iterator[None]:
        """Translate what goes wrong on the way; `sent`: the request may have had its effect."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = str(error).partition("] ")[2] or "no answer"
            kind = NothingListens if isinstance(error, httpx.ConnectError) else NotConnected
            raise kind(
                f"no node can be reached at {self.address} ({reason}); "
                "is it running? `hstore list` shows the nodes of a cluster"
            ) from None
        except TooLargeError:
            raise Unreachable(
                f"the node at {self.address} sends more than any event has; is it one of hstore?"
            ) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            lost = (
                "did not answer in time"
                if isinstance(error, httpx.TimeoutException)
                else ("broke the connection")
            )
            if sent:
                raise OutcomeUnknown(
                    f"the node at {self.address} {lost}; the write may or may not take effect: "
                    "read it back before you write again"
                ) from None
            raise Unreachable(
                f"the node at {self.address} {lost}; try another one with -h"
            ) from None


def _path(key: str) -> str:
    """Percent-encode a key; a bare `.` or `..` would be taken for a step in the path."""
    return quote(key, safe="") if key.strip(".") else "%2E" * len(key)
