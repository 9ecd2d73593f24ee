"""The state machine: what committed commands do, the same on every node.

Words. A *record* is a value as stored, under a key of the store. A *table* is the records of one kind
(users' keys, members, keyed writes) and the commands that write them. An *effect* is the function
that carries a command out. A *batch* collects the effects of several entries, in front of the store;
a *savepoint* is a point in a batch to which it can be rolled back.

machine.py       applies entries in order; the table of all effects
reader.py        readers of the state as of one moment, and the index of each answer
batch.py         the batch and its savepoints; what tables hold in memory
records.py       the layout of keys and values in the store
members.py       the cluster's settings and its members; why a join or a change is refused
sessions.py      sessions: how they are made and end
transactions.py  all operations or none, and what they answer
user_events.py   events that users fire
idempotency.py   keyed writes: what was answered to each, and how long that is kept
keyed_writes.py  the one record about all keyed writes and the cluster's time
cluster_time.py  the time in the log, which never falls
intact.py        whether a whole state that another node sends can be read
`kv/`            the users' keys, locks on them, and deletions
`catalog/`       nodes, services and their checks
`watching/`      changes, and who waits for them

Never here: a clock, randomness, I/O beyond the store, or an order that depends on a hash seed.
"""
