"""Finding the cluster by name, and being found.

Words. A *newcomer* is a node that no cluster knows yet. A *source* is a place that may name members: a
host, a DNS server, this machine, the local network. *Announcing* is telling the local network of
this node. A *run record* says which nodes run on this machine.

sources.py        where everybody looks for a cluster
joining.py        a newcomer asks a member to let it in
saved_members.py  the members' addresses in a file, for commands that look while no node runs
run_record.py     one small file per node that runs or ran on this machine
announce.py       what a node tells its local network of itself, by multicast DNS
claims.py         whether a live cluster counts a new seed's address among its members
rediscovery.py    a member that lost its cluster looks for it again

Never here: the DNS protocol (`dns/`), or which node may join (`cluster/`).
"""
