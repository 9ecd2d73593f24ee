"""Readers of the state as of one moment: all that clients read, and the index of each answer.

Owns which index belongs to which answer (contract of services, section 2.3), and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..model.checks import Check
from ..model.locks import Session
from ..model.services import Service
from ..model.user_events import UserEvent
from ..storage.interface import StateReader
from . import records
from .batch import Values
from .catalog.browsing import Browse
from .catalog.reader import CatalogNode, CatalogView, Instance
from .kv.deletions import DELETIONS
from .kv.holds import HOLDS
from .records import Item
from .sessions import SESSION_NODES
from .user_events import EVENT_INDEXES
from .watching.changes import KEYS, SESSIONS


class KeyReader(Protocol):
    """The users' keys as of one moment."""

    def get(self, key: bytes) -> Item | None:
        """Return what is stored under `key`, or None."""
        ...

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[Item]:
        """Iterate over the keys that start with `prefix` and are greater than `after`, in order.

        Holds the GIL for each step: a caller that iterates far yields to the loop every N keys.
        """
        ...

    def close(self) -> None:
        """Give the view up. Idempotent; iterating after it is an error."""
        ...


class Reader(KeyReader, Protocol):
    """All that clients read, as of one moment.

    Of one question an index is never lower than one given before on any node, and at least 1.
    """

    @property
    def key_change_index(self) -> int:
        """The last index that changed any key."""
        ...

    def absent_index(self, key: bytes) -> int:
        """Return the index of a key that does not exist: that of its kept deletion, else the floor."""
        ...

    def tree_index(self, prefix: bytes) -> int:
        """Return the greatest index of kept deletions that overlap `prefix`, and of the floor."""
        ...

    def session(self, session_id: bytes) -> Session | None:
        """Return a session, or None."""
        ...

    def sessions(
        self, node: int | None = None, after: tuple[int, bytes] | None = None
    ) -> Iterator[Session]:
        """Iterate over the sessions, those of one node or all, in the order of node and id.

        Args:
            node: Only those of the node with this number.
            after: Of all, only those behind this node and id.
        """
        ...

    @property
    def session_count(self) -> int:
        """How many sessions there are; one may have gone or come meanwhile."""
        ...

    def keys_of_session(self, session_id: bytes) -> list[bytes]:
        """Return the keys that a session holds now, in order."""
        ...

    def session_index(self, session_id: bytes) -> int:
        """Return the index of the answer about one session, which need not exist."""
        ...

    def sessions_index(self, node: int | None = None) -> int:
        """Return the index of the list of sessions, those of one node or all."""
        ...

    def nodes_of_sessions(self) -> frozenset[int]:
        """Return the numbers of the nodes that have a session; one may have gone meanwhile."""
        ...

    def nodes_index(self) -> int:
        """Return the index of the list of the catalog's nodes."""
        ...

    def checks(self, node: int) -> Iterator[Check]:
        """Iterate over the checks of a node, by id."""
        ...

    def catalog_nodes(self) -> list[CatalogNode]:
        """Return all nodes of the catalog, members or not, by name, bytewise."""
        ...

    def catalog_node(self, text: str) -> CatalogNode | None:
        """Return the node with this name, without regard to case, or this UUID; or None."""
        ...

    def node_by_number(self, number: int) -> CatalogNode | None:
        """Return the node with this catalog number, or None."""
        ...

    def instances(self, folded: bytes) -> list[Instance]:
        """Return the instances of a service, by name of the node and then by ID, bytewise.

        Those of `consul` are made from the members. The caller folds the name (`catalog_records.fold`).
        """
        ...

    def each_instance(self, folded: bytes) -> Iterator[Instance]:
        """Iterate over the instances of a service, as `instances`; each is read when it is its turn.

        Which there are is settled at the call.
        """
        ...

    def service_name(self, folded: bytes) -> str:
        """Return the name of a service as its first instance wrote it; empty: it has no instance."""
        ...

    def browse(self) -> Browse:
        """Return a look at services by pages, from what is in memory: as of now, not of the view."""
        ...

    def services_of(self, number: int) -> Iterator[Service]:
        """Iterate over the services of a node, by ID; without `consul`."""
        ...

    def service(self, number: int, service_id: str) -> Service | None:
        """Return a service of a node by its ID, or None."""
        ...

    def counts(self, number: int) -> tuple[int, int]:
        """Return how many services and checks are registered on a node, as of now."""
        ...

    def node_checks(self, number: int, most: int | None = None) -> list[Check]:
        """Return the checks of a node that belong to no service, by ID; at most `most` of them."""
        ...

    def service_checks(self, service: Service) -> list[Check]:
        """Return the checks of a service, by ID."""
        ...

    def every_check(self) -> Iterator[Check]:
        """Iterate over all checks of all nodes, by number of the node and ID."""
        ...

    def service_set(self) -> list[tuple[str, list[str]]]:
        """Return the names of all services, `consul` among them, each with its tags; all sorted."""
        ...

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service, which need not exist."""
        ...

    def service_set_index(self, *, is_narrowed: bool) -> int:
        """Return the index of the names of all services; `is_narrowed`: by nodes or by a filter."""
        ...

    def catalog_node_index(self, text: str) -> int:
        """Return the index of the answer about one node and its services; it need not exist."""
        ...

    def node_health_index(self, text: str) -> int:
        """Return the index of the checks of one node, which need not exist."""
        ...

    def check_states_index(self, state: str) -> int:
        """Return the index of the checks with one status, or with `any`; of another word it is 1."""
        ...

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service; of `consul`: members."""
        ...

    def events(self) -> Iterator[UserEvent]:
        """Iterate over the events of users that are kept, oldest first."""
        ...

    def events_index(self) -> int:
        """Return the index of the list of those events."""
        ...


class View(CatalogView):
    """A `Reader` on a view of the store.

    Deletions are looked up in the memory of the state, which goes on. What it knows of later ones
    counts as of this moment: never too low for what will be answered later, and so high at most that
    who waits for more sees every change from here on.

    Args:
        view: Of the store; closed with this one.
        values: What tables hold in memory, as of the same moment.
        applied: Index of the last entry that had taken effect.
    """

    def __init__(self, view: StateReader, values: Values, applied: int) -> None:
        super().__init__(view, values, applied)

    def get(self, key: bytes) -> Item | None:
        """Return what is stored under `key`, or None."""
        record = self._view.get(records.USER + key)
        return None if record is None else records.decode_item(key, record)

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[Item]:
        """Iterate over the keys that start with `prefix` and are greater than `after`, in order."""
        start = prefix if after is None else max(prefix, after + b"\0")
        end = records.prefix_end(records.USER + prefix)
        # Not a generator, which would hold each record until the next one is asked for.
        return map(_item, self._view.scan(records.USER + start, end))

    def close(self) -> None:
        """Give the view up."""
        self._view.close()

    @property
    def key_change_index(self) -> int:
        """The last index that changed any key."""
        record = self._view.get(records.KEY_CHANGE_KEY)
        if record is None and any(True for _ in self.scan()):
            return self._applied  # A directory of before it was kept: no change is later.
        return records.decode_index(record, 1)

    def absent_index(self, key: bytes) -> int:
        """Return the index of a key that does not exist."""
        return self._as_of_now(self._values[DELETIONS].of(KEYS).key_index(key))

    def tree_index(self, prefix: bytes) -> int:
        """Return the greatest index of kept deletions that overlap `prefix`, and of the floor."""
        return self._as_of_now(self._values[DELETIONS].of(KEYS).tree_index(prefix))

    def session(self, session_id: bytes) -> Session | None:
        """Return a session, or None."""
        return find_session(self._view.get, session_id)

    def sessions(
        self, node: int | None = None, after: tuple[int, bytes] | None = None
    ) -> Iterator[Session]:
        """Iterate over the sessions, those of one node or all, in the order of node and id."""
        start = records.SESSION if node is None else records.id_key(records.SESSION, node)
        end = records.prefix_end(start)
        if after is not None:
            # Nothing is between a key and the same with a zero behind it.
            start = records.session_key(*after) + b"\0"
        found = self._view.scan(start, end)
        return (records.decode_session(record) for _, record in found)

    @property
    def session_count(self) -> int:
        """How many sessions there are."""
        return len(self._values[SESSION_NODES])

    def keys_of_session(self, session_id: bytes) -> list[bytes]:
        """Return the keys that a session holds now, in order."""
        found: list[bytes] = self._values[HOLDS].keys(session_id)
        return found

    def session_index(self, session_id: bytes) -> int:
        """Return the index of the answer about one session, which need not exist."""
        session = self.session(session_id)
        if session is not None:
            return session.modify_index
        return self._as_of_now(self._values[DELETIONS].of(SESSIONS).key_index(session_id))

    def sessions_index(self, node: int | None = None) -> int:
        """Return the index of the list of sessions, those of one node or all."""
        if node is None:
            return self._index(records.SESSIONS_CHANGE_KEY)
        return self._index(records.NODE_SESSIONS_CHANGE + records.encode_index(node))

    def nodes_of_sessions(self) -> frozenset[int]:
        """Return the numbers of the nodes that have a session."""
        known: dict[bytes, int] = self._values[SESSION_NODES]
        return frozenset(known.values())

    def events(self) -> Iterator[UserEvent]:
        """Iterate over the events of users that are kept, oldest first."""
        found = self._view.scan(records.EVENT, records.EVENT_END)
        return (records.decode_event(record) for _, record in found)

    def events_index(self) -> int:
        """Return the index of the list of those events."""
        indexes: tuple[int, ...] = self._values[EVENT_INDEXES]
        return indexes[-1] if indexes else 1


def find_session(get: Callable[[bytes], bytes | None], session_id: bytes) -> Session | None:
    """Return a session, or None; `get` reads a record."""
    node = get(records.SESSION_NODE + session_id)
    if node is None:
        return None
    record = get(records.session_key(records.decode_index(node), session_id))
    return None if record is None else records.decode_session(record)


def _item(pair: tuple[bytes, bytes]) -> Item:
    key, record = pair
    return records.decode_item(key[1:], record)
