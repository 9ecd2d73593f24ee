"""What nodes, clients and the log say to each other, as plain data.

Words. A *command* is what an entry asks of the state machine. The *cluster info* is the cluster as
one node sees it, in the shape users get. A *value* is how something is written: an address, a name,
a duration.

numbers.py       the numbers in commands and records
locks.py         sessions and the locks they hold
checks.py        the catalog's health checks
services.py      services, nodes that are no members, and the commands about them
user_events.py   events that users fire
transactions.py  the operations that only a transaction has, and its answer
commands.py      what a committed entry can ask, with its outcome; the cluster's settings
decoded.py       registrations that are decoded once for two uses
cluster_info.py  the `/v1/cluster` object, join requests and replies
statistics.py    the figures kept over time: their names, a question and its answer
plain.py         text from anywhere, made harmless to a terminal and to a log
durations.py     durations as Go writes and reads them
values.py        parsers of addresses, names, durations and sizes

Never here: I/O, clocks, or what is done with any of it.
"""
