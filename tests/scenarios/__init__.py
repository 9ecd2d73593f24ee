"""Scenario files in the formats of `../shared/data/interaction`, `quorum` and `confchange`.

Replayed by `pytest tests/scenarios [--scenarios DIR]` against our core. From the file to the verdict:

datadriven.py   cuts a file into commands with their arguments, input and expected output
tables.py       runs the commands of quorum and confchange files
nodes.py        the adapter: cores driven as those files drive theirs, in hand-made batches
commands.py     runs the commands of interaction files on it
facts.py        reads what an output says: roles, terms, votes, commits, entries, messages
replay.py       runs a file both ways and compares the facts that must agree
waivers.py      the one table of what is not compared, and why

Files of our own, which need no folder beside the checkout, are in own/.
"""
