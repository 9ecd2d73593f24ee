"""Names through this machine's resolvers: `dns setup` and `dns doctor`.

Words. *Forwarding* is the configuration by which a resolver asks the cluster for its zone. An
*observation* is what a query, or a file of this machine, has shown. A *diagnosis* is what is wrong,
and what to do about it.

setup.py         `dns setup`: the addresses of a running cluster
resolvers.py     the configuration of each resolver and proxy: servers, zone and port filled in
templates.py     their texts
doctor.py        `dns doctor`: sends the queries, prints the result
observations.py  the replies, as plain data
diagnosis.py     what is wrong and what to do, from observations
name_service.py  how this machine resolves names, from its files

Never here: the DNS protocol (`hstore.dns`).
"""
