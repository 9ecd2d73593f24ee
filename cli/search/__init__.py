"""Which node a command talks to.

Words. A *finder* turns what was said (an address, a name, nothing) into a node that answers; what it
*found* is a cluster and the node that proved it.

find.py     given, named, or found
sources.py  where to look, in order
local.py    the nodes of this machine, by their run records
clock.py    the time, in one place, so that tests can give another

Never here: what is asked of the node that was found.
"""
