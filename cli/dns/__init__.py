"""Names through this machine's resolvers: `dns setup` and `dns doctor`.

setup.py         `dns setup`: the addresses a running cluster has
resolvers.py     the text for each resolver
doctor.py        `dns doctor`: asks, and prints
observations.py  what it saw, as plain data
diagnosis.py     what is wrong and what to do, from observations
name_service.py  how this machine resolves names

Never here: the DNS protocol (`hstore.dns`).
"""
