"""Which node a command talks to.

Words. A *finder* turns what the user gave (an address, a name, nothing) into a node that answers.
What it *found* is a cluster, and the node that answered for it.

find.py     by address, by name, or by a search
sources.py  where a search looks, in order
local.py    the nodes of this machine, by their run records
here.py     through which member an order for the cluster goes: one on this machine
clock.py    the time, in one place, so that tests can give another

Never here: the requests to the node that was found (`client/`).
"""
