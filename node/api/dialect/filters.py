"""`?filter=`, and the query parameters that are patterns.

Owns how they are read from a query, and the errors. The language itself is in `hstore.node.filter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...filter.patterns import PatternError, searcher
from ...filter.predicate import predicate
from ...filter.syntax import FilterError
from .forms import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...filter.fields import Object
    from ...filter.predicate import Predicate
    from ..http.params import Query


def wanted(query: Query, fields: Object) -> Predicate:
    """Return what says whether an object is wanted: all are where there is no filter.

    Args:
        query: Of the request.
        fields: Of the objects.

    Raises:
        HttpError: 400.
    """
    text = query.get("filter")
    if not text:
        return lambda _: True
    try:
        return predicate(text, fields)
    except FilterError as error:
        raise refused(400, str(error)) from None


def pattern(query: Query, name: str) -> Callable[[str], bool]:
    """Return what says whether a text has a part that a pattern in the query describes.

    Where there is no pattern, every text does.

    Raises:
        HttpError: 400.
    """
    text = query.get(name)
    if not text:
        return lambda _: True
    try:
        return searcher(text)
    except PatternError as error:
        raise refused(400, f"Invalid {name}: {error}") from None
