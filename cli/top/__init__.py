"""`hstore top`: what the nodes of a cluster do now, and did in the last two minutes.

Words. A *reading* is the cluster and the statistics of all its nodes at one moment. A *trace* is one
series of one node, the newest point last.

command.py   the command: once, as JSON, or live
readings.py  one reading after the other, from one node to the next when the one that is asked ends
figures.py   how a figure is written, and its sparkline
picture.py   a reading as a table, and as a picture fitted to the size of a terminal

Never here: the terminal itself (`show/`), or what the series mean (docs/statistics.md).
"""
