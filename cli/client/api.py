"""One node's HTTP API, as the commands use it: a method for each request.

It never sends a write twice, and does not decide which node to ask (`search/find.py`). Replies are
in `replies.py`; what goes wrong is translated in `errors.py`.
"""

from __future__ import annotations

import json
import re
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

import msgspec

from hstore.node.errors import Compacted, OutcomeUnknown, Unavailable
from hstore.node.net.bounded import Budget, bounded

from . import errors, replies
from .errors import Unreachable
from .httpx_alone import httpx
from .plain import plain, plain_cluster, plain_fields
from .replies import Seen, Value
from .server_sent import blocks, data_of, lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from hstore.node.model.cluster_info import ClusterInfo, ConfigValue

T = TypeVar("T")

REQUEST_TIMEOUT_S = 8.0
"""More than the 5 s after which a node gives up by itself and says why."""

# A node sends figures on `/v1/events` about once a second.
STALL_TIMEOUT_S = 3.0

# A watch without changes sends its position every 15 s.
WATCH_STALL_S = 40.0

MONITOR_STALL_S = 60.0
"""A node may have nothing to log for hours. After this much silence it is asked again: it answers at
once, or is gone."""

CONNECT_TIMEOUT_S = 2.0

_KEY_JSON_MAX = 32 << 10
"""Bytes of a key in JSON: of 4,096 bytes, each may be an escape of six."""

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')

# Only plain HTTP is spoken here. By default httpx would read every authority of the system for each
# client, which takes longer than all the rest of a command.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class NodeClient:
    """A connection to one node. Closes: its connections, at the end of `with`.

    Each method raises the errors of `errors.py`, and those of `hstore.node.errors` that a node's
    answer stands for.

    Args:
        address: `HOST:PORT` of the node's API.
        timeout_s: How long a request may take, in seconds.
        transport: Carries the requests, in tests.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._budget = Budget()
        if transport is None:
            transport = bounded(httpx.HTTPTransport(verify=_TRUSTS_NOBODY), self._budget)
        self._http = httpx.Client(
            base_url=f"http://{address}",
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            transport=transport,
            # A proxy of the environment must not come between a command and a node on loopback.
            trust_env=False,
            event_hooks={"request": [self._begin], "response": [self._refuse_stranger]},
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

    # --- the cluster ------------------------------------------------------------------------------

    def cluster(self) -> ClusterInfo:
        """Return the cluster as the node sees it."""
        return plain_cluster(self._decoded(self._ask("GET", "/v1/cluster"), replies.CLUSTER))

    def events(self) -> Iterator[ClusterInfo]:
        """Yield the cluster now and at each change, without end.

        Raises:
            Unreachable: The node cannot be reached, or has fallen silent, or has ended.
        """
        timeout = httpx.Timeout(STALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        with (
            self._translated(),
            self._http.stream("GET", "/v1/events", timeout=timeout) as response,
        ):
            for data in data_of(self._stream_of(response), "cluster"):
                try:
                    info = replies.CLUSTER.decode(data)
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

    def config(self, *, is_stale: bool = False) -> dict[str, ConfigValue]:
        """Return every setting by key.

        Args:
            is_stale: As this node knows them, with a leader or without.

        Raises:
            NotApplied: There is no leader.
        """
        path = "/v1/config?stale" if is_stale else "/v1/config?timeout=2s"
        found = self._decoded(self._ask("GET", path), replies.CONFIG)
        return {plain(key): plain_fields(value) for key, value in found.items()}

    def configure(self, key: str, value: str) -> ConfigValue:
        """Change a setting; return its new value."""
        response = self._change("PUT", f"/v1/config/{path_of(key)}", {"value": value})
        return plain_fields(self._decoded(response, replies.CONFIG_VALUE))

    def rename(self, name: str, node: str = "") -> str:
        """Give a member another name; return the one it had.

        Args:
            name: The new name.
            node: The member's name, API address or id; empty: the node that is asked.
        """
        response = self._change("POST", "/v1/node/rename", {"node": node, "name": name})
        return plain(self._decoded(response, replies.RENAMED).was)

    # --- keys -------------------------------------------------------------------------------------

    def read(self, key: str) -> bytes:
        """Return the value of a key.

        Raises:
            NotFound: There is no such key.
        """
        return self._ask("GET", f"/v1/kv/{path_of(key)}?raw").content

    def read_all(self) -> Iterator[bytes]:
        """Yield the pieces of one JSON object that holds all keys and values."""
        with self._translated(), self._http.stream("GET", "/read") as response:
            yield from self._stream_of(response)

    def get(self, key: str) -> Value:
        """Return what is stored under a key.

        Raises:
            NotFound: There is no such key.
        """
        response = self._ask("GET", f"/read/{path_of(key)}")
        found = self._decoded(response, replies.ENTRY)
        return Value(self._bytes(found, response), found.revision)

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
        """Delete a key that exists; return the revision of the deletion.

        Raises:
            NotFound: It does not exist.
        """
        return self._write("DELETE", f"/delete/{path_of(key)}")

    def put(self, key: str, value: bytes, cas: int | None = None) -> int | None:
        """Write a value of any bytes; return its revision (0: not known), or None: it was not written.

        Args:
            key: The key.
            value: Its new value.
            cas: Only if the key's revision is this (0: it does not exist); None: always.
        """
        # With either of them the answer names the revision.
        query = "?flags=0" if cas is None else f"?cas={cas}"
        with self._translated(is_write=True):
            response = self._http.put(f"/v1/kv/{path_of(key)}{query}", content=value)
        is_done = self._decoded(self._checked(response), replies.DONE)
        revision = response.headers.get("x-hstore-revision", "0")
        return (int(revision) if revision.isdecimal() else 0) if is_done else None

    def scan(self, prefix: str, after: str, limit: int) -> dict[str, bytes]:
        """Return at most `limit` keys with their values, beginning with the first key after `after`."""
        query = f"prefix={quote(prefix, safe='')}&limit={limit}"
        if after:
            query += f"&after={quote(after, safe='')}"
        response = self._ask("GET", f"/read?{query}")
        found = self._decoded(response, replies.LISTING)
        return {
            key: value.encode() if isinstance(value, str) else self._bytes(value, response)
            for key, value in found.items()
        }

    def keys(self, prefix: str, *, stale: bool = False) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, as they arrive.

        Args:
            prefix: The beginning; empty: every key.
            stale: From the node's own copy.

        Raises:
            NotFound: There is none.
        """
        path = f"/v1/kv/{path_of(prefix) if prefix else ''}?keys{'&stale' if stale else ''}"
        with self._translated(), self._http.stream("GET", path) as response:
            rest = b""
            for piece in self._stream_of(response):
                rest += piece
                end = 0
                for match in _JSON_STRING.finditer(rest):
                    yield json.loads(match[0])
                    end = match.end()
                rest = rest[end:]
                if len(rest) > _KEY_JSON_MAX:
                    raise self._stranger(response)

    def watch(self, prefix: str, after: int | None) -> Iterator[Seen]:
        """Yield the changes under a prefix, and between them how far the watch is, without end.

        Args:
            prefix: Of the keys.
            after: Begin with the first change after this revision; None: from now on.

        Raises:
            Compacted: The node no longer has the changes after `after`.
            Unreachable: The node cannot be reached, or has fallen silent, or has ended.
        """
        query = f"prefix={quote(prefix, safe='')}" + ("" if after is None else f"&after={after}")
        timeout = httpx.Timeout(WATCH_STALL_S, connect=CONNECT_TIMEOUT_S)
        with (
            self._translated(),
            self._http.stream("GET", f"/v1/watch?{query}", timeout=timeout) as response,
        ):
            for block in blocks(self._stream_of(response)):
                yield self._seen(block, response)
        raise Unreachable(f"the node at {self.address} has ended")

    def monitor(self, level: str, *, as_json: bool) -> Iterator[str]:
        """Yield the log of the node as it comes: an empty line once it has answered, then each line.

        Returns after `MONITOR_STALL_S` of silence.

        Args:
            level: From this one on.
            as_json: As JSON, not as text.

        Raises:
            Unreachable: The node cannot be reached, or has ended.
        """
        query = f"loglevel={quote(level, safe='')}{'&logjson' if as_json else ''}"
        timeout = httpx.Timeout(MONITOR_STALL_S, connect=CONNECT_TIMEOUT_S)
        with (
            self._translated(),
            self._http.stream("GET", f"/v1/agent/monitor?{query}", timeout=timeout) as response,
        ):
            pieces = self._stream_of(response)
            yield ""
            try:
                yield from lines(pieces)
            except httpx.ReadTimeout:
                return
        raise Unreachable(f"the node at {self.address} has ended")

    # --- the node's process -----------------------------------------------------------------------

    def leave(self) -> None:
        """Have the node leave its cluster for good, and stop."""
        self._ask("POST", "/v1/node/leave", {})

    def remove(self, name: str) -> None:
        """Have the leader remove a member from the cluster for good."""
        self._ask("POST", "/v1/leader/remove", {"node": name})

    def transfer(self, to: str) -> str:
        """Have a member lead; return the name of the node that leads then.

        Args:
            to: Its name, API address or id; empty: any that can.
        """
        response = self._ask("POST", "/v1/leader/transfer", {"to": to})
        return plain(self._decoded(response, replies.LEADING).leader)

    def stop(self) -> str:
        """Have the node stop; return why it is still a voter of its cluster, empty if it is none."""
        stopping = self._decoded(self._ask("POST", "/v1/node/stop", {}), replies.STOPPING)
        return plain(stopping.still_voter)

    def stop_all(self) -> None:
        """Have all members of the cluster stop, the node among them."""
        self._ask("POST", "/v1/cluster/stop", {})

    def restart(self) -> None:
        """Have the node stop, and start again in the same process."""
        self._ask("POST", "/v1/node/restart", {})

    def kill(self) -> None:
        """Have the process end at once. It may end before it answers, which is no error."""
        try:
            with self._translated(is_write=True):
                response = self._http.post("/v1/node/kill", json={})
        except OutcomeUnknown:
            return
        self._checked(response)

    # --- requests and replies ---------------------------------------------------------------------

    def exchange(
        self, method: str, path: str, content: bytes | None = None, *, is_write: bool = False
    ) -> httpx.Response:
        """Make a request of `sessions.py`; return its answer, whatever its status.

        Args:
            method: As in HTTP.
            path: With its query, percent-encoded.
            content: The body; None: there is none.
            is_write: It changes something, so that a lost reply leaves the outcome unknown.
        """
        with self._translated(is_write=is_write):
            return self._http.request(method, path, content=content)

    def decoded(
        self,
        response: httpx.Response,
        decoder: msgspec.json.Decoder[T],
        *,
        allowed: tuple[int, ...] = (200,),
    ) -> T:
        """Return what an answer says; any other status than those allowed is raised as its error."""
        if response.status_code not in allowed:
            raise errors.refusal(self.address, response)
        return self._decoded(response, decoder)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        with self._translated():
            response = self._http.request(method, path, json=body)
        return self._checked(response)

    def _change(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        """Send a request that changes something, so that a lost reply leaves the outcome unknown."""
        with self._translated(is_write=True):
            response = self._http.request(method, path, json=body)
        return self._checked(response)

    def _write(self, method: str, path: str, body: dict[str, str] | None = None) -> int:
        return self._decoded(self._change(method, path, body), replies.WRITTEN).revision

    def _translated(self, *, is_write: bool = False) -> AbstractContextManager[None]:
        return errors.translated(self.address, is_write=is_write)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code != 200:
            response.read()
            raise errors.refusal(self.address, response)
        return response

    def _stream_of(self, response: httpx.Response) -> Iterator[bytes]:
        """Return the pieces of an answer that may be as long as it likes; each is waited for anew."""
        self._checked(response)
        self._budget.lift()
        return response.iter_bytes()

    def _decoded(self, response: httpx.Response, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            return decoder.decode(response.content)
        except (msgspec.DecodeError, ValueError):
            raise self._stranger(response) from None

    def _bytes(self, value: replies.Entry | replies.Base64Value, response: httpx.Response) -> bytes:
        try:
            return value.data()
        except ValueError:
            raise self._stranger(response) from None

    def _seen(self, block: dict[str, str], response: httpx.Response) -> Seen:
        try:
            position = int(block["id"]) if "id" in block else None
            if "data" not in block:
                return Seen(position)
            if block.get("event") == "error":
                raise Compacted(plain(errors.ERROR_BODY.decode(block["data"]).error))
            change = replies.ENTRY.decode(block["data"])
            value = None if change.deleted else change.data()
        except (ValueError, msgspec.DecodeError):
            raise self._stranger(response) from None
        return Seen(position, change.key, change.revision, value)

    def _begin(self, _request: httpx.Request) -> None:
        self._budget.begin(self._timeout_s)

    def _refuse_stranger(self, response: httpx.Response) -> None:
        """Read no body of another program. Every node sends this header, and none compresses."""
        if "x-hstore-index" not in response.headers or "content-encoding" in response.headers:
            raise self._stranger(response)

    def _stranger(self, response: httpx.Response) -> Unreachable:
        return errors.stranger(self.address, response)


def path_of(key: str) -> str:
    """Percent-encode a key; a bare `.` or `..` would be taken for a step in the path."""
    return quote(key, safe="") if key.strip(".") else "%2E" * len(key)
