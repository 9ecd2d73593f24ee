"""The fields of the objects that a filter chooses among.

A filter is checked against them before any object is looked at: an unknown selector is an error
also where there is nothing to filter.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Plain(enum.Enum):
    """A value that has no parts."""

    TEXT = "text"
    INTEGER = "a whole number"
    UNSIGNED = "a whole number from 0"
    BOOLEAN = "true or false"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; of objects, a selector goes on into each of them."""

    element: Field


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose keys users choose."""

    value: Field


@dataclass(frozen=True, slots=True)
class Object:
    """An object with these fields, all of them always there."""

    fields: Mapping[str, Field]


Field = Plain | ListOf | MapOf | Object
"""What a field is. The values are those that JSON has: `str`, `int`, `bool`, `list`, `dict`."""

TEXT, INTEGER, UNSIGNED, BOOLEAN = Plain.TEXT, Plain.INTEGER, Plain.UNSIGNED, Plain.BOOLEAN
TEXTS, TEXT_MAP = ListOf(TEXT), MapOf(TEXT)
