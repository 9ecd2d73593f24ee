"""The cluster seen from one node: who belongs, who is well, what all agree on.

Words. *Membership* is who belongs and who votes. *Status* is who leads and who is healthy. A
*handover* gives the lead, or the vote, to others before a node ends.

membership.py     keeps the configuration as the log wants it, at the leader
handover.py       what a node hands over before it ends
operations.py     what clients ask: show, join, remove, leave, transfer
this_node.py      one node's name, health and end
status.py         who leads, who is healthy, how far everyone has come
configure.py      settings and names, changed while the cluster runs
replica_check.py  the replicas compare what they hold
snapshots.py      whole states between nodes

Never here: consensus (`raft/`), sockets, or HTTP.
"""
