"""How many UDP replies a network beyond this machine gets: response rate limiting.

The source of a datagram can be forged, so a server that answers every query can be used to flood
others. Each network of clients has a token bucket. When it is empty, every second reply is dropped,
and the others are empty replies with TC. These are no longer than their queries, and a real client
then asks by TCP, where sources cannot be forged. So an attacker gains nothing, and a busy client loses
little. (BIND calls this response rate limiting with `slip 2`.)

It has no socket and no clock: the caller gives the client and the time.
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
# Some 3 MB. Beyond that, the network that asked least recently is forgotten, so it begins with a full
# bucket again: an attacker would have to forge ten thousand networks for one burst.
NETWORKS_MAX = 10_000


class Verdict(enum.Enum):
    """What to do with a reply."""

    SEND = enum.auto()
    TRUNCATE = enum.auto()
    DROP = enum.auto()


class RateLimit:
    """Token buckets by network: /24 of IPv4, /56 of IPv6. Loopback has none, and no limit."""

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
    """Return the network of an IP literal, as a key; None for loopback.

    The literals come from the kernel, which writes each address in one way. So their text tells
    what `ip_literals.is_loopback` does, in a tenth of its time: this runs once for each datagram.
    """
    if "." in host:
        v4 = host.rpartition(":")[2]  # a socket of both families has ::ffff:192.0.2.1
        return None if v4.startswith("127.") else v4.rpartition(".")[0]
    if host == "::1":
        return None
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:7]
