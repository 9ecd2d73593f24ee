"""How many UDP replies a network beyond this machine gets: response rate limiting.

The source of a datagram can be forged, so whoever answers them all is a tool to flood others with.
Each network of clients has a token bucket. Beyond it, every second reply is dropped, and the other
one is an empty reply with TC: no longer than its query, and a true client turns to TCP with it,
where sources cannot be forged. So an attacker gains nothing, and a busy client loses little. (BIND
calls this response rate limiting with `slip 2`.)

No sockets and no clock: the caller says who and when.
"""

from __future__ import annotations

import enum
import socket
from collections import OrderedDict

# Replies are at most 1,232 bytes, so a victim gets less than 5 Mbit/s from a node. Clients keep an
# answer for its TTL: a network of 250 machines that ask every second stays below this.
RATE_PER_S = 500
# A machine that starts asks many things at once.
BURST = 1000
# Some 3 MB. Beyond, the network that asked least recently is forgotten, which gives it a full
# bucket: forging ten thousand networks for one burst is a bad trade.
NETWORKS_MAX = 10_000


class Verdict(enum.Enum):
    """What becomes of a reply."""

    SEND = enum.auto()
    TRUNCATE = enum.auto()
    DROP = enum.auto()


class RateLimit:
    """Token buckets by network: /24 of IPv4, /56 of IPv6. This machine has none."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str | bytes, _Bucket] = OrderedDict()

    def judge(self, host: str, now: float) -> Verdict:
        """Count one reply to a client.

        Args:
            host: Its IP literal.
            now: Seconds of a clock that never goes back.
        """
        network = network_of(host)
        if network is None:
            return Verdict.SEND
        bucket = self._buckets.get(network)
        if bucket is None:
            if len(self._buckets) >= NETWORKS_MAX:
                self._buckets.popitem(last=False)
            bucket = self._buckets[network] = _Bucket(now)
        else:
            self._buckets.move_to_end(network)
        return bucket.take(now)


class _Bucket:
    __slots__ = ("_filled_at", "_is_next_dropped", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = float(BURST)
        self._filled_at = now
        self._is_next_dropped = True

    def take(self, now: float) -> Verdict:
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * RATE_PER_S)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return Verdict.SEND
        verdict = Verdict.DROP if self._is_next_dropped else Verdict.TRUNCATE
        self._is_next_dropped = not self._is_next_dropped
        return verdict


def network_of(host: str) -> str | bytes | None:
    """The network that an IP literal belongs to; None for this machine's loopback."""
    if "." in host:
        v4 = host.rpartition(":")[2]  # ::ffff:192.0.2.1 is what a dual socket calls it
        return None if v4.startswith("127.") else v4.rpartition(".")[0]
    if host == "::1":
        return None
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:7]
