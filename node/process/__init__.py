"""The process of a node, from its first check to its last flush.

Words. A *launch* is how the process was started.

main.py         directory, listeners, signals, and how it ends
first_start.py  what a new seed finds out before it founds a cluster
announcing.py   tells the cluster that this node runs, and its addresses; creates the first cluster
launch.py       how this process was started; keeps its run record
descriptors.py  how many files may be open, divided among the node's parts
log_sink.py     the way of a log line out of the process, which never holds up the node
log_file.py     the log of a node in the background, of bounded size
only_voter.py   a cluster of one out of a stopped node's directory (`hstore recover`)
cutoff.py       ends a process that does not end by itself in time

Never here: anything that a test of a whole node in memory would need.
"""
