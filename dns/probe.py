"""One query to one server by one transport, with all details of the result.

For `dns doctor`: UDP and TCP are tried separately, a response code is a result and no error, and the
time is measured. The queries desire recursion, as those of a program's resolver do: some forwarders
refuse others. `client.py` sends them.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from .client import NoAnswer, exchange
from .records import Address, Name, Rcode, RRType

PROBE_S = 2.5
"""For one name at one server: longer than a node holds a question. A forwarder may need a while to
notice that one of its servers is down. glibc waits 5 s, which is too long for a command that a person
waits for."""


@dataclass(frozen=True, slots=True)
class Told:
    """The result of one query.

    Attributes:
        rcode: The response code; None when there was no reply.
        hosts: The addresses in the reply.
        problem: Why there is no reply, in words; empty when there is one.
        truncated: Whether the reply has TC.
        took_s: Seconds until the reply or the timeout.
    """

    rcode: int | None = None
    hosts: frozenset[str] = frozenset()
    problem: str = ""
    truncated: bool = False
    took_s: float = 0.0

    @property
    def said(self) -> str:
        """The result in a word or a few."""
        if self.rcode is None:
            return self.problem
        if self.rcode != Rcode.NOERROR:
            return rcode_name(self.rcode)
        return ", ".join(sorted(self.hosts)) or "no address"


def rcode_name(rcode: int) -> str:
    """Return the name of a response code."""
    try:
        return Rcode(rcode).name
    except ValueError:
        return f"response code {rcode}"


async def addresses(server: tuple[str, int], name: Name, *, over_tcp: bool = False) -> Told:
    """Ask one server for the addresses of a name: A, and AAAA if it has no A.

    It raises no network error, and takes at most `PROBE_S` seconds.

    Cancellation: Leaves nothing behind.
    """
    began = trio.current_time()
    told = Told(problem=f"no answer within {PROBE_S:g} s")
    with trio.move_on_after(PROBE_S):
        for rtype in (RRType.A, RRType.AAAA):
            told = await _ask(server, name, rtype, over_tcp=over_tcp)
            if told.rcode != Rcode.NOERROR or told.hosts or told.truncated:
                break
    took_s = trio.current_time() - began
    return Told(told.rcode, told.hosts, told.problem, told.truncated, took_s)


async def _ask(server: tuple[str, int], name: Name, rtype: RRType, *, over_tcp: bool) -> Told:
    try:
        reply = await exchange(server, name, rtype, over_tcp=over_tcp, is_recursive=True)
    except NoAnswer as error:
        return Told(problem=str(error))
    hosts = frozenset(str(r.rdata.ip) for r in reply.answers if isinstance(r.rdata, Address))
    return Told(reply.rcode, hosts, truncated=reply.truncated)
