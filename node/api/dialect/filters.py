"""`?filter=`, and the query parameters that are patterns.

Owns how they are read from a query, and the errors. The language itself is in `hstore.node.filter`.

A filter is compiled twice: to check it, and when the objects are there. What is compiled takes up to
some megabytes, and 20,000 reads may wait, so a read that waits holds the text only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...filter.patterns import PatternError, Patterns
from ...filter.predicate import predicate
from ...filter.syntax import FilterError
from .forms import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...filter.fields import Object
    from ...filter.predicate import Predicate
    from ..http.params import Query

PER_SLICE = 4
"""Objects that are looked at in one go: the worst patterns take milliseconds for each."""

_encode = msgspec.json.encode


class Choice:
    """What `?filter=` chooses; false where there is none, and all are wanted.

    Args:
        query: Of the request.
        fields: Of the objects.
    """

    __slots__ = ("_fields", "_text")

    def __init__(self, query: Query, fields: Object) -> None:
        self._text = query.get("filter", "")
        self._fields = fields

    def __bool__(self) -> bool:
        return bool(self._text)

    def compiled(self) -> Predicate:
        """Return what says whether an object is wanted. It may take some 50 ms.

        Raises:
            HttpError: 400.
        """
        try:
            return predicate(self._text, self._fields)
        except FilterError as error:
            raise refused(400, str(error)) from None

    def among(self, found: Iterable[dict[str, Any] | None]) -> Iterator[bytes | None]:
        """Iterate over objects: as JSON, or None for one that is not wanted, as None itself."""
        fits = self.compiled()
        for each in found:
            yield _encode(each) if each is not None and fits(each) else None


def patterns(query: Query, *names: str) -> list[Callable[[str], bool]]:
    """Return what says whether a text has a part that a pattern in the query describes, by its name.

    Where there is no pattern, every text does. It may take some 50 ms.

    Raises:
        HttpError: 400.
    """
    room = Patterns()
    found: list[Callable[[str], bool]] = []
    for name in names:
        text = query.get(name)
        try:
            found.append(room.searcher(text) if text else lambda _: True)
        except PatternError as error:
            raise refused(400, f"Invalid {name}: {error}") from None
    return found
