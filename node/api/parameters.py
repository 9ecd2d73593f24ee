"""Which query parameters a path knows, and which it must not ignore.

A parameter that nobody knows is ignored, as everywhere on the web. But a client that asks for a lock
(`?acquire=`) or for a condition (`?cas=`) and gets `true` believes that it has it. So what would
change the meaning of a request, here or in Consul's API (its pages `kv`, `session`, `features/*`), is
refused where it is not supported, and so is a known name in other letters or more than once: two
programs that read the same query could differ about it.

Left out of the table, and so ignored, although Consul knows them:

- `consistent`, `cached`, `max_stale`, `near`, `leader`: they allow or ask for less than a linearizable
  read, which is what they get; `stale` likewise where it is not supported;
- `wait`: without `index` it has no meaning in Consul either;
- `token`: there are no tokens yet, so nobody is kept from anything, with one or without;
- `ns`, `partition`, `segment`, `peer`, `wan`, `local-only`, `relay-factor`, `connect`,
  `merge-central-config`: there is one of each, or none;
- `pretty`: spaces only. `timeout` where nothing waits: it is a bound.
"""

from __future__ import annotations

from collections import Counter

from .http.answers import HttpError
from .http.params import Query, names_in, parse_query

_LOCK = "it would be about a lock"
_WAIT = "it would wait for a change"
_CHOICE = "it would choose among what is shown"
_CONDITION = "it would be a condition, or a number kept with a key"
_FORM = "it would change the form of the answer, or how much of it there is"
MEANINGFUL = {
    "acquire": _LOCK,
    "release": _LOCK,
    "session": _LOCK,
    "lock-delay": _LOCK,
    "ttl": "no key ends by itself yet",
    "index": _WAIT,
    "hash": _WAIT,
    "filter": _CHOICE,
    "node-meta": _CHOICE,
    "passing": _CHOICE,
    "tag": _CHOICE,
    "prefix": _CHOICE,
    "after": _CHOICE,
    "limit": _FORM,
    "raw": _FORM,
    "keys": _FORM,
    "separator": _FORM,
    "format": _FORM,
    "recurse": "it would be about all keys with a prefix",
    "cas": _CONDITION,
    "flags": _CONDITION,
}
"""What would change the meaning of a request, and how; refused where a path does not know it."""


REPEATABLE = frozenset({"tag", "node-meta"})
"""Each of several counts."""


def check(known: frozenset[str], raw: bytes, datacenter: str | None = None) -> None:
    """Check a query that is not empty.

    Args:
        known: What the path supports.
        raw: The query, still percent-encoded.
        datacenter: What the cluster's is called; None: on the paths of the dialect, where
            `dialect/queries.py` checks `dc` and what contradicts what.

    Raises:
        HttpError: 400, naming the parameter.
    """
    query = parse_query(raw)
    for name in query:
        if name not in known:
            _judge(known, name)
    if datacenter is not None:
        _check_others(query, datacenter)
    if len(query) <= raw.count(b"&"):
        _refuse_repeated(known, raw)


def _check_others(query: Query, datacenter: str) -> None:
    value = query.get("dc", "")
    if value not in {"", datacenter}:
        raise HttpError(400, f"?dc={value[:40]}: there is one datacenter, {datacenter}")
    if "consistent" in query and "stale" in query:
        raise HttpError(400, "?stale and ?consistent contradict each other: send one of them")


def _judge(known: frozenset[str], name: str) -> None:
    plain = name.strip().lower()
    if plain in known:
        raise HttpError(400, f"?{name[:40]} is not known here: write it ?{plain}")
    if plain in MEANINGFUL:
        raise HttpError(400, f"?{plain} is not supported here ({MEANINGFUL[plain]}): leave it out")


def _refuse_repeated(known: frozenset[str], raw: bytes) -> None:
    for name, count in Counter(names_in(raw)).items():
        if count > 1 and (name in known or name == "dc") and name not in REPEATABLE:
            raise HttpError(400, f"?{name} is there {count} times: send it once")
