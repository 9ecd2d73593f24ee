"""A newcomer's side of joining: prove that it is an hstore cluster, then ask to be let in.

Blocking, over HTTP, before the node runs: there is nothing else it could do meanwhile.
"""

from __future__ import annotations

import time

import httpx
import msgspec

from ..config.settings import NodeSettings
from ..errors import NoLeader, Refused, Unavailable
from ..model.cluster_info import PROTOCOL, ClusterInfo, JoinReply, JoinRequest
from ..model.plain import plain
from ..model.values import is_address
from ..net.bounded import Budget, bounded
from ..peers.greeting import is_cluster_id
from ..raft.membership import MEMBERS_MAX
from ..storage.interface import Identity

_TIMEOUT_SECONDS = 10.0
"""For one request; the cluster may be electing a leader just now."""

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.3

_ERROR_MAX = 2000
"""Characters of a member's error that are shown."""

_PATIENCE_SECONDS = 4.0
"""After that no further attempt is made: each may itself take the time that a member gives it."""


def find_cluster(addresses: tuple[str, ...]) -> str:
    """Return the id of the cluster that the first of these members to answer belongs to.

    Raises:
        Refused: What answers is no hstore node, or one whose nodes this one could not talk to.
        NoLeader: No member answers.
    """
    tried = []
    for address in addresses:
        try:
            answer = request("GET", f"http://{address}/v1/cluster")
            info = msgspec.json.decode(answer.content, type=ClusterInfo)
        except httpx.TransportError as error:
            tried.append(f"{address}: {plain(str(error))}")
            continue
        except (msgspec.MsgspecError, ValueError):
            raise _no_node(address) from None
        _check_protocol(address, answer)
        if not is_cluster_id(info.cluster_id):
            raise _no_node(address)
        return info.cluster_id
    raise NoLeader(f"no member answers ({'; '.join(tried)}): is the address right?")


def _no_node(address: str) -> Refused:
    return Refused(f"{address} is not an hstore node: what answers there does not know /v1/cluster")


def _check_protocol(address: str, answer: httpx.Response) -> None:
    """Refuse to begin what the leader, or each peer's hello, would refuse only later."""
    theirs = answer.headers.get("X-Hstore-Protocol", str(PROTOCOL))
    if theirs != str(PROTOCOL):
        raise Refused(
            f"the cluster at {address} speaks version {plain(theirs[:20])} of the protocol between nodes,"
            f" this hstore version {PROTOCOL}: install the version of hstore that the cluster runs"
        )


def ask_to_join(
    settings: NodeSettings, identity: Identity, addresses: tuple[str, ...]
) -> dict[int, str]:
    """Ask to become a member, and return the members' peer addresses by id.

    Asking again is safe: a member is known by its id.

    Raises:
        Refused: The cluster does not want this node; the message says why.
        NoLeader: The cluster cannot decide now, or no member answers.
    """
    newcomer = msgspec.json.encode(
        JoinRequest(
            id=f"{identity.node_id:016x}",
            address=settings.api_address,
            peer_address=settings.peer_address,
            dns_address=settings.dns_address,
            protocol=PROTOCOL,
            name=settings.name,
            learner=settings.learner,
            replace=settings.replace,
            cluster_id=identity.cluster_id,
        )
    )
    begun = time.monotonic()
    silent = said = pending = ""
    for attempt in range(_ATTEMPTS):
        for address in addresses:
            try:
                answer = request("POST", f"http://{address}/v1/cluster/join", newcomer)
            except httpx.TransportError as error:
                silent = f"{address}: {plain(str(error))}; is it running?"
                if isinstance(error, httpx.ReadTimeout):
                    # It has the request, and will find it there when it can go on.
                    pending = f"; {address} may do so yet: repeat the command, or let it leave"
                continue
            if answer.status_code == 200:
                return _members_in(address, answer.content)
            if answer.status_code != Unavailable.http_status:
                raise Refused(_error_of(answer))
            said = f"{address} answers: {_error_of(answer)}"
        if attempt == _ATTEMPTS - 1 or time.monotonic() - begun > _PATIENCE_SECONDS:
            break
        time.sleep(_PAUSE_SECONDS)  # noqa: TID251 - no event loop runs yet
    # Why a member cannot help says more than that another one is down.
    raise NoLeader(f"the cluster could not take the node in: {said or silent}{pending}")


def _members_in(address: str, content: bytes) -> dict[int, str]:
    """Return the members' peer addresses by id, out of the reply to a newcomer."""
    try:
        peers = msgspec.json.decode(content, type=JoinReply).peers
    except (msgspec.MsgspecError, ValueError):
        raise _no_node(address) from None
    if len(peers) > MEMBERS_MAX or not all(
        is_cluster_id(node) and is_address(at) for node, at in peers.items()
    ):
        raise _no_node(address)
    return {int(node, 16): at for node, at in peers.items()}


def request(
    method: str, url: str, content: bytes | None = None, within_s: float = _TIMEOUT_SECONDS
) -> httpx.Response:
    """Ask another node, and return its answer when it is there in whole (`net/bounded.py`).

    Raises:
        httpx.TransportError: It does not answer, or not within `within_s` seconds in all, or with
            more than any node does.
    """
    budget = Budget()
    budget.begin(within_s)
    transport = bounded(httpx.HTTPTransport(verify=False), budget)
    with httpx.Client(transport=transport, timeout=within_s, trust_env=False) as client:
        with client.stream(
            method, url, content=content, headers={"Content-Type": "application/json"}
        ) as answer:
            if "content-encoding" in answer.headers:
                # No node compresses, and few bytes could become endlessly many.
                raise httpx.ReadError("the answer is compressed")
            answer.read()
            return answer


def _error_of(answer: httpx.Response) -> str:
    try:
        return plain(msgspec.json.decode(answer.content, type=dict[str, str])["error"][:_ERROR_MAX])
    except (msgspec.MsgspecError, KeyError, ValueError):
        return f"status {answer.status_code}"
