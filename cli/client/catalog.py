"""Services, checks and maintenance at one node: a function for each request.

These paths speak Consul's dialect (docs/http.md). As in `api.py`, nothing is sent twice here, and
each function raises the errors of `errors.py` and those that an answer stands for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from . import errors, replies
from .api import path_of

if TYPE_CHECKING:
    from .api import NodeClient
    from .httpx_alone import httpx
    from .replies import CheckRow, InstanceRow

    T = TypeVar("T")

_NUMBER = re.compile(r"[0-9]{1,20}")


class Shown(NamedTuple):
    """What a node has shown.

    Attributes:
        at: The index of this result: a read that waits, waits for a greater one.
        content: The JSON, decoded.
    """

    at: int
    content: object


class Waiting(NamedTuple):
    """What a read waits for.

    Attributes:
        after: The index of the last result; 0: it waits for nothing.
        wait_s: How long it waits at most; the node adds up to a sixteenth.
    """

    after: int = 0
    wait_s: float = 0.0

    def query(self) -> list[str]:
        """Return its part of a query."""
        return [f"index={self.after}", f"wait={self.wait_s * 1000:.0f}ms"] if self.after else []


AT_ONCE = Waiting()


# --- writing -----------------------------------------------------------------------------------------


def register(
    client: NodeClient, body: dict[str, object], node: str | None, address: str | None
) -> None:
    """Register a service.

    Args:
        client: The node that is asked.
        body: As `PUT /v1/agent/service/register` takes it.
        node: The node that it is on; None: the one that is asked.
        address: Of a machine without a member; None: that of this connection.
    """
    query = _query(*_place(node), *([f"node-address={_quoted(address)}"] if address else []))
    _change(client, f"/v1/agent/service/register{query}", msgspec.json.encode(body))


def deregister(client: NodeClient, service_id: str, node: str | None) -> None:
    """Remove a service.

    Raises:
        NotFound: It is not there.
    """
    _change(client, f"/v1/agent/service/deregister/{path_of(service_id)}{_query(*_place(node))}")


def maintain(
    client: NodeClient, service_id: str | None, node: str | None, *, is_on: bool, reason: str | None
) -> None:
    """Take a service, or all of a node, out of what is healthy, or back.

    Raises:
        NotFound: There is no such service.
    """
    said = [f"reason={_quoted(reason)}"] if reason else []
    query = _query(f"enable={'true' if is_on else 'false'}", *said, *_place(node))
    path = "maintenance" if service_id is None else f"service/maintenance/{path_of(service_id)}"
    _change(client, f"/v1/agent/{path}{query}")


def own_name(client: NodeClient) -> str:
    """Return the name of the member that is asked."""
    return client.decoded(client.exchange("GET", "/v1/agent/self"), replies.AGENT).config.node_name


# --- reading -----------------------------------------------------------------------------------------


def services(
    client: NodeClient, *, stale: bool = False, waiting: Waiting = AT_ONCE
) -> tuple[Shown, dict[str, list[str]]]:
    """Return the tags of all services by name, as the node shows them and decoded."""
    query = _query(*(["stale"] if stale else []), *waiting.query())
    response = client.exchange("GET", f"/v1/catalog/services{query}")
    return _shown(client, response), client.decoded(response, replies.SERVICE_TAGS)


def own_ids(client: NodeClient) -> list[str]:
    """Return the IDs of the services of the member that is asked."""
    found = client.decoded(client.exchange("GET", "/v1/agent/services"), replies.BY_ID)
    return list(found)


def instances(
    client: NodeClient,
    name: str,
    *,
    is_passing: bool = False,
    tag: str | None = None,
    waiting: Waiting = AT_ONCE,
) -> tuple[Shown, list[InstanceRow]]:
    """Return the instances of a service, as the node shows them and as rows."""
    query = [*(["passing"] if is_passing else []), *([f"tag={_quoted(tag)}"] if tag else [])]
    path = f"/v1/health/service/{path_of(name)}{_query(*query, *waiting.query())}"
    response = client.exchange("GET", path)
    return _shown(client, response), client.decoded(response, replies.INSTANCES)


def checks(
    client: NodeClient, state: str, filter_: str = "", waiting: Waiting = AT_ONCE
) -> tuple[Shown, list[CheckRow]]:
    """Return the checks with one status, or with `any`, as the node shows them and as rows.

    Args:
        client: The node.
        state: `passing`, `warning`, `critical` or `any`.
        filter_: Chooses among them; the index is that of all.
        waiting: What it waits for.
    """
    chosen = [f"filter={_quoted(filter_)}"] if filter_ else []
    path = f"/v1/health/state/{state}{_query(*chosen, *waiting.query())}"
    response = client.exchange("GET", path)
    return _shown(client, response), client.decoded(response, replies.CHECKS)


def _shown(client: NodeClient, response: httpx.Response) -> Shown:
    said = response.headers.get("x-consul-index", "")
    index = int(said) if _NUMBER.fullmatch(said) else 0
    return Shown(index, client.decoded(response, replies.ANYTHING))


def _change(client: NodeClient, path: str, body: bytes | None = None) -> None:
    response = client.exchange("PUT", path, body, is_write=True)
    if response.status_code != 200:
        raise errors.refusal(client.address, response)


def _place(node: str | None) -> list[str]:
    return [f"node={_quoted(node)}"] if node else []


def _query(*parts: str) -> str:
    return f"?{'&'.join(parts)}" if parts else ""


def _quoted(text: str) -> str:
    return quote(text, safe="")
