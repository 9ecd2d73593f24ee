"""Tapes: a run leaves all its decisions on one, and they are enough to run it again."""

from __future__ import annotations

import json
from random import Random

import pytest

from .simulation import Simulation
from .tape import Tape


def record(seed: int) -> tuple[Simulation, Tape]:
    tape = Tape()
    sim = Simulation(seed, tape=tape)
    sim.run()
    return sim, tape


def play(seed: int, tape: Tape) -> Simulation:
    text = json.dumps([tape.draws, tape.strikes])
    draws, strikes = json.loads(text)
    sim = Simulation(seed, tape=Tape(draws, strikes, is_played=True))
    sim.run()
    return sim


@pytest.mark.parametrize("seed", [1, 2, 4, 11, 28])
def test_a_tape_alone_brings_the_same_run_again(seed: int) -> None:
    plain = Simulation(seed)
    plain.run()

    recorded, tape = record(seed)

    assert recorded.digest == plain.digest
    assert play(seed, tape).digest == plain.digest


def test_the_streams_have_no_part_in_a_run_from_a_tape() -> None:
    plain, tape = record(4)
    sim = Simulation(4, tape=Tape(tape.draws, tape.strikes, is_played=True))
    for owner in sim.deciders:
        for name, value in vars(owner).items():
            if isinstance(value, Random) and name != "_calm":
                setattr(owner, name, None)

    sim.run()

    assert sim.digest == plain.digest


def test_a_run_without_decisions_is_a_run_without_faults() -> None:
    sim = play(28, Tape())

    met = ("crash", "dropped", "partition", "restart", "reads", "acknowledged")
    assert [name for name in met if sim.counts[name]] == ["acknowledged"]
