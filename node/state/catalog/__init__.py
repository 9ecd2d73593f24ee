"""The catalog: nodes, services and their checks, as committed commands have them.

Words. An *instance* is one service on one node. An *external* node is one that is no member. A *result*
is what a run of a check gave; its *owner* is the member that runs it. The *catalog's index* is what
is in memory of all this, so that a read finds it without the store; *last indexes* say when each part
of it last changed.

nodes.py      which nodes the catalog has
checks.py     the health check of each member
services.py   services, and the checks that clients register
settled.py    registrations of what is so already
externals.py  nodes that are no members, and what is written to the catalog directly
results.py    results of checks, who runs them, services that were critical for too long
writes.py     how services and checks are written, and which last indexes that moves
records.py    the layout of their keys and values in the store
index.py      the catalog's index
reader.py     reading the catalog as of one moment
browsing.py   a look at services by pages, from what is in memory
intact.py     whether services and nodes that another node sends can be read

Never here: running a check, which is `node/checks/`, or a clock: times come with the command.
"""
