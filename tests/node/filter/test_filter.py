"""The language of `?filter=`: what it takes, what it means, and what it says of what it does not take."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.filter.fields import (
    BOOLEAN,
    INTEGER,
    TEXT,
    TEXT_MAP,
    TEXTS,
    UNSIGNED,
    ListOf,
    MapOf,
    Object,
)
from hstore.node.filter.predicate import predicate
from hstore.node.filter.syntax import And, FilterError, Match, Not, Operator, Or, parse

FIELDS = Object(
    {
        "Node": TEXT,
        "Empty": TEXT,
        "Port": INTEGER,
        "Index": UNSIGNED,
        "On": BOOLEAN,
        "Tags": TEXTS,
        "Ports": ListOf(INTEGER),
        "Meta": TEXT_MAP,
        "Service": Object({"ID": TEXT, "Meta": TEXT_MAP}),
        "Addresses": MapOf(Object({"Address": TEXT, "Port": INTEGER})),
        "Checks": ListOf(Object({"Status": TEXT, "Tags": TEXTS})),
        "not": TEXT,
        "in": TEXT,
    }
)
FOUND = {
    "Node": "web-1",
    "Empty": "",
    "Port": 80,
    "Index": 7,
    "On": True,
    "Tags": ["v1", "primary"],
    "Ports": [80, 443],
    "Meta": {"os": "linux", "a/b": "1", "1": "one", "in-use": "yes", "Ü": "ü"},
    "Service": {"ID": "web:1", "Meta": {}},
    "Addresses": {"lan": {"Address": "10.0.0.1", "Port": 8080}},
    "Checks": [{"Status": "passing", "Tags": ["x"]}, {"Status": "warning", "Tags": []}],
    "not": "n",
    "in": "i",
}


def fits(text):
    return predicate(text, FIELDS)(FOUND)


def why(text):
    with pytest.raises(FilterError) as error:
        predicate(text, FIELDS)
    start = "Failed to create boolean expression evaluator: "
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)
    return str(error.value)[len(start) :]


TRUE = [
    'Node == "web-1"',
    "Node==`web-1`",
    'Node != "web"',
    'Node contains "eb-"',
    'Node not contains "x"',
    '"eb" in Node',
    '"x" not in Node',
    'Node matches "^w[e]b-\\\\d$"',
    'Node not matches "^b"',
    "Node matches `b-`",
    "Empty is empty",
    "Node is not empty",
    'Empty == ""',
    "Port == 80",
    "Port != 7500",
    'Port == "0x50"',
    'Port == "0120"',
    'Port == "8_0"',
    "Port != -80",
    "Index == 7",
    "On == true",
    "On != F",
    "On == 1",
    "v1 in Tags",
    '"v2" not in Tags',
    "Tags contains primary",
    "Tags not contains v2",
    "Tags is not empty",
    "443 in Ports",
    'Ports contains "0x50"',
    "81 not in Ports",
    "Meta.os == linux",
    "Meta.a/b == 1",
    "Meta.1 == one",
    'Meta["in-use"] == yes',
    "Meta[ `in-use` ] == yes",
    'Meta["\\u00dc"] == "\\xc3\\xbc"',
    "os in Meta",
    "linux not in Meta",
    "Meta contains os",
    "Meta is not empty",
    "Service.Meta is empty",
    'Service.ID == "web:1"',
    'Addresses.lan.Address == "10.0.0.1"',
    "Addresses.lan.Port == 8080",
    "lan in Addresses",
    "Checks.Status == passing",
    # Any element that fits will do, also for the opposite.
    "Checks.Status != passing",
    "Checks.Tags contains x",
    "Checks.Tags is empty",
    "Checks is not empty",
    # What is not there.
    "Meta.x != 1",
    "a not in Meta.x",
    'Meta.x not matches "."',
    "Meta.x is empty",
    "Addresses.wan.Port != 1",
    # Words that are names where they can be nothing else.
    "not == n",
    "in == i",
    "not != in",
    "n in not",
    "not contains n",
    "not not == x",
    "not is not empty",
    "(not == n)",
    # Groups: `or` binds weakest, then `and`, then `not`.
    "On == true or On == false and On == false",
    "(On == true or On == false) and On == true",
    "not On == false and On == true",
    "not (On == false and On == true)",
    "not not On == true",
    " \t\r\n(  On == true\n)\t ",
    "(On == true)",
    "((On == true)) and ((Port == 80))",
    "On == true and (Port == 80 or Port == 81) and not Port == 82",
]
FALSE = [
    'Node == "WEB-1"',
    "Node == web",
    "Node contains WEB",
    "Node is empty",
    "Port == 81",
    "Index != 7",
    "On == false",
    "v in Tags",
    "V1 in Tags",
    "Tags is empty",
    "Meta.x == 1",
    "a in Meta.x",
    'Meta.x matches "."',
    "Meta.x is not empty",
    "Addresses.wan.Port == 1",
    "Checks.Status == critical",
    "Checks is empty",
    "On == false or On == true and On == false",
    "not On == true and On == true",
    "not (not On == false or On == true)",
]


@pytest.mark.parametrize("text", TRUE)
def test_an_expression_that_fits(text):
    assert fits(text) is True


@pytest.mark.parametrize("text", FALSE)
def test_an_expression_that_does_not_fit(text):
    assert fits(text) is False


def test_no_element_fits_where_there_is_none():
    assert not predicate("Checks.Status != passing", FIELDS)(FOUND | {"Checks": []})


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Node",
        "Node ==",
        "== Node",
        "Node = web",
        "Node == web or",
        "Node == web orNode == web",
        "(On == true)or(On == true)",
        "not(On == true)",
        "On == true AND On == true",
        "On == true and",
        "and",
        "or or or",
        "(On == true",
        "On == true)",
        "()",
        '"v1"in Tags',
        '"v1" in',
        '"v1" in "Tags"',
        '"v1" == Tags',
        "Tags is",
        "Tags is nil",
        "Tags is emptyy",
        "Node == 01",
        "Node == 1.",
        "Node == 10.0.0.1",
        "Node == 1a",
        "Node == +1",
        'Node == "x',
        "Node == `x",
        'Node == "a\nb"',
        'Node == "\\q"',
        'Node == "\\x1"',
        'Node == "\\400"',
        'Node == "\\ud800"',
        'Node == "\\U00110000"',
        "Node == 'x'",
        "Meta. == x",
        "Meta.-x == x",
        "Meta[x] == x",
        'Meta["x" == x',
        "Meta[] == x",
        'Meta["x"]y == x',
        "1Node == x",
        "Node == x y == z",
        "all Checks as c { c.Status == x }",
        "N\u00f6de == x",
    ],
)
def test_what_is_no_expression(text):
    why(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node == x", "node"),
        ("Nope == x", "Nope"),
        ("Service.Nope == x", "Service.Nope"),
        ("Node.x == x", "Node.x"),
        ("Port.x == x", "Port.x"),
        ("Tags.0 == x", "Tags.0"),
        ("Meta.os.x == x", "Meta.os.x"),
        ("Checks.0.Status == x", "Checks.0"),
        ("Checks.Nope == x", "Checks.Nope"),
        ("Addresses.lan.Nope == x", "Addresses.lan.Nope"),
        ("On == true or Nope == x", "Nope"),
        ("not Nope == x", "Nope"),
        ("Service == x", "Service"),
        ("Service is empty", "Service"),
        ("Addresses.lan is empty", "Addresses.lan"),
        ("Checks == x", "Checks"),
        ("x in Checks", "Checks"),
        ("Tags == v1", "Tags"),
        ("Meta == v1", "Meta"),
        ('Tags matches "v"', "Tags"),
        ("Port contains 8", "Port"),
        ("8 in Port", "Port"),
        ('Port matches "8"', "Port"),
        ("Port is empty", "Port"),
        ("On is not empty", "On"),
        ("Port == http", "http"),
        ("Port == 1.5", "1.5"),
        ('Port == ""', '""'),
        ('Port == " 80"', " 80"),
        ('Port == "\u0668"', "u0668"),
        ("Port == 9223372036854775808", "9223372036854775808"),
        ("Port == -9223372036854775809", "-9223372036854775809"),
        ("Index == -1", "-1"),
        ('Index == "+1"', "+1"),
        ("Index == 18446744073709551616", "18446744073709551616"),
        ("On == yes", "yes"),
        ("x in Ports", "x"),
        ("Addresses.lan.Port == x", "x"),
        ('Node matches "("', "("),
        ('Node matches "(?=x)"', "(?=x)"),
        ('Node matches "\\\\pL{99}"', "pL{99}"),
        ('Node matches "\\xff"', "UTF-8"),
    ],
)
def test_what_does_not_go_with_the_objects(text, names):
    assert names in why(text)


def test_a_pattern_has_at_most_256_bytes():
    assert predicate(f'Node matches "{"é" * 128}"', FIELDS)(FOUND) is False
    assert "258" in why(f'Node matches "{"é" * 129}"')


def test_the_patterns_of_an_expression_are_bounded_together():
    """Each of them alone takes some milliseconds, and 4 KiB have room for ninety."""
    one = "Node matches `(?:[a-z]{30}){30}`"
    assert predicate(" or ".join([one] * 4), FIELDS)(FOUND) is False
    assert "too large" in why(" or ".join([one] * 5))
    assert "too large" in why(f"Node == a or not (Service.Meta.x matches `x` and {one} and {one})"
                              f" or {one} or {one} or Checks.Status matches `x{{1000}}`")  # fmt: skip
    assert "too large" in why("Node matches `.{600}`")


def test_a_pattern_that_would_backtrack_takes_no_time():
    assert not predicate('Node matches "^(a+)+$"', FIELDS)(FOUND | {"Node": "a" * 4096 + "b"})


def test_an_expression_has_at_most_4_kib():
    whole = 'Node == "' + "é" * 2043 + '"'
    assert len(whole.encode()) == 4096
    assert fits(whole) is False
    assert "4,097" in why(whole + " ")


@pytest.mark.parametrize(("start", "end"), [("(", ")"), ("not ", ""), ("( not ", " )")])
def test_an_expression_has_at_most_64_levels(start, end):
    levels = 32 if "( not" in start else 64
    assert fits(start * levels + "On == true" + end * levels) is True
    assert "64 levels" in why(start * (levels + 1) + "On == true" + end * (levels + 1))


def test_a_chain_is_no_level():
    assert fits(" or ".join(["On == 0"] * 300 + ["On == 1"])) is True
    assert fits(" and ".join(["On == 1"] * 300)) is True


def test_the_error_tells_of_the_innermost_part():
    assert why("not (On == )").startswith('at character 12, ")": a value')


def test_many_words_that_may_be_names_take_no_time():
    why("not " * 64 + "x")
    why("(" * 64 + "not " * 900)


# An expression of each kind about FOUND, with what it is for, next to it.
_PLAIN_VALUES = ["web-1", "web", "", "v1", "primary", "linux", "os", "passing", "x y", 'a"\\b', "é"]
_TEXT_PATHS = [("Node",), ("Empty",), ("Meta", "os"), ("Meta", "no such"), ("Service", "ID")]


def _leaf(selector, operator, values=st.just("")):  # noqa: B008
    return st.builds(Match, st.just(selector), st.just(operator), st.booleans(), values)


_values = st.sampled_from(_PLAIN_VALUES)
_numbers = st.integers(-(2**63), 2**63 - 1).map(str) | st.just("80")
_leaves = st.one_of(
    *(_leaf(path, Operator.EQUAL, _values) for path in _TEXT_PATHS),
    *(_leaf(path, Operator.IN, _values) for path in [*_TEXT_PATHS, ("Tags",), ("Meta",)]),
    *(_leaf(path, Operator.EMPTY) for path in [*_TEXT_PATHS, ("Tags",), ("Meta",), ("Checks",)]),
    *(_leaf(path, Operator.MATCHES, st.sampled_from(["^w", "x$", "."])) for path in _TEXT_PATHS),
    _leaf(("Port",), Operator.EQUAL, _numbers),
    _leaf(("Ports",), Operator.IN, _numbers),
    _leaf(("On",), Operator.EQUAL, st.sampled_from(["true", "F", "1"])),
    _leaf(("Checks", "Status"), Operator.EQUAL, _values),
    _leaf(("Checks", "Tags"), Operator.EMPTY),
    _leaf(("Checks", "Tags"), Operator.IN, _values),
)
_several = lambda part: st.lists(part, min_size=2, max_size=4).map(tuple)  # noqa: E731
_trees = st.recursive(
    _leaves,
    lambda part: st.one_of(part.map(Not), _several(part).map(And), _several(part).map(Or)),
    max_leaves=12,
)


class _Writer:
    """Writes a tree as text, each time in another of the spellings that mean the same."""

    def __init__(self, draw):
        self._draw = draw

    def _either(self, *spellings):
        return self._draw(st.sampled_from(spellings))

    def write(self, tree, binding=0):
        """Return the text of a tree, in parentheses where what is around it binds more."""
        own, text = self._written(tree)
        if own < binding or self._draw(st.integers(0, 5)) == 0:
            return "(" + self._either("", " ") + text + self._either("", "\n") + ")"
        return text

    def _written(self, tree):
        space = self._either(" ", "  ", "\t", "\r\n")
        match tree:
            case Or(parts):
                return 0, f"{space}or{space}".join(self.write(part, 1) for part in parts)
            case And(parts):
                return 1, f"{space}and{space}".join(self.write(part, 2) for part in parts)
            case Not(part):
                return 2, f"not{space}{self.write(part, 2)}"
        return 3, self._match(tree, space)

    def _match(self, match, space):
        selector = match.selector[0] + "".join(map(self._step, match.selector[1:]))
        negation = f"not{space}" if match.negated else ""
        if match.operator is Operator.EMPTY:
            return f"{selector}{space}is{space}{negation}empty"
        value = self._value(match.value)
        if match.operator is Operator.EQUAL:
            around = self._either("", space)
            return f"{selector}{around}{'!=' if match.negated else '=='}{around}{value}"
        if match.operator is Operator.MATCHES:
            return f"{selector}{space}{negation}matches{space}{value}"
        if self._draw(st.booleans()):
            return f"{value}{space}{negation}in{space}{selector}"
        return f"{selector}{space}{negation}contains{space}{value}"

    def _step(self, name):
        if re.fullmatch("[a-zA-Z]+", name):
            return self._either(f".{name}", f'["{name}"]', f"[ `{name}`]")
        return f'["{name}"]'

    def _value(self, value):
        spellings = [json.dumps(value), json.dumps(value, ensure_ascii=False)]
        if "`" not in value:
            spellings.append(f"`{value}`")
        if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_/]*|-?(0|[1-9]\d*)", value):
            spellings.append(value)
        return self._either(*spellings)


def _plainly(tree, found):
    """Evaluate a tree in the plainest way, without fields."""
    match tree:
        case Or(parts):
            return any(_plainly(part, found) for part in parts)
        case And(parts):
            return all(_plainly(part, found) for part in parts)
        case Not(part):
            return not _plainly(part, found)
    return any(_asked(value, tree) for value in _reached(found, tree.selector))


_ABSENT = object()


def _reached(found, path):
    if isinstance(found, list) and path:
        return [value for element in found for value in _reached(element, path)]
    return _reached(found.get(path[0], _ABSENT), path[1:]) if path else [found]


def _asked(value, match):
    if value is _ABSENT:
        is_so = match.operator is Operator.EMPTY
    elif match.operator is Operator.EMPTY:
        is_so = len(value) == 0
    elif match.operator is Operator.MATCHES:
        is_so = re.search(match.value, value) is not None
    elif match.operator is Operator.IN:
        kind = type(value[0]) if isinstance(value, list) and value else str
        is_so = kind(match.value) in value
    elif isinstance(value, bool):
        is_so = value == (match.value in {"true", "1"})
    else:
        is_so = type(value)(match.value) == value
    return is_so != match.negated


@given(st.data(), _trees)
def test_every_spelling_of_a_tree_means_what_a_plain_evaluator_says(data, tree):
    text = _Writer(data.draw).write(tree)
    assert predicate(text, FIELDS)(FOUND) is _plainly(tree, FOUND)


_FRAGMENTS = st.sampled_from(
    [
        *(
            [
                "(",
                ")",
                "[",
                "]",
                ".",
                "==",
                "!=",
                "!",
                "=",
                "1",
                "-1",
                "0.5",
                "01",
                "not",
                "in",
                "is",
                "empty",
                "and",
                "or",
                "contains",
                "matches",
            ]
        ),
        *(["Node", "Port", "Tags", "Meta", "Meta.os", "Checks.Status"]),
        *('"', "`", "\\", "\\x", '"x"', "`y`", "é", "\0", chr(0xD800), " ", "\n", "\t"),
    ]
)
_words = st.lists(_FRAGMENTS, max_size=25)


@given(st.text(max_size=60) | _words.map("".join) | _words.map(" ".join))
def test_whatever_the_text_the_one_error_is_raised_or_none(text):
    try:
        found = predicate(text, FIELDS)(FOUND)
    except FilterError:
        why(text)
    else:
        assert isinstance(found, bool)


def test_the_tree_of_a_chain_is_flat():
    one, two = Match(("a",), Operator.EQUAL, value="1"), Match(("b",), Operator.EMPTY, negated=True)
    assert parse("a == 1 and b is not empty") == And((one, two))
    assert parse("a == 1 or a == 1 or not b is not empty") == Or((one, one, Not(two)))
