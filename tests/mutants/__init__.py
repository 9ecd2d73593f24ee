"""Bugs that real systems had, put into our code one at a time: would the simulator find them?

`mutant` says what a mistake is and puts it in, `gallery` has those in the core and names them all,
`storage`, `driver`, `locks`, `quiet`, `services` and `figures` have the others, `records` where each was found
(`found.json`), `__main__`
replays and searches. `python -m tests.mutants --help`, from the root.
"""
