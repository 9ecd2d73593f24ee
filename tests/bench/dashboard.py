"""The dashboard in Chromium: its first paint, how soon it shows a new leader, what 200 of them cost a node.

Of hstore alone: etcd has no dashboard. A paint is of a profile that has nothing of it, from the request
to the first thing that is drawn. A new leader is shown when its name stands in the page that was open
before, counted from SIGKILL of the old one. An open dashboard is, to its node, one stream and a look at
the timeline every 30 s; 200 of them are plain connections here, so that no browser takes the processor
from the node that is measured.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio
from playwright.sync_api import Browser, Page

from tests.system.cluster import request
from tests.web.browser import CHROMIUM, Opened, chromium, new_context

from .plan import Plan, Rows
from .processes import Failed, cpu_seconds
from .rows import Row, Target
from .systems import Hstore, http

OPEN = 200
_TIMELINE_S = 30.0
_RECEIVED = 65536
_OPEN_S_MAX = 20.0
_LABELS = ("hstore", "")
_MISSING = "chromium is not installed: apt-get install chromium"

PAINT = "dashboard, first paint of a browser that has nothing of it"
NEW_LEADER = "dashboard, SIGKILL of the leader to the new one in an open page"
PROCESSOR = f"{OPEN} open dashboards on one node, what they add to its processor time"
ELECTIONS = f"{OPEN} open dashboards on one node, elections"

TARGETS = (
    Target("first paint of the dashboard", "at most 300 ms", (PAINT,), median=300.0),
    Target(
        f"{OPEN} open dashboards on one node",
        "at most 5 % of a core, and no election",
        (PROCESSOR,),
        median=5.0,
        zero=(ELECTIONS,),
    ),
)

_SHOWN = """
() => { window.shown = new Promise((told, failed) => {
  setTimeout(() => failed(new Error("no new leader was shown within 60 s")), 60000);
  const value = () => document.querySelector('.figure .value').textContent;
  const old = value();
  const look = () => {
    const now = value();
    if (now === old || now === 'none') return;
    watcher.disconnect();
    requestAnimationFrame(() => told(Date.now()));
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.querySelector('.figures'), {subtree: true, childList: true, characterData: true});
}); }
"""
"""The leader is the first of the figures."""


def dashboard(plan: Plan) -> Rows:
    """Measure all of it."""
    with Hstore(plan.folder / "dashboard") as system:
        yield from _streams(system, plan)
        if not CHROMIUM.exists():
            yield from (
                Row(name, "ms", labels=_LABELS, void=_MISSING) for name in (PAINT, NEW_LEADER)
            )
            return
        with chromium() as browser:
            paints = [_paint(browser, system.leader()) for _ in range(plan.pairs)]
            yield Row(PAINT, "ms", tuple(paints), labels=_LABELS)
            shown = [_new_leader(browser, system) for _ in range(plan.outages)]
            yield Row(NEW_LEADER, "ms", tuple(shown), labels=_LABELS)


def _paint(browser: Browser, address: str) -> float:
    with _open(browser, address) as page:
        page.wait_for_selector(".verdict .head")
        painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        return float(page.evaluate(painted))


@contextmanager
def _open(browser: Browser, address: str) -> Iterator[Page]:
    with new_context(browser) as context:
        yield Opened(context, address).go()


def _new_leader(browser: Browser, system: Hstore) -> float:
    leader = system.leader()
    with _open(browser, system.followers()[0]) as page:
        page.wait_for_selector(".figure .value")
        page.evaluate(_SHOWN)
        killed_ms = time.time() * 1000
        system.signal(leader, signal.SIGKILL)
        shown_ms = float(page.evaluate("window.shown"))
    system.wait_end(leader)
    system.start(leader)
    system.wait_healthy()
    return shown_ms - killed_ms


def _streams(system: Hstore, plan: Plan) -> Rows:
    follower, term = system.followers()[0], system.term()
    pid = system.pid(follower)
    rest = _processor_percent(pid, plan.rest_seconds)
    busy = trio.run(_with_dashboards, follower, pid, plan.rest_seconds)
    elections = system.term() - term
    note = f"The node at rest: {rest:.1f} % of a core."
    yield Row(PROCESSOR, "%", (max(busy - rest, 0.0),), labels=_LABELS, note=note)
    yield Row(ELECTIONS, "", (float(elections),), labels=_LABELS)


def _processor_percent(pid: int, seconds: float) -> float:
    used, begun = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)  # noqa: TID251 - the node is to be left alone
    return (cpu_seconds(pid) - used) / (time.monotonic() - begun) * 100


async def _with_dashboards(address: str, pid: int, seconds: float) -> float:
    """Return the percent of a core that a node needs with all of them open."""
    host, port = address.split(":")
    received, are_open = [0] * OPEN, trio.Event()

    async def follow(number: int) -> None:
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(http("GET", address, "/v1/ui/stream"))
            while data := await stream.receive_some(_RECEIVED):
                received[number] += len(data)
                if all(received):
                    are_open.set()
        raise Failed("the node ended a stream")

    async def look() -> None:
        while True:
            await trio.to_thread.run_sync(request, address, "GET", "/v1/timeline")
            await trio.sleep(_TIMELINE_S / OPEN)

    async with trio.open_nursery() as nursery:
        for number in range(OPEN):
            nursery.start_soon(follow, number)
        with trio.fail_after(_OPEN_S_MAX):
            await are_open.wait()
        nursery.start_soon(look)
        used = await trio.to_thread.run_sync(partial(_processor_percent, pid, seconds))
        nursery.cancel_scope.cancel()
    return used
