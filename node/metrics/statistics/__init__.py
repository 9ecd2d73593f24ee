"""A node's figures over time: kept by the node itself, for ten minutes to seven days.

Words. A *point* is one number of each series, about one span of time. A *ring* is a fixed number of
points, of which the newest overwrites the oldest. A *question* asks one node for points.

rings.py    the points, in arrays of fixed size
sampler.py  makes a point of the difference between two readings of the totals
saved.py    a file of what a restart should not lose, which may be lost
asked.py    questions to the other members, over the links between nodes
history.py  one node's statistics put together: filled, saved, asked for

Never here: counters (they are where the work is done), HTTP, and anything that would end a node.
"""
