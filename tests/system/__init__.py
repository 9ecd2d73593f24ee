"""Real processes on loopback, real time, real `dig` and `curl`: what no other test can see.

`cluster.py` runs nodes, `load.py` writes to them and knows what was acknowledged; `clients.py` reads
and changes a few keys and has the checker judge what it was told; `network.py` gives each node a
network of its own, whose links can be cut. Only what needs processes is tested here; each rule by
itself has its test in the folder of its room.
"""
