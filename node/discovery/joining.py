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
from ..storage.interface import Identity

_TIMEOUT_SECONDS = 10.0
"""For one request; the cluster may be electing a leader just now."""

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.3

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
            answer = _request("GET", f"http://{address}/v1/cluster")
            info = msgspec.json.decode(answer.content, type=ClusterInfo)
        except httpx.TransportError as error:
            tried.append(f"{address}: {error}")
        except msgspec.MsgspecError:
            raise Refused(
                f"{address} is not an hstore node: what answers there does not know /v1/cluster"
            ) from None
        _check_protocol(address, answer)
        return info.cluster_id
    raise NoLeader(f"no member answers ({'; '.join(tried)}): is the address right?")


def _check_protocol(address: str, answer: httpx.Response) -> None:
    """Refuse to begin what the leader, or each peer's hello, would refuse only later."""
    theirs = answer.headers.get("X-Hstore-Protocol", str(PROTOCOL))
    if theirs != str(PROTOCOL):
        raise Refused(
            f"the cluster at {address} speaks version {theirs[:20]} of the protocol between nodes,"
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
    request = msgspec.json.encode(
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
                answer = _request("POST", f"http://{address}/v1/cluster/join", request)
            except httpx.TransportError as error:
                silent = f"{address}: {error}; is it running?"
                if isinstance(error, httpx.ReadTimeout):
                    # It has the request, and will find it there when it can go on.
                    pending = f"; {address} may do so yet: repeat the command, or let it leave"
                continue
            if answer.status_code == 200:
                reply = msgspec.json.decode(answer.content, type=JoinReply)
                return {int(node, 16): at for node, at in reply.peers.items()}
            if answer.status_code != Unavailable.http_status:
                raise Refused(_error_of(answer))
            said = f"{address} answers: {_error_of(answer)}"
        if attempt == _ATTEMPTS - 1 or time.monotonic() - begun > _PATIENCE_SECONDS:
            break
        time.sleep(_PAUSE_SECONDS)  # noqa: TID251 - no event loop runs yet
    # Why a member cannot help says more than that another one is down.
    raise NoLeader(f"the cluster could not take the node in: {said or silent}{pending}")


def _request(method: str, url: str, content: bytes | None = None) -> httpx.Response:
    return httpx.request(
        method,
        url,
        content=content,
        headers={"Content-Type": "application/json"},
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,  # a proxy for the web is no way to a neighbour
    )


def _error_of(answer: httpx.Response) -> str:
    try:
        return str(msgspec.json.decode(answer.content, type=dict[str, str])["error"])
    except (msgspec.MsgspecError, KeyError):
        return f"status {answer.status_code}"
