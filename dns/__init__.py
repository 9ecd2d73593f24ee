"""The DNS server of an hstore cluster, and the search for a cluster by name.

Imports nothing of the rest of hstore: it is given plain data (`view.ClusterView`) and bound sockets.

    view.py      what is known of the cluster        records.py   names, types, contents
    zone.py      a view as names and RRsets          message.py   queries from bytes
    answers.py   query bytes to reply bytes          wire.py      records to bytes (dnslib)
    server.py    UDP and TCP on Trio
    client.py    one question to one server          finder.py    who is asked, and what they said
"""
