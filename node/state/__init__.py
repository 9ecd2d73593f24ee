"""The state machine: what committed commands do, the same on every node.

Words. A *record* is a value as stored, under a key of the store. A *table* is the records of one kind
(users' keys, members, keyed writes) and the commands that write them. An *effect* is the function
that carries a command out. A *batch* collects the effects of several entries, in front of the store;
a *savepoint* is a point in a batch to which it can be rolled back. A *change* names a table and a key
of it that got another value or was deleted; the *history* is the latest changes of all tables. A
*watch* reads the changes under a prefix of one table; a *wait* is called after one change. A *wake*
is a change of the catalog, which is told and not kept; a *listener* is called with each.

machine.py       applies entries in order; the table of all effects
reader.py        readers of the state as of one moment, and the index of each answer
batch.py         the batch and its savepoints; what tables hold in memory
keys.py          the users' keys
locks.py         locks on keys: who gets one, and what the end of a session does to them
holds.py         which locks are held, and which keys are under a lock delay
sessions.py      sessions: how they are made and end
transactions.py  all operations or none, and what they answer
deletions.py     the deletions that are kept, so that no index goes back
latest.py        how kept deletions are found by prefix
members.py       the cluster's settings and its members; why a join or a change is refused
nodes.py         which nodes the catalog has
checks.py        the health check of each member
services.py      services, and the checks that clients register
externals.py     nodes that are no members, and what is written to the catalog directly
check_results.py results of checks, who runs them, services that were critical for too long
catalog_index.py what is in memory of the catalog: what is where, and the last indexes
catalog_reader.py reading the catalog as of one moment
browsing.py      a look at services by pages, from what is in memory
user_events.py   events that users fire
idempotency.py   keyed writes: what was answered to each, and how long that is kept
keyed_writes.py  the one record about all keyed writes and the cluster's time
cluster_time.py  the time in the log, which never falls
intact.py        whether a whole state that another node sends can be read
intact_catalog.py  a part of it: services and nodes
catalog_writes.py  how services and checks are written, and which indexes that moves
records.py       the layout of keys and values in the store
catalog_records.py  a part of it: services and nodes
changes.py       the history, bounded
watches.py       watches, and the waking of watches and waits
waits.py         waits, and which of them a change ends
by_prefix.py     things found by the beginnings of a key

Never here: a clock, randomness, I/O beyond the store, or an order that depends on a hash seed.
"""
