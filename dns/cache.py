"""Replies that are kept until something that they depend on changes.

Owns what is kept, for how long, and how much of it. What a reply says is decided elsewhere.

Theory of operation: `compiled` has answers by question, and `known` has whole replies by the bytes of
a query. An answer about registered services names the keys that it depends on (`lookup.py`), and
knows which queries in `known` were answered from it. So a change finds its answers by key and their
replies by query, and touches nothing else. Answers about the cluster itself have no keys: they go
when the cluster changes, with everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from .compiled import Compiled
from .counts import Count
from .lookup import Key
from .message import HEADER_SIZE

COMPILED_MAX = 4096
"""Answers about the cluster: enough for every name and type of a hundred members. A flood of unusual
types empties the cache, which costs a tenth of a millisecond for each name that is really asked for."""
SERVICES_SIZE_MAX = 16 << 20
"""Bytes of answers about services: some 10,000 of five instances."""
KNOWN_MAX = 8192
KNOWN_SIZE_MAX = 16 << 20
"""Bytes of whole replies: the addresses and ports of some 2,000 services of five instances."""

# The oldest ones make room together: to find them, those that went before are passed over. They take
# less than a millisecond.
_FORGOTTEN_AT_ONCE = 64

# Two dictionary entries, a tuple and so on, beside the bytes that an answer or a reply has.
_ANSWER_SIZE = 1024
_QUERY_SIZE = 256
_REPLY_SIZE = 41


class Cache:
    """The answers and replies of one server.

    Attributes:
        compiled: Question in lower case, as in a query -> answer. Only read elsewhere.
        known: UDP query without its id -> equally good replies without theirs, and what counts them.
            A reply is complete with the query's id before it. Only read elsewhere.
    """

    def __init__(self) -> None:
        self.compiled: dict[bytes, Compiled] = {}
        self.known: dict[bytes, tuple[tuple[bytes, ...], Count]] = {}
        # Dictionaries of bytes alone cost the collector of cycles nothing, which sets do.
        self._uses: dict[Key, dict[bytes, None]] = {}
        self._of_cluster = 0
        self._services_size = 0
        self._known_size = 0

    def clear(self) -> None:
        """Forget everything."""
        self.compiled.clear()
        self.known.clear()
        self._uses.clear()
        self._of_cluster = self._services_size = self._known_size = 0

    def add(self, question: bytes, answer: Compiled) -> None:
        """Keep the answer to a question that has none yet."""
        if not answer.keys:
            if self._of_cluster >= COMPILED_MAX:
                self._forget([one for one, kept in self.compiled.items() if not kept.keys])
            self._of_cluster += 1
            self.compiled[question] = answer
            return
        size = _size_of(answer)
        while self._services_size and self._services_size + size > SERVICES_SIZE_MAX:
            oldest = (one for one, kept in self.compiled.items() if kept.keys)
            self._forget(list(islice(oldest, _FORGOTTEN_AT_ONCE)))
        self._services_size += size
        self.compiled[question] = answer
        for key in answer.keys:
            self._uses.setdefault(key, {})[question] = None

    def remember(
        self, query: bytes, answer: Compiled, replies: tuple[bytes, ...], count: Count
    ) -> None:
        """Keep all replies to a query, which were made from an answer that is kept.

        Args:
            query: The query without its id.
            answer: What the replies were made from.
            replies: The replies without their ids.
            count: Counts each time that one of them is sent.
        """
        size = _size_of_replies(replies)
        while self.known and (
            len(self.known) >= KNOWN_MAX or self._known_size + size > KNOWN_SIZE_MAX
        ):
            self._forget_oldest_replies()
        self.known[query] = replies, count
        self._known_size += size
        if answer.queries is None:
            answer.queries = {}
        answer.queries[query] = None

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget what depends on any of these keys."""
        for key in keys:
            questions = self._uses.get(key)
            if questions:
                self._forget(list(questions))

    def drop_services(self) -> None:
        """Forget all that depends on any key."""
        self._forget([one for one, kept in self.compiled.items() if kept.keys])

    def _forget(self, questions: Iterable[bytes]) -> None:
        for question in questions:
            answer = self.compiled.pop(question)
            if answer.keys:
                self._services_size -= _size_of(answer)
            else:
                self._of_cluster -= 1
            for query in answer.queries or ():
                self._known_size -= _size_of_replies(self.known.pop(query)[0])
            for key in answer.keys:
                users = self._uses[key]
                users.pop(question, None)
                if not users:
                    del self._uses[key]

    def _forget_oldest_replies(self) -> None:
        for query in list(islice(self.known, _FORGOTTEN_AT_ONCE)):
            self._known_size -= _size_of_replies(self.known.pop(query)[0])
            end = query.index(0, HEADER_SIZE - 2) + 5
            question = query[HEADER_SIZE - 2 : end - 4].lower() + query[end - 4 : end]
            queries = self.compiled[question].queries
            if queries is not None:
                queries.pop(query, None)


def _size_of(answer: Compiled) -> int:
    return _ANSWER_SIZE + answer.size + 128 * len(answer.keys)


def _size_of_replies(replies: tuple[bytes, ...]) -> int:
    return _QUERY_SIZE + sum(map(len, replies)) + _REPLY_SIZE * len(replies)
