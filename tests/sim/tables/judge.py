"""Holds real state machines against the book: what they answer, what they tell, whom they wake.

- K1: an entry has the outcome that the contract gives it, and leaves the tables so: no lock has two
  holders, `LockIndex` of a key never falls, a transaction is all or nothing, an event is there once
  and in its place.
- K2: the index of one question is that of its last change, or the floor; it never falls, and is the
  same on every node that has come so far, over restarts, snapshots and forgotten deletions; so is
  the `LockIndex` of a key.
- K3: who waits for a question is woken when its result changes, and when a snapshot is installed.
- K4: all that one entry changed is told together: every change but the last says that there is more.
- K5: what a node holds in memory of the catalog is what its records say, and they belong together:
  whatever has a node or a service in it goes with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from hstore.node.errors import Compacted
from hstore.node.model.commands import Denial, Outcome
from hstore.node.raft.entry import Entry
from hstore.node.state.machine import Reader, State
from hstore.node.state.watching.changes import EVENTS, KEYS, NODE_SESSIONS, SESSIONS, Table
from hstore.node.state.watching.waits import Wait
from hstore.node.state.watching.watches import Watch, Watches

from . import catalog, catalog_judge
from .book import Book
from .page import Page

Question = tuple[str, bytes]
"""What is asked about: `key`, `tree` or `session` with its name, `node` with its number (its sessions),
`sessions`, `events`, and the questions of `catalog.py`."""

_DENIALS = (
    Denial.LIMIT,
    Denial.NO_NODE,
    Denial.NO_SERVICE,
    Denial.NO_CHECK,
    Denial.MEMBER,
    Denial.PROTECTED,
    Denial.NO_SERVICE_OF_CHECK,
)

TREES = (b"", b"k", b"k1", b"k1/", b"k2/", b"x")

_TURNS = 5
"""An answer that should not have changed is looked at once in so many looks."""

_LOOKS_EVERY = 3
"""Batches between two looks at a node: looking costs as much as all the rest of a run."""


class Judge:
    """What nodes of one run have shown, and the book that it is held against.

    Args:
        fail: Called with what is wrong.
        counts: Of the run.
        deletions_max: How many deletions a table of these nodes keeps.
    """

    def __init__(
        self, fail: Callable[[str], None], counts: Counter[str], deletions_max: int
    ) -> None:
        self.book = Book()
        self.counts = counts
        self.fail = fail
        self.deletions_max = deletions_max
        self._shown: dict[tuple[int, Question], int] = {}
        self._newest: dict[Question, tuple[int, int]] = {}
        self._locks: dict[tuple[int, bytes], int] = {}
        self._newest_locks: dict[bytes, tuple[int, int]] = {}
        self._looks = 0
        self._looked_at: dict[object, int] = {}

    def applied(self, who: object, entry: Entry, outcome: Outcome | None) -> None:
        """A node has applied an entry."""
        book = self.book
        if entry.index > book.last.index:
            if entry.index != book.last.index + 1:
                # A node died while it wrote what it had told nobody of, and no other node had it.
                self.counts["books that have come to their end"] += 1
                book.close(entry.index)
                return
            wrong = book.write(entry, outcome)
            if wrong:
                self.fail(f"K1: node {who} at {entry.index}: {wrong}; it says {outcome}")
            if outcome is not None and book.last.is_open:
                self._count(book.pages[-2], book.last, outcome)
        elif book.last.is_open and book.outcomes[entry.index] != outcome:
            self.fail(f"K1: {entry.index} has outcome {outcome}, had {book.outcomes[entry.index]}")

    def _count(self, before: Page, page: Page, outcome: Outcome) -> None:
        """Count what has happened to the catalog."""
        counts = self.counts
        if outcome.denial in _DENIALS:
            counts[f"catalog: refused for {Denial(outcome.denial).name}"] += 1
        if page.indexes.catalog is before.indexes.catalog:
            return
        back = page.names.keys() - before.names.keys()
        known = before.indexes.catalog
        counts["catalog: names back"] += sum(("service", one.encode()) in known for one in back)
        counts["catalog: services made"] += len(page.services.keys() - before.services.keys())
        counts["catalog: services gone"] += len(before.services.keys() - page.services.keys())
        counts["catalog: nodes gone with services"] += page.indexes.cleared == page.index
        counts["catalog: nodes made"] += len(page.externals.keys() - before.externals.keys())

    # -- what a reader sees -----------------------------------------------------------------

    def look(self, who: object, reader: Reader, index: int) -> None:
        """Compare all that a node shows with the page."""
        page = self.book.pages[index]
        if not page.is_open:
            return
        self.counts["tables compared"] += 1
        self._look_at_keys(who, reader, page)
        self._look_at_sessions(who, reader, page)
        events = tuple((event.id, event.index) for event in reader.events())
        if events != page.events:
            self.fail(f"K1: node {who} at {index} shows events {events}, not {page.events}")
        asked = self._asked(who, page)
        differs = catalog_judge.Shown(reader).differs(page, asked)
        if differs:
            self.fail(f"K1: node {who} at {index}: {differs}")
        for question in [*self._questions_of_keys(page), *asked]:
            value, least, most, forgotten = self._index_of(question, reader, page)
            self._check_index(who, page, question, value, (least, most), forgotten)
        found = reader.key_change_index
        if max(found, 1) != max(page.indexes.keys_changed, 1):
            last = page.indexes.keys_changed
            self.fail(f"K2: node {who} at {index}: keys changed at {last}, it says {found}")

    def _look_at_keys(self, who: object, reader: Reader, page: Page) -> None:
        items = {item.key: item for item in reader.scan()}
        if items.keys() != page.keys.keys():
            differ = items.keys() ^ page.keys.keys()
            self.fail(f"K1: node {who} at {page.index} and the book differ in keys {differ}")
            return
        for key, cell in page.keys.items():
            item = items[key]
            told = item.value, item.flags, item.create_revision, item.revision, item.session
            if told != (cell.value, cell.flags, cell.create, cell.modify, cell.session):
                self.fail(f"K1: node {who} at {page.index} has {item}, not {cell}")
            if not cell.least <= item.lock_index <= cell.most:
                self.fail(f"K1: node {who} at {page.index}: LockIndex of {item}, not as {cell}")
            known = self._locks.setdefault((page.index, key), item.lock_index)
            if known != item.lock_index:
                self.fail(f"K2: node {who} at {page.index}: {item}, LockIndex {known} elsewhere")
            at, newest = self._newest_locks.get(key, (0, 0))
            if (item.lock_index < newest) if page.index >= at else (item.lock_index > newest):
                self.fail(f"K1: LockIndex of {item} on {who} at {page.index}, {newest} at {at}")
            if page.index >= at:
                self._newest_locks[key] = page.index, item.lock_index

    def _look_at_sessions(self, who: object, reader: Reader, page: Page) -> None:
        sessions = {session.id: session for session in reader.sessions()}
        if sessions.keys() != page.sessions.keys():
            differ = sessions.keys() ^ page.sessions.keys()
            self.fail(f"K1: node {who} at {page.index} and the book differ in sessions {differ}")
            return
        for session in sessions.values():
            known = page.sessions[session.id]
            names = "name", "node", "behavior", "ttl_ms", "lock_delay_ns", "node_checks"
            if any(getattr(session, name) != getattr(known, name) for name in names):
                self.fail(f"K1: node {who} at {page.index} has {session}, not {known}")

    # -- indexes ----------------------------------------------------------------------------

    def _asked(self, who: object, page: Page) -> list[Question]:
        """Return what is asked about the catalog: what has changed, and of the rest a part in turns."""
        self._looks += 1
        since = self._looked_at.get(who, 0)
        self._looked_at[who] = page.index
        changed_at = page.indexes.catalog
        return [
            question
            for number, question in enumerate(catalog.answers(page))
            if (number + self._looks) % _TURNS == 0 or changed_at.get(question, 0) > since
        ]

    def questions(self, page: Page) -> list[Question]:
        """Return all that can be asked."""
        return [*self._questions_of_keys(page), *catalog.answers(page)]

    def _questions_of_keys(self, page: Page) -> list[Question]:
        return [
            *(("key", key) for key in page.indexes.wrote_at),
            *(("tree", prefix) for prefix in TREES),
            *(("session", session) for session in page.indexes.sessions),
            *(("node", b"%d" % node) for node in page.indexes.lists if node is not None),
            ("sessions", b""),
            ("events", b""),
        ]

    def _index_of(
        self, question: Question, reader: Reader, page: Page
    ) -> tuple[int, int, int, Sequence[int]]:
        """Return what a node says, and between what it must be, unless it is one of the last."""
        kind, what = question
        indexes = page.indexes
        gone = indexes.forgotten if indexes.count > self.deletions_max else ()
        ends = indexes.ends if len(indexes.ends) > self.deletions_max else ()
        if kind == "key":
            item = reader.get(what)
            if item is not None:
                return item.revision, page.keys[what].modify, page.keys[what].modify, ()
            return reader.absent_index(what), *indexes.of_absent(what), gone
        if kind == "tree":
            there = max((item.revision for item in reader.scan(what)), default=0)
            return max(there, reader.tree_index(what), 1), *indexes.of_tree(what), gone
        if kind == "session":
            own = indexes.sessions[what]
            return reader.session_index(what), own, max(own, indexes.members), ends
        if kind == "events":
            return reader.events_index(), indexes.events, indexes.events, ()
        if kind in catalog_judge.KINDS:
            least, most = catalog.between(question, page)
            names = catalog.forgotten(question, page, self.deletions_max)
            return catalog_judge.index_of(question, reader), least, most, names
        node = int(what) if kind == "node" else None
        own = indexes.lists.get(node, 0)
        # A list also shows the names of nodes.
        return reader.sessions_index(node), own, max(own, indexes.members), ends

    def _check_index(
        self,
        who: object,
        page: Page,
        question: Question,
        value: int,
        between: tuple[int, int],
        forgotten: Sequence[int],
    ) -> None:
        least, most = max(between[0], 1), max(between[1], 1)
        kind, what = question
        about = f"node {who} at {page.index}: index of {kind} {what!r}"
        if value < least or (value > most and value not in forgotten):
            self.fail(f"K2: {about} is {value}, not {least} to {most} or of {forgotten[-9:]}")
        if value > most:
            self.counts["indexes that are the floor"] += 1
        known = self._shown.setdefault((page.index, question), value)
        if known != value:
            self.fail(f"K2: {about} is {value}, and was {known} elsewhere")
        at, newest = self._newest.get(question, (0, 0))
        if (value < newest) if page.index >= at else (value > newest):
            self.fail(f"K2: {about} is {value}, {newest} at {at}")
        if page.index >= at:
            self._newest[question] = page.index, value

    def changed_at(self, question: Question, page: Page) -> int:
        """Return the last index at which the index of a question's result rose."""
        kind, what = question
        indexes = page.indexes
        if kind == "key":
            return indexes.of_absent(what)[1]
        if kind == "tree":
            return indexes.of_tree(what)[1]
        if kind == "session":
            return indexes.sessions.get(what, 0)
        if kind == "events":
            return indexes.events
        if kind in catalog_judge.KINDS:
            return catalog.between(question, page)[0]
        return indexes.lists.get(int(what) if kind == "node" else None, 0)


_TABLES: dict[str, tuple[Table, bool]] = {
    "key": (KEYS, False),
    "tree": (KEYS, True),
    "session": (SESSIONS, False),
    "node": (NODE_SESSIONS, False),
    "sessions": (NODE_SESSIONS, True),
    "events": (EVENTS, False),
}


def _targets(question: Question, page: Page) -> Sequence[catalog_judge.Target]:
    kind, what = question
    if kind in catalog_judge.KINDS:
        return catalog_judge.targets(question, page)
    table, is_prefix = _TABLES[kind]
    key = int(what).to_bytes(8, "big") if kind == "node" else what
    return ((table, key, is_prefix),)


class Onlooker:
    """Who waits and watches at one life of one node.

    Attributes:
        who: The node.
    """

    def __init__(self, judge: Judge, who: object, state: State) -> None:
        self.judge = judge
        self.who = who
        self._state = state
        self._watches = Watches(state.history)
        self._told_to = state.applied
        self._batches = 0
        self._catalog: object = None
        self._waits: dict[Question, tuple[int, list[bool], list[Wait]]] = {}
        self._watch: Watch = self._watches.open(b"", None)

    def look(self, *, is_new: bool = False) -> None:
        """The node has applied something, or (`is_new`) has a state that came from elsewhere."""
        judge, state = self.judge, self._state
        self._batches += 1
        if self._batches % _LOOKS_EVERY and not is_new:
            return
        page = judge.book.pages[state.applied]
        reader = state.view()
        try:
            judge.look(self.who, reader, state.applied)
        finally:
            reader.close()
        if not page.is_open:
            return
        if is_new or self._catalog is not page.indexes.catalog:
            self._catalog = page.indexes.catalog
            apart = catalog_judge.is_apart(state, page)
            if apart:
                judge.fail(f"K5: node {self.who} at {state.applied}: {apart}")
        self._check_waits(page, is_new=is_new)
        self._check_told(state.applied)

    # -- waits ------------------------------------------------------------------------------

    def _check_waits(self, page: Page, *, is_new: bool) -> None:
        judge = self.judge
        for question, (since, is_called, waits) in list(self._waits.items()):
            is_due = is_new or judge.changed_at(question, page) > since
            if is_due and not is_called[0]:
                judge.fail(
                    f"K3: node {self.who} at {page.index} does not wake who waits for {question}"
                )
            if is_called[0]:
                judge.counts["waits woken"] += 1
                judge.counts["waits woken for nothing"] += not is_due
                for wait in waits:
                    wait.give_up()
                del self._waits[question]
        for question in judge.questions(page):
            if question not in self._waits:
                self._wait(question, page)

    def _wait(self, question: Question, page: Page) -> None:
        is_called = [False]

        def call() -> None:
            is_called[0] = True

        waits = [
            self._watches.once(table, key, call, is_prefix=is_prefix)
            for table, key, is_prefix in _targets(question, page)
        ]
        self._waits[question] = page.index, is_called, waits

    # -- watches ----------------------------------------------------------------------------

    def _check_told(self, index: int) -> None:
        told: dict[int, list[tuple[bytes, bool]]] = {}
        try:
            while self._watch.is_behind:
                for change, is_last in self._watch.take():
                    told.setdefault(change.revision, []).append((change.key, is_last))
        except Compacted:
            self.judge.counts["watches that lost their place"] += 1
            self._watch.close()
            self._watch = self._watches.open(b"", None)
            self._told_to = index
            return
        pages = self.judge.book.pages
        for at in range(self._told_to + 1, index + 1):
            found = told.get(at, [])
            expected = set(pages[at].changed)
            if {key for key, _ in found} != expected:
                self.judge.fail(f"K4: node {self.who} tells {found} of {at}, not {expected}")
            lasts = [is_last for _, is_last in found]
            if lasts and lasts != [False] * (len(lasts) - 1) + [True]:
                self.judge.fail(f"K4: node {self.who} tells the changes of {at} apart: {found}")
            self.judge.counts["changes told together"] += len(found) > 1
        self._told_to = index
