"""Finding the cluster by name, and being found.

Words. A *newcomer* is a node that no cluster knows yet. A *source* is a place that may name members: a
host, a DNS server, this machine, the local network. *Announcing* is telling the local network of
this node.

joining.py        a newcomer asks a member to let it in
saved_members.py  the members' addresses in a file, for commands that look while no node runs
announce.py       what a node tells its local network of itself, by multicast DNS
claims.py         whether a live cluster counts a new seed's address among its members
rediscovery.py    a member that lost its cluster looks for it again

Never here: the DNS protocol (`dns/`), or which node may join (`cluster/`).
"""
