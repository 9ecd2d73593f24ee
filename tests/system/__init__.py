"""Real processes on loopback, real time, real `dig` and `curl`: what no other test can see.

`cluster.py` runs nodes, `load.py` writes to them and knows what was acknowledged; `clients.py` reads
and changes a few keys and has the checker judge what it was told; `network.py` gives each node a
network of its own, whose links can be cut; `chaos.py` has a disk and a log for each node as well, and
faults drawn from a seed, and `lost_majority.py` what comes after the last of them. Only what needs processes is tested here; each rule by
itself has its test in the folder of its room.
"""
