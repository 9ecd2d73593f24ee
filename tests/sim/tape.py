"""The seam through which the world's decisions go, and the tape that remembers them.

A run asks for decisions in two ways. *Draws*: what becomes of this message, how long does this
flush take? They are methods marked with `decision`. *Strikes*: somebody crashes now, somebody
writes now. They are planned one after the other by a `Strikes`. In a run from a seed alone both
draw from their streams and this module does nothing: the marks cost nothing at all.

A run can be recorded: then the tape holds each decision that differs from the default (no fault,
the shortest time). Draws are known by what they are about and by being the k-th of their kind
(`fate 1>2 Append`, 7), strikes by their kind and time. A tape can be run again, also when some of
it was taken out, and also after the code has changed: what is not on it gets the default, and
what is on it and cannot be done (a node that does not exist) is not done.

Once the faults are over, neither is in force: what heals is always healed in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hstore.node.raft.messages import Message

if TYPE_CHECKING:
    from .network import Parcel
    from .simulation import Simulation

_Method = TypeVar("_Method", bound=Callable[..., Any])

What = tuple[Any, ...] | list[Any]


class TooLong(Exception):
    """A run from a tape goes on for longer than it may."""


class _Decision(NamedTuple):
    about: Callable[..., object]
    default: Callable[..., Any]
    is_of_parcels: bool


def decision(
    about: Callable[..., object], default: Callable[..., Any], *, is_of_parcels: bool = False
) -> Callable[[_Method], _Method]:
    """Mark a method that draws something: its value is plain data, and it changes nothing else.

    `about` and `default` get what the method gets, self included. `about` says what the decision
    is about, as a text; `default` is the value when the tape says nothing. The value may be a list
    of (parcel, number) instead of plain data: then the tape names the parcels.
    """

    def mark(method: _Method) -> _Method:
        setattr(method, "decision", _Decision(about, default, is_of_parcels))  # noqa: B010
        return method

    return mark


class Strikes:
    """What happens again and again, at moments of its own: each strike plans the next one."""

    def __init__(
        self,
        sim: Simulation,
        name: str,
        rng: Random,
        draw: Callable[[], What | None],
        carry_out: Callable[..., None],
    ) -> None:
        """`draw` says what is to be done now, if anything; `carry_out` does it.

        `carry_out` must bear with anything: a tape may name a node that is not there.
        """
        self.sim = sim
        self.name = name
        self.rng = rng
        self.every = 0
        self._draw = draw
        self._carry_out = carry_out
        self._next: Any = None

    def begin(self, every: int) -> None:
        """Strike from now on, in this mean interval; 0: never."""
        self.every = every
        tape = self.sim.tape
        if tape is not None and tape.is_played:
            self._plan_from(tape)
        elif every:
            self.sim.after(self._interval(), self._strike, None)

    def _interval(self) -> int:
        return int(self.rng.expovariate(1 / self.every)) + 1

    def _strike(self, _: None) -> None:
        sim = self.sim
        if sim.is_healed:
            return
        sim.after(self._interval(), self._strike, None)
        what = self._draw()
        if sim.tape is not None:
            sim.tape.strikes.setdefault(self.name, []).append((sim.now, what))
        if what is not None:
            self._carry_out(*what)

    def _plan_from(self, tape: Tape) -> None:
        self._next = self._next or iter(tape.strikes.get(self.name, ()))
        planned = next(self._next, None)
        if planned is not None:
            self.sim.at(max(planned[0], self.sim.now), self._strike_again, planned[1])

    def _strike_again(self, what: What | None) -> None:
        tape = self.sim.tape
        assert tape is not None
        if self.sim.is_healed:
            return
        self._plan_from(tape)
        if what is not None:
            self._carry_out(*what)


class Tape:
    """The decisions of one run.

    Attributes:
        is_played: Whether the run follows the tape, or writes it.
        draws: Value by number, by what it is about.
        strikes: (time, what) in the order of time, by kind; what is None where a strike missed.
        most_events: Core events after which a run that follows the tape ends with `TooLong`.
    """

    def __init__(
        self,
        draws: dict[str, dict[int, Any]] | None = None,
        strikes: dict[str, list[tuple[int, What | None]]] | None = None,
        *,
        is_played: bool = False,
        most_events: int = 0,
    ) -> None:
        self.is_played = is_played
        # JSON turns numbers that are keys into texts.
        self.draws = {
            about: {int(number): value for number, value in values.items()}
            for about, values in (draws or {}).items()
        }
        self.strikes = strikes if strikes is not None else {}
        self.most_events = most_events
        self._counts: Counter[str] = Counter()
        self._names: dict[int, str] = {}
        self._parcels: dict[str, Parcel] = {}

    def install(self, sim: Simulation) -> None:
        """Come between a run and those of its methods that are marked."""
        for owner in sim.deciders:
            for name in dir(type(owner)):
                mark = getattr(getattr(owner, name), "decision", None)
                if mark is not None:
                    setattr(owner, name, self._between(sim, owner, name, mark))
        send = sim.network.send

        def named(message: Message, content: Any = None) -> None:
            self._name(message, content)
            send(message, content)

        setattr(sim.network, "send", named)  # noqa: B010 - mypy has methods stay what they are

    def _between(
        self, sim: Simulation, owner: Any, name: str, mark: _Decision
    ) -> Callable[..., Any]:
        method = getattr(owner, name)

        def decide(*args: Any) -> Any:
            if sim.is_healed:
                return method(*args)
            about = f"{name} {mark.about(owner, *args)}"
            number = self._counts[about]
            self._counts[about] = number + 1
            if self.is_played:
                if sim.core_events > self.most_events > 0:
                    raise TooLong
                known = self.draws.get(about)
                if known is None or number not in known:
                    return mark.default(owner, *args)
                value = known[number]
                return self._parcels_of(value) if mark.is_of_parcels else value
            value = method(*args)
            if value != mark.default(owner, *args):
                plain = self._names_of(value) if mark.is_of_parcels else value
                self.draws.setdefault(about, {})[number] = plain
            return value

        return decide

    # -- messages ---------------------------------------------------------------------------

    def _name(self, message: Message, content: Any) -> None:
        kind = link(message)
        number = self._counts[kind]
        self._counts[kind] = number + 1
        name = f"{kind} #{number}"
        self._names[id(message)] = name
        # Keeps the message, and with it its id, for as long as the tape.
        self._parcels[name] = (message, content)

    def _names_of(self, parcels: list[tuple[Parcel, int]]) -> list[tuple[str, int]]:
        return [(self._names[id(parcel[0])], number) for parcel, number in parcels]

    def _parcels_of(self, names: list[tuple[str, int]]) -> list[tuple[Parcel, int]]:
        return [(self._parcels[name], number) for name, number in names if name in self._parcels]


def link(message: Message) -> str:
    """Return where a message goes, and its kind."""
    return f"{message.frm}>{message.to} {type(message).__name__}"
