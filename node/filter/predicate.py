"""From the tree of a filter and the fields of the objects to a function of an object.

Everything that can be wrong with a filter is found here, before any object is looked at, and the
function that is made raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .fields import Field, ListOf, MapOf, Object, Plain
from .patterns import PatternError, Patterns
from .syntax import And, Expression, FilterError, Match, Not, Operator, Or, parse, shown

Predicate = Callable[[Mapping[str, Any]], bool]
"""Says whether an object fits."""

_Question = Callable[[Any], bool]

_WORD = re.compile(r"[+-]?[0-9A-Za-z_]+", re.ASCII)
_OCTAL = re.compile(r"\A([+-]?)0(?=[0-7_])")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def predicate(text: str, fields: Object) -> Predicate:
    """Return a function that says whether an object with these fields fits an expression.

    Raises:
        FilterError: It is no expression; it has a selector that is no field, an operator that the
            field has not, or a value that the field cannot have.
    """
    return _made(parse(text), fields, Patterns())


def _made(expression: Expression, fields: Object, patterns: Patterns) -> Predicate:
    match expression:
        case Match():
            return _at(fields, expression, 0, patterns)
        case Not(part):
            question = _made(part, fields, patterns)
            return lambda found: not question(found)
        case And(parts):
            every = [_made(part, fields, patterns) for part in parts]
            return lambda found: all(question(found) for question in every)
        case Or(parts):
            some = [_made(part, fields, patterns) for part in parts]
            return lambda found: any(question(found) for question in some)


def _at(field: Field, match: Match, depth: int, patterns: Patterns) -> _Question:
    """Return the question of a match for values of `field`, which its selector has led to."""
    if depth == len(match.selector):
        return _asked(field, match, patterns)
    name = match.selector[depth]
    match field:
        case Object(fields) if name in fields:
            inside = _at(fields[name], match, depth + 1, patterns)
            return lambda found: inside(found[name])
        case MapOf(value):
            inside = _at(value, match, depth + 1, patterns)
            # What is not there has no content, and is equal to nothing.
            if_absent = match.negated is not (match.operator is Operator.EMPTY)
            return lambda found: inside(found[name]) if name in found else if_absent
        case ListOf(Object() as element):
            each = _at(element, match, depth, patterns)
            return lambda found: any(map(each, found))
    selector = shown(".".join(match.selector[: depth + 1]))
    raise FilterError(f"the selector {selector} is no field of these objects")


def _asked(field: Field, match: Match, patterns: Patterns) -> _Question:
    question = _question(field, match, patterns)
    return (lambda found: not question(found)) if match.negated else question


def _question(field: Field, match: Match, patterns: Patterns) -> _Question:
    """Return the question of a match, as if it were not negated."""
    match field, match.operator:
        case Plain(), Operator.EQUAL:
            value = _converted(field, match)
            return lambda found: bool(found == value)
        case (Plain.TEXT, Operator.IN) | (MapOf(), Operator.IN):
            return lambda found: match.value in found
        case ListOf(Plain() as element), Operator.IN:
            value = _converted(element, match)
            return lambda found: value in found
        case Plain.TEXT, Operator.MATCHES:
            return _searcher(match.value, patterns)
        case ((Plain.TEXT | ListOf() | MapOf()), Operator.EMPTY):
            return lambda found: not found
    selector = shown(".".join(match.selector))
    raise FilterError(f'the field {selector} has no operator "{match.operator.value}"')


def _searcher(pattern: str, patterns: Patterns) -> _Question:
    try:
        return patterns.searcher(pattern)
    except PatternError as error:
        raise FilterError(str(error)) from None


def _converted(field: Plain, match: Match) -> str | int | bool:
    """Return the value of a match as the field's type, converted as Go's `strconv` does."""
    value = match.value
    match field:
        case Plain.TEXT:
            return value
        case Plain.BOOLEAN if value in _TRUE or value in _FALSE:
            return value in _TRUE
        case Plain.INTEGER | Plain.UNSIGNED:
            number = _whole(value)
            least, bound = (-(2**63), 2**63) if field is Plain.INTEGER else (0, 2**64)
            is_signed = value.startswith(("+", "-"))
            is_fine = field is Plain.INTEGER or not is_signed
            if is_fine and number is not None and least <= number < bound:
                return number
    selector = shown(".".join(match.selector))
    raise FilterError(f"the value {shown(value)} of {selector} is not {field.value}")


def _whole(text: str) -> int | None:
    """Read a number as Go's `ParseInt` with base 0; None: it is none."""
    if not _WORD.fullmatch(text):
        return None
    try:
        return int(_OCTAL.sub(r"\g<1>0o", text, count=1), 0)
    except ValueError:
        return None
