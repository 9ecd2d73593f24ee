"""What a route is, and the gate that a request passes before its handler runs.

A *route* is a record: it says what the request must be like, from where it may come, and which
right it needs. The *gate* of a route is made from the record once, as a tuple of checks in the
order in which they run; a route that demands nothing has an empty one. Handlers check nothing of
this themselves.

Rights are only recorded as yet: no request carries a token. What stands in for them is `Caller`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from . import parameters
from .dialect import forms, heads, queries, texts
from .http.answers import TEXT, HttpError, answer
from .http.connection import BODY_BYTES_MAX, Request, RequestError
from .http.dispatch import failed
from .http.exchange import Exchange, Form, Found, json_form
from .http.guard import CHECK_MARK, refuse_browser, refuse_browser_write_by_get
from .http.idempotency import IDEMPOTENCY_KEY

Handler = Callable[[Exchange, Request, bytes], Found]
"""Answers a request; called with the end of the path, which is empty unless the route has a key."""

Check = Callable[[Exchange, Request], None]
"""Raises HttpError where the request must not reach its handler."""


class Right(enum.Enum):
    """What a token will have to allow before a route may be used (Consul's resources)."""

    NONE = "none"
    KEY_READ = "key read"
    KEY_WRITE = "key write"
    SESSION_READ = "session read"
    SESSION_WRITE = "session write"
    EVENT_READ = "event read"
    EVENT_WRITE = "event write"
    SERVICE_READ = "service read"
    SERVICE_WRITE = "service write"
    NODE_READ = "node read"
    NODE_WRITE = "node write"
    ACL_READ = "acl read"
    ACL_WRITE = "acl write"
    AGENT_READ = "agent read"
    AGENT_WRITE = "agent write"
    OPERATOR_READ = "operator read"
    OPERATOR_WRITE = "operator write"
    JOIN = "a join token"


class Repeat(enum.Enum):
    """What becomes of a request that a client or a proxy sends twice."""

    SAFE = "changes nothing, however often it is sent"
    KEYED = "takes effect once for all requests with the same Idempotency-Key"
    HARMLESS = "leaves what it would leave if it was sent once: an Idempotency-Key is taken, and not needed"
    NEVER = "may take effect each time: an Idempotency-Key is refused, for it would mean nothing"


class Caller(enum.Enum):
    """From where a request may come."""

    ANYWHERE = "any host"
    THIS_MACHINE = "loopback only, until tokens exist"


class Browser(enum.Enum):
    """What a browser may send here, beyond what `http/guard.py` refuses for every route."""

    OWN_SITE = "what every route takes"
    PROVEN = "a GET that changes something: the browser must say that no other site sent it"
    REFUSED = "nothing"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        method: Such as `b"PUT"`. `GET` stands for `HEAD` too, where the route is safe.
        path: The whole path. Where it ends in `/`, the rest of the path is a key, of which a
            slash may be a part.
        handler: Answers the request.
        right: Which right it needs.
        params: The query parameters that it supports, separated by spaces.
        repeat: What becomes of a request that is sent twice.
        caller: From where it may come.
        browser: What a browser may send.
        needs_length: The length of the body must be stated, also when it is 0.
        body_bytes_max: How large a body may be, where the handler takes less than every path does.
        is_vital: It must be possible however many clients there are: an operator's, or a check of
            health.
        known: Those of `params`.
        is_dialect: It speaks the dialect of Consul's clients (`dialect/`), as its path says.
        gate: The other checks that follow from all this.
    """

    method: bytes
    path: bytes
    handler: Handler
    right: Right
    params: str = ""
    repeat: Repeat = Repeat.SAFE
    caller: Caller = Caller.ANYWHERE
    browser: Browser = Browser.OWN_SITE
    needs_length: bool = False
    body_bytes_max: int = BODY_BYTES_MAX
    is_vital: bool = False
    known: frozenset[str] = field(init=False, repr=False)
    is_dialect: bool = field(init=False)
    gate: tuple[Check, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(self.params.split()))
        object.__setattr__(self, "is_dialect", texts.is_dialect(self.path))
        object.__setattr__(self, "gate", _gate_of(self))

    @property
    def has_key(self) -> bool:
        """Whether the path goes on with a key."""
        return self.path.endswith(b"/") and self.path != b"/"

    @property
    def methods(self) -> tuple[bytes, ...]:
        """The methods that lead here.

        HEAD must not change anything, so it goes with GET only where GET does not either. The dialect
        has no HEAD, but at `/`, where load balancers ask whether anything is there.
        """
        has_head = not self.is_dialect or self.path == b"/"
        is_head_too = self.method == b"GET" and self.repeat is Repeat.SAFE and has_head
        return (b"GET", b"HEAD") if is_head_too else (self.method,)


def _gate_of(route: Route) -> tuple[Check, ...]:
    """Make the gate of a route. The first check that fails decides the answer."""
    checks: list[Check] = []
    # Where nothing is changed, or a key counts, it is no error to send one.
    if route.repeat is Repeat.NEVER:
        checks.append(_refuse_idempotency_key)
    if route.caller is Caller.THIS_MACHINE:
        checks.append(_need_this_machine)
    if route.browser is Browser.PROVEN:
        checks.append(lambda _, request: refuse_browser_write_by_get(request))
    elif route.browser is Browser.REFUSED:
        checks.append(lambda _, request: refuse_browser(request))
    if route.needs_length:
        checks.append(_need_length)
    return tuple(checks)


def _refuse_idempotency_key(_exchange: Exchange, request: Request) -> None:
    if IDEMPOTENCY_KEY in request.headers:
        # To ignore it would be to promise what is not kept.
        raise HttpError(400, "Idempotency-Key is for writes of keys: send none here")


def _need_this_machine(exchange: Exchange, request: Request) -> None:
    # A check is a request that a member makes for whoever has registered it, perhaps on this machine.
    if not exchange.is_local or CHECK_MARK in request.headers:
        raise HttpError(
            403, "only a program on the node's own machine may do this: repeat it there"
        )


def _need_length(_exchange: Exchange, request: Request) -> None:
    # Without a length, what follows could be the body or the next request (RFC 9112 section 6.3).
    if not request.has_length:
        raise HttpError(411, "send Content-Length, also when it is 0", ends_connection=True)


@lru_cache(maxsize=32)
def _options(allow: bytes) -> Route:
    """Make the route of OPTIONS, for a path that has these methods."""

    def options(exchange: Exchange, _request: Request, _rest: bytes) -> bytes:
        extra = heads.EVERY + b"Allow: %b\r\n" % allow
        return answer(exchange.keys.applied_index, b"", 200, TEXT, extra)

    return Route(b"OPTIONS", b"/", options, Right.NONE)


def _root_of(path: bytes) -> bytes:
    """Return the beginning of a path by which routes with a key are looked up; empty: it has none."""
    return path[: path.find(b"/", _LEAST) + 1]


_LEAST = len(b"/v1/")
"""No first name of a path that goes on with a key is shorter."""


class Routes:
    """All routes of a server (`Router` of `http/exchange.py`).

    Args:
        records: The routes; no two have the same path and method.
    """

    def __init__(self, records: Iterable[Route]) -> None:
        exact: dict[bytes, dict[bytes, Route]] = {}
        with_key: dict[bytes, dict[bytes, Route]] = {}
        for route in records:
            by_method = (with_key if route.has_key else exact).setdefault(route.path, {})
            for method in route.methods:
                if method in by_method:
                    raise ValueError(f"two routes for {method!r} {route.path!r}")
                by_method[method] = route
        self._exact = exact
        # By the first two names of the path, `/v1/kv/`, or the first, `/read/`: there are dozens, which
        # tried one after the other would cost each request for a key.
        self._with_key: dict[bytes, tuple[tuple[bytes, dict[bytes, Route]], ...]] = {}
        for start in sorted(with_key, key=len, reverse=True):
            root = _root_of(start) or start
            if len(root) < _LEAST:
                raise ValueError(f"the first name of {start!r} is too short to be looked up")
            self._with_key[root] = (*self._with_key.get(root, ()), (start, with_key[start]))

    def begin(self, exchange: Exchange, request: Request) -> Found:
        """Find the route, pass its gate, and let its handler begin; errors become answers, too."""
        try:
            exchange.guard.check(request)
            route, rest = self._find(request)
            for check in route.gate:
                check(exchange, request)
            if request.query:
                datacenter = None if route.is_dialect else queries.datacenter(exchange)
                parameters.check(route.known, request.query, datacenter)
                if route.is_dialect:
                    queries.check(exchange, route.known, request.query)
            return route.handler(exchange, request, rest)
        except Exception as error:  # noqa: BLE001 (the boundary)
            return failed(exchange, request, error)

    def form(self, path: bytes) -> Form:
        """Return how errors look on a path."""
        return forms.failure if texts.is_dialect(path) else json_form

    def body_bytes_max(self, request: Request | RequestError) -> int:
        """Return how large a body may be, also where there is no route."""
        route = self._known(request)
        return BODY_BYTES_MAX if route is None else route.body_bytes_max

    def is_change(self, request: Request | RequestError) -> bool:
        """Whether a request changes something where it has a route."""
        route = self._known(request)
        return route is not None and route.repeat is not Repeat.SAFE

    def is_vital(self, request: Request) -> bool:
        """Whether a request must be possible however many clients there are."""
        route = self._known(request)
        return route is not None and route.is_vital

    def _known(self, request: Request | RequestError) -> Route | None:
        try:
            return self._find(request)[0]
        except HttpError:
            return None

    def _find(self, request: Request | RequestError) -> tuple[Route, bytes]:
        path = request.path
        rest = b""
        by_method = self._exact.get(path)
        if by_method is None:
            # What is below `/ui/` has no second name, or one that is no path's.
            found = self._with_key.get(_root_of(path)) or self._with_key.get(path[:_LEAST], ())
            for start, with_key in found:
                if path.startswith(start):
                    by_method, rest = with_key, path[len(start) :]
                    break
            else:
                text = f"there is nothing at {path[:200].decode('latin-1')!r}"
                raise HttpError(404, text, plain=texts.NO_SUCH_PATH)
        route = by_method.get(request.method)
        if route is None:
            allow = b", ".join(sorted(by_method))
            if request.method == b"OPTIONS" and next(iter(by_method.values())).is_dialect:
                return _options(b"OPTIONS, " + allow), rest
            method = request.method.decode()
            text, plain = f"{method} is not for this path", f"method {method} not allowed"
            raise HttpError(405, text, allow=allow, plain=plain)
        return route, rest
