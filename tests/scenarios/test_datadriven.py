"""What is not understood in a scenario file is said, with file and line; nothing is passed over."""

from __future__ import annotations

import pytest

from .commands import _COMMANDS
from .datadriven import Argument, ScenarioError, parse
from .replay import replay
from .test_scenarios import OWN

NODES = "add-nodes 3 voters=(1,2,3) index=2\n----\nok\n\n"


def test_a_command_has_arguments_input_and_output_with_their_lines() -> None:
    text = (
        "# A comment.\n\nfirst 1 key=value \\\n  many=(a, b) none=()\nv1 l2\n----\none\n two\n\n"
        "second\n----\n----\none\n\ntwo\n----\n----\n\nthird\n----\n"
    )

    first, second, third = parse("some.txt", text)

    assert (first.line, first.name, first.input) == (3, "first", ("v1 l2",))
    assert first.arguments == (
        Argument("1", None),
        Argument("key", ("value",)),
        Argument("many", ("a", "b")),
        Argument("none", ()),
    )
    assert first.output == ((7, "one"), (8, " two"))
    assert (second.line, second.output) == (10, ((13, "one"), (14, ""), (15, "two")))
    assert (third.line, third.output) == (19, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("campaign 1\nok\n", "some.txt:1: no line ----"),
        ("campaign 1\n----\n----\nok\n", "some.txt:2: the output that begins with two rules"),
        ("campaign 1 =2\n----\nok\n", "some.txt:1: cannot read the arguments"),
        ("", "some.txt:1: no commands"),
        (NODES + "dance 1\n----\nok\n", "some.txt:5: dance: unknown command"),
        (
            NODES + "campaign 1 fast=true\n----\nok\n",
            "some.txt:5: campaign: unknown argument fast=",
        ),
        (NODES + "stabilize 1 2 quiet=1\n----\nok\n", "some.txt:5: stabilize: unknown argument"),
        (NODES + "campaign 4\n----\nok\n", "some.txt:5: campaign: there is no node 4"),
        (NODES + "campaign one\n----\nok\n", "some.txt:5: campaign: not all numbers: one"),
        (NODES + "campaign\n----\nok\n", "some.txt:5: campaign: takes one node"),
        (NODES + "log-level loud\n----\nok\n", "some.txt:5: log-level: the levels are debug"),
        (NODES + "deliver-msgs 1 type=MsgAp\n----\nok\n", "some.txt:5: .* unknown kind of message"),
        (NODES + "propose 1\n----\nok\n", "some.txt:5: propose: takes a node and one word"),
        (NODES + "compact 1 9\n----\nok\n", "some.txt:5: compact: only 2 is applied"),
        (NODES + "send-snapshot 1 2\n----\nok\n", "some.txt:5: send-snapshot: .* does not lead"),
        (NODES + "propose-conf-change 1\nx4\n----\nok\n", "some.txt:5: .* unknown change x4"),
        (NODES + "propose-conf-change 1 v1=true\nv4 v5\n----\nok\n", "some.txt:5: .* one change"),
        (
            NODES + "propose-conf-change 1 transition=slow\nv4\n----\nok\n",
            "unknown transition slow",
        ),
        (NODES + "transfer-leadership from=1 to=7\n----\nok\n", "some.txt:5: .* no node 7"),
        (NODES + "set-randomized-election-timeout 1\n----\nok\n", "some.txt:5: .* takes timeout="),
        (
            "add-nodes 3 voters=(1,2,3) speed=9\n----\nok\n",
            "some.txt:1: .* unknown argument speed=",
        ),
        ("add-nodes 3 voters=(1,2,3)\n----\nok\n", "some.txt:1: .* members come with an index"),
        ("add-nodes 1 prevote=maybe\n----\nok\n", "some.txt:1: .* prevote= is true or false"),
        ("add-nodes 1 read-only=never\n----\nok\n", "some.txt:1: .* read-only= is safe or"),
        ("vote cfg=(1) votes=(q)\n----\nVoteWon\n", "some.txt:1: vote: a vote is y, n or _"),
        ("vote cfg=(1) ballots=(y)\n----\nVoteWon\n", "some.txt:1: .* unknown argument ballots="),
        ("vote\n----\nVoteWon\n\nsimple\nv1\n----\nvoters=(1)\n", "some.txt:5: simple: unknown"),
        ("simple\nv1 z2\n----\nvoters=(1)\n", "some.txt:1: simple: unknown change z2"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_said_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        replay("some.txt", text)


def test_every_command_stands_in_a_file_of_our_own() -> None:
    used = {c.name for path in OWN for c in parse(path.name, path.read_text())}

    assert set(_COMMANDS) - used == {"forget-leader"}
