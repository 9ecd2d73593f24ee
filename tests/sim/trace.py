"""What happened in a run, for a person to read: one line an event, one a message.

A line is: the time in ticks, the node, what it heard, what it became; below it what it sends, and
when that arrives. Nothing of this costs a run that is not traced: methods of the simulator itself
are replaced while one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hstore.node.raft.events import Event, Persisted, Propose, Receive, Tick
from hstore.node.raft.messages import Append, InstallSnapshot, Message

from . import tape as tape_module
from .network import SimNetwork
from .node import SimNode
from .options import TICK

Say = Callable[[str], None]


@contextmanager
def tracing(say: Say) -> Iterator[None]:
    """Say what happens in every run within."""
    replaced: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, around: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        replaced.append((owner, name, original))
        setattr(owner, name, lambda *args: around(original, *args))

    replace(SimNode, "_step", lambda was, node, events: _step(say, was, node, events))
    replace(SimNode, "start", lambda was, node: _start(say, was, node))
    replace(SimNode, "crash", lambda was, node: _crash(say, was, node))
    replace(SimNetwork, "_arrive_at", lambda was, net, *args: _send(say, was, net, *args))
    replace(
        tape_module.Strikes, "_strike_again",
        lambda was, strikes, what: _strike(say, was, strikes, what),
    )  # fmt: skip
    try:
        yield
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)


def _say(say: Say, node: SimNode, text: str) -> None:
    say(f"{node.sim.now / TICK:9.3f}  {node.id:2}  {text}")


def _step(say: Say, was: Any, node: SimNode, events: Sequence[Event]) -> None:
    before = state(node)
    heard = ", ".join(map(describe, events))
    is_quiet = all(type(event) is Tick for event in events)
    if not is_quiet:
        _say(say, node, f"{heard}")
    try:
        was(node, events)
    finally:
        after = state(node)
        if after != before:
            _say(say, node, f"    {'tick: ' if is_quiet else ''}{after}")


def _start(say: Say, was: Any, node: SimNode) -> None:
    was(node)
    _say(say, node, f"starts: {state(node)}")


def _crash(say: Say, was: Any, node: SimNode) -> None:
    unsynced = len(node.disk.unsynced)
    was(node)
    _say(say, node, f"CRASHES with {unsynced} writes not flushed; left is "
         f"{node.disk.image.hard}, log to {node.disk.image.last_index}")  # fmt: skip


def _send(say: Say, was: Any, network: SimNetwork, parcel: Any, delay: int) -> None:
    was(network, parcel, delay)
    message = parcel[0]
    now = network.sim.now
    say(f"{now / TICK:9.3f}  {message.frm:2}      to {message.to}, arrives {(now + delay) / TICK:.3f}: "
        f"{describe_message(message)}")  # fmt: skip


def _strike(say: Say, was: Any, strikes: Any, what: Any) -> None:
    say(f"{strikes.sim.now / TICK:9.3f}   *  {strikes.name.upper()} {what}")
    was(strikes, what)


def state(node: SimNode) -> str:
    """Return what a node is now."""
    core = node.core
    if core is None:
        return "down"
    log = core.log
    config = core.config
    outgoing = f" from {config.outgoing}" if config.outgoing else ""
    learners = f" learners {config.learners}" if config.learners else ""
    return (
        f"{core.role.value} t{core.term} vote {core.vote} leader {core.leader} "
        f"log {log.snapshot_index}..{log.last_index}/t{log.last_term} durable {log.persisted} "
        f"commit {log.commit} applied {log.applied} voters {config.voters}{outgoing}{learners}"
    )


def describe(event: Event) -> str:
    """Return an event in a few words."""
    if isinstance(event, Receive):
        return f"hears {event.message.frm}: {describe_message(event.message)}"
    if isinstance(event, Propose):
        return f"is asked to write {[rid for rid, _ in event.items]}"
    if isinstance(event, Persisted):
        return f"write {event.seq} is durable"
    return repr(event)


def describe_message(message: Message) -> str:
    """Return a message in a few words."""
    if isinstance(message, Append):
        entries = " ".join(f"{entry.index}/t{entry.term}" for entry in message.entries)
        return (
            f"Append t{message.term} after {message.prev_index}/t{message.prev_term} "
            f"[{entries}] commit {message.commit}"
        )
    if isinstance(message, InstallSnapshot):
        return f"InstallSnapshot t{message.term} {message.meta}"
    fields = {
        name: getattr(message, name)
        for name in message.__struct_fields__
        if name not in ("frm", "to")
    }
    inside = " ".join(
        f"{name}={value}" for name, value in fields.items() if value not in (0, False)
    )
    return f"{type(message).__name__} {inside}"
