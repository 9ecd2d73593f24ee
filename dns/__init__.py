"""The DNS server of an hstore cluster, and the search for a cluster by name.

Words. A *view* is what is known of the cluster at one moment, the *zone* what is published of it.
An *RRset* is the records of one name and type. A name is *unavailable* while only a leader could
answer for it and there is none. An answer is *compiled* once for each view and question. A *source*
is a place where a cluster may be found, a *sighting* what one server says, and an *attempt* one
question with what came of it. A *recursor* is a resolver that is asked for names outside the zone.

    view.py      what is known of the cluster        records.py   names, types, contents
    zone.py      a view as names and RRsets          message.py   queries from bytes
    answers.py   query bytes to reply bytes          wire.py      records to bytes (dnslib)
    server.py    UDP and TCP on Trio                 ratelimit.py  how many replies a network gets
    recursor.py  names outside the zone             datagrams.py UDP by the batch
    client.py    one question to one server          finder.py    who is asked, and what they said
    probe.py     what comes of it by one transport, for who looks for faults
    resolver.py  what the system's resolver knows    browser.py   asking the local network
    ip_literals.py addresses as text, loopback
    multicast.py what is said by multicast DNS       responder.py a node says it
    multicast_sockets.py                             sockets for both sides of it

Imports nothing of the rest of hstore: it is given plain data (`ClusterView`) and bound sockets.
"""
