"""Answers of ours that end in a name that is not: what a recursor is asked, and the reply with it.

A service may be registered with a host name in place of an address. Its answer is a CNAME, and the
address of that host is not ours to know: for clients that may ask a recursor it is looked up, so that
they need not ask again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .message import AA, CD, QR, RA, RD, MalformedError, Query, empty_reply, name_bytes, opt_record
from .records import CLASS_IN, Rcode
from .service_records import Alias
from .wire import pack_anywhere, parse_reply

_HEAD = struct.Struct("!BB4H")
_TYPE_AND_CLASS = struct.Struct("!HH")
_NO_ALIAS = Alias(b"", 0, ())


@dataclass(slots=True)
class AliasQuery(Query):
    """A query whose answer ends in a name that is not ours, for a recursor to go on with.

    Attributes:
        alias: The answer so far.
        reply: The reply with that alone.
    """

    alias: Alias = _NO_ALIAS
    reply: bytes = b""


def alias_query(query: Query, alias: Alias, reply: bytes) -> AliasQuery:
    """Return a query with the part of its answer that is ours."""
    return AliasQuery(
        query.ident,
        query.flags,
        query.question,
        query.name,
        query.rtype,
        query.rclass,
        query.edns,
        alias=alias,
        reply=reply,
    )


def asked_next(query: AliasQuery) -> Query:
    """Return the query for the name that the answer ends in."""
    target = query.alias.target
    question = name_bytes(target) + _TYPE_AND_CLASS.pack(query.rtype, CLASS_IN)
    return Query(query.ident, query.flags, question, target, query.rtype, CLASS_IN)


def followed(query: AliasQuery, found: bytes) -> bytes:
    """Return the reply to a query: our part of the answer, and a recursor's reply for the rest.

    RFC 6604 section 3: the response code is that of the last name. SERVFAIL makes the client ask
    another server, where our part alone would look like a host without addresses.
    """
    rcode = found[3] & 15
    if rcode not in {Rcode.NOERROR, Rcode.NXDOMAIN}:
        return empty_reply(query, Rcode.SERVFAIL, aa=True, ra=True)
    try:
        records = parse_reply(found).answers
    except MalformedError:
        return empty_reply(query, Rcode.SERVFAIL, aa=True, ra=True)
    opt = opt_record(dnssec_ok=query.edns.dnssec_ok) if query.edns is not None else b""
    head = _HEAD.pack(
        QR | AA | query.flags[0] & RD,
        RA | query.flags[1] & CD | rcode,
        1,
        query.alias.length + len(records),
        0,
        bool(opt),
    )
    rest = b"".join(map(pack_anywhere, records))
    return b"".join((query.ident, head, query.question, query.alias.chain, rest, opt))
