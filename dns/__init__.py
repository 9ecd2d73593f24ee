"""The DNS server of an hstore cluster, and the search for a cluster by name.

Words. A *view* is the cluster at one moment, and the *zone* is what is published of it. An *RRset* is
the records of one name and type. A name is *unavailable* when its answer needs a leader and there is
none; questions for it are *held*. An answer is *compiled* once for each view and question. A *source*
is a place where a cluster may be found, a *sighting* is a reply that names nodes of it, and an
*attempt* is a query with its result. A *recursor* is a resolver that the server asks for names outside
the zone. A *service* is known by its name and has *instances*; a *lookup* knows them, and tells by
*keys* what has changed.

    view.py      the cluster at one moment           records.py   names, types, contents
    zone.py      a view as names and RRsets          message.py   queries from bytes
    answers.py   query bytes to reply bytes          wire.py      records to bytes (dnslib)
    server.py    UDP on Trio                         streams.py   TCP: connections
    dispatch.py  answer, hold or forward a query     held.py      the questions that wait
    compiled.py  answers packed once                 recursor.py  names outside the zone
    lookup.py    what is asked about services        services.py  names of services and nodes
    service_records.py their records                 blobs.py     records packed one by one
    cache.py     answers, until something changes    aliases.py   answers that end in other names
    datagrams.py UDP by the batch                    ratelimit.py how many replies a network gets
    client.py    one query to one server             finder.py    the search, round by round
    probe.py     one query by one transport, for `dns doctor`
    dig.py       one query, and the whole reply for a person
    resolver.py  what the system's resolver knows    browser.py   asking the local network
    ip_literals.py addresses as text, loopback
    multicast.py a node's records in multicast DNS   responder.py a node's replies to it
    multicast_sockets.py                             sockets for both sides of it

Never here: an import from the rest of hstore. The caller gives plain data (`ClusterView`), what knows
the services (`Lookup`), and bound sockets.
"""
