"""The state machine: what committed commands do, the same on every node.

Words. A *record* is a value as stored, under a key of the store. A *table* is the records of one kind
(users' keys, members, keyed writes) and the commands that write them. An *effect* is the function
that carries a command out. A *batch* collects the effects of several entries, in front of the store;
a *savepoint* is a point in a batch to which it can be rolled back. A *change* names a table and a key
of it that got another value or was deleted; the *history* is the latest changes of all tables. A
*watch* reads the changes under a prefix of one table.

machine.py       applies entries in order; the table of all effects; readers of the state
batch.py         the batch and its savepoints; what tables hold in memory
keys.py          the users' keys
members.py       the cluster's settings and its members; why a join or a change is refused
idempotency.py   keyed writes: which took effect, what was answered, how long that is kept
cluster_time.py  the time in the log, which never falls
intact.py        whether a whole state that another node sends can be read
records.py       the layout of keys and values in the store
changes.py       the history, bounded
watches.py       watches and their waking

Never here: a clock, randomness, I/O beyond the store, or an order that depends on a hash seed.
"""
