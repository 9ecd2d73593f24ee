"""What DNS answers about services cost while services change: `python -m tests.bench.dns_services`.

Without sockets, in one process, by its processor time, the best of several runs: 50,000 instances
under 10,000 names, of which so many are asked for at random, A and SRV in turns, while so many
instances change a second. Beside it what one change cost when every change was a new view of the
whole: the zone is built for a part of the instances, since for all it takes minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hstore.dns.answers import Answers
from hstore.dns.records import RRType, name_of
from hstore.dns.view import ClusterView, Member
from hstore.dns.wire import pack_question
from hstore.dns.zone import build_zone
from tests.fakes.lookup import FakeLookup, instance

NAMES = 10_000
INSTANCES = 5
CHANGES_PER_S = 1_000
RUNS = 5
SECONDS = 2.0
WHOLE = 1_000
BATCH = 64


@dataclass(frozen=True, slots=True)
class Found:
    """One run: answers a second of processor time, and the longest answer in milliseconds."""

    per_second: float
    longest_ms: float


def name_of_service(number: int) -> bytes:
    """The name of one of the services."""
    return b"svc-%05d" % number


def instances_of(number: int, *, moved: int = 0) -> list[object]:
    """The instances of a service; another `moved` gives one of them another port."""
    found = [instance(INSTANCES * number + one) for one in range(1, INSTANCES + 1)]
    return [found[0]._replace(port=9000 + moved % 1000), *found[1:]]


def registered() -> FakeLookup:
    """All services."""
    lookup = FakeLookup()
    for number in range(NAMES):
        lookup.put(name_of_service(number), instances_of(number))  # type: ignore[arg-type]
    return lookup


def questions(names: int) -> list[bytes]:
    """Queries with EDNS for the first services, A and SRV, in a random order."""
    packets = [
        pack_question(name_of(f"{name_of_service(number).decode()}.service.hstore.local"), rtype, 1)
        for number in range(names)
        for rtype in (RRType.A, RRType.SRV)
    ]
    random.Random(1).shuffle(packets)
    return packets


def run(answers: Answers, lookup: FakeLookup, packets: list[bytes], per_s: int) -> Found:
    """Answer for a while as the server does, by the batch, while instances change."""
    rng = random.Random(2)
    known, draw, clock = answers.known, answers.draw, time.process_time
    asked = random.Random(3).choices(packets, k=200_000)
    count, changed, longest = 0, 0, 0.0
    start = now = clock()
    while now - start < SECONDS:
        while changed < (now - start) * per_s:
            number = rng.randrange(NAMES)
            lookup.put(name_of_service(number), instances_of(number, moved=changed))  # type: ignore[arg-type]
            changed += 1
        at = count % (len(asked) - BATCH)
        for packet in asked[at : at + BATCH]:
            found = known.get(packet[2:])
            if found is None:
                answers.reply(packet)
            else:
                whole, replied = found
                replied.n += 1
                packet[:2] + whole[int(draw() * len(whole))]
        count += BATCH
        before, now = now, clock()
        longest = max(longest, now - before)
    return Found(count / (now - start), longest * 1000)


def rows(lookup: FakeLookup) -> Iterator[tuple[str, Found]]:
    """Each load once at rest and once while services change; best of several runs."""
    for names in (NAMES // 10, NAMES):
        packets = questions(names)
        for per_s in (0, CHANGES_PER_S):
            answers = Answers(random.Random(1), lookup)
            answers.view = view(3)
            for packet in packets * 2:
                answers.reply(packet)
            found = [run(answers, lookup, packets, per_s) for _ in range(RUNS)]
            best = max(found, key=lambda one: one.per_second)
            yield f"{names:,} names asked, {per_s:,} changes/s", best


def view(members: int) -> ClusterView:
    """A cluster of so many members."""
    return ClusterView(
        "hstore.local",
        1,
        1,
        7,
        "n1",
        "n1",
        tuple(
            Member(
                f"n{i}", f"{i:016x}", f"10.0.{i >> 8}.{i & 255}", 8500, 8300, live=True, voter=True
            )
            for i in range(1, members + 1)
        ),
    )


def resident_mib() -> float:
    """Memory of this process (proc(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Measure and print."""
    start = time.process_time()
    build_zone(view(WHOLE))
    whole_s = time.process_time() - start
    print(
        f"before: one change is a new view, and for {WHOLE:,} instances that takes {whole_s:.2f} s"
    )
    lookup = registered()
    before = resident_mib()
    print(
        f"after: {NAMES * INSTANCES:,} instances under {NAMES:,} names, by processor time, best of {RUNS}"
    )
    for what, found in rows(lookup):
        print(
            f"{what:36} {found.per_second:9,.0f} answers/s"
            f"   longest batch of {BATCH} {found.longest_ms:6.2f} ms"
        )
    print(f"memory of what is kept: {resident_mib() - before:.0f} MiB")


if __name__ == "__main__":
    main()
