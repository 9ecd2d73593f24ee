"""The DNS server of each member, asked by packets about the services of the run.

- V9: what it answers is what the member's own state says at that moment, though it keeps whole replies:
  no reply survives a change of what it was made from (contract of services, section 8).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

from hstore.dns.answers import Answers
from hstore.dns.records import Rcode, RRType, name_of
from hstore.dns.view import ClusterView
from hstore.dns.wire import pack_question, parse_reply
from hstore.node.errors import StorageError

from ..options import stream
from .catalogs import NAMES

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_EVERY_S = 0.04
_TAGS = ("", "", "", "a.", "v1.2.")


class Resolvers:
    """Asks the members that run, now one and now another."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self._rng = stream(sim.seed, "resolvers")
        self._answers: dict[int, Answers] = {}

    def follow(self, member: SimMember) -> None:
        """A life of a member begins: it gets a DNS server."""
        if not self.sim.options.registrars:
            return
        rng = Random(f"{self.sim.seed}/dns/{member.id}/{member.lives}")
        answers = Answers(rng, member.node.dns_lookup())

        def show(view: ClusterView | None) -> None:
            answers.view = view

        member.node.status.on_view = show
        self._answers[member.id] = answers

    async def run(self) -> None:
        """Ask again and again, until the run is over."""
        rng = self._rng
        while self.sim.options.registrars:
            await trio.sleep(rng.expovariate(1 / _EVERY_S))
            up = [member for member in self.sim.members.values() if member.is_up]
            if up:
                try:
                    self.ask(rng.choice(up), rng.choice(NAMES), rng.choice(_TAGS))
                except StorageError:
                    self.sim.counts["DNS asked of a disk that fails"] += 1

    def ask(self, member: SimMember, name: str, tag: str = "") -> set[int] | None:
        """Ask a member for the ports of a service, and judge the answer; None: it knows no cluster yet.

        Raises:
            StorageError: Its disk fails.
        """
        answers, settings = self._answers[member.id], member.node.replica.state.settings
        if answers.view is None:
            return None
        answers.note_age()
        packet = pack_question(name_of(f"{tag}{name}.service.{settings.zone}"), RRType.SRV, 0)
        kept = answers.known.get(packet[2:])
        reply = packet[:2] + kept[0][0] if kept else answers.reply(packet)
        if not isinstance(reply, bytes):
            self.sim.fail(f"V9: node {member.id} has no reply for {tag}{name}")
            return None
        found = parse_reply(reply)
        is_kept = " from what it keeps" if kept else ""
        self.sim.counts[f"DNS asked{is_kept}"] += 1
        if found.rcode == Rcode.SERVFAIL:
            return None  # Without contact for too long.
        ports = {int(record.rdata.port) for record in found.answers}  # type: ignore[union-attr]
        there, shown = self._expected(member, name, tag.removesuffix("."))
        is_missing = not there or (not shown and settings.dns_empty == "nxdomain")
        rcode = Rcode.NXDOMAIN if is_missing else Rcode.NOERROR
        if ports != shown or found.rcode != rcode:
            applied = member.node.keys.applied_index
            self.sim.fail(
                f"V9: node {member.id} at {applied} answers {tag}{name} by {found.rcode} and "
                f"{sorted(ports)}{is_kept}; its state says {rcode} and {sorted(shown)}"
            )
        return ports

    def _expected(self, member: SimMember, name: str, tag: str) -> tuple[set[int], set[int]]:
        """Return the ports of all instances, and of those that DNS shows."""
        bad = {"critical"}
        if member.node.replica.state.settings.dns_only_passing:
            bad.add("warning")
        there, shown = set(), set()
        reader = member.node.keys.view()
        try:
            for node, service in reader.instances(name.encode()):
                if tag and tag not in service.tags:
                    continue
                there.add(service.port)
                checks = [*reader.node_checks(node.number), *reader.service_checks(service)]
                if not any(check.status in bad for check in checks):
                    shown.add(service.port)
        finally:
            reader.close()
        return there, shown
