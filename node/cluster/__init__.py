"""The cluster seen from one node: its members, their health, its settings.

Words. *Membership* is which nodes belong and which vote. A *wish* is what the log wants of the
membership, before the configuration has followed. *Status* is which node leads, and the health of
all. A *handover* gives the lead, or the vote, to others before a node ends.

membership.py         requests to join, leave, stop, vote or lead, answered at the leader
reconciler.py         brings the configuration to what the log wants, at the leader
administration.py     what clients ask, at the node that they ask: show, join, remove, leave, transfer
this_node.py          one node's name, health and end
handover.py           what a node hands over before it ends
shutdown.py           the end of the whole cluster, followers first
rooms.py              what the leader does about disks that are short of room
session_clocks.py     the clocks of sessions, which the leader keeps, and their renewal
session_nodes.py      sessions end because their node is gone, or a check of it is critical
session_ends.py       the ends of sessions that the leader has decided, a few at a time
status.py             bulletins and reports, and what follows from them
timeline.py           what has happened to the cluster, as this node saw it
health.py             judges the members: alive, suspect, failed; and contact with the leader
catalog_duties.py     what the leader does about the catalog: these three
serf_health.py        the check `serfHealth` of each member, which the leader sets
check_owners.py       which member runs the checks of which external node
critical_services.py  services go whose check is critical for too long
outlook.py            why there is no leader, and which command ends that
write_rate.py         how many entries a node applies per second
overview.py           the `/v1/cluster` object and the view for DNS, put together
dns_lookup.py         services and nodes, as the DNS server asks for them
configure.py          settings and names, changed while the cluster runs
founding.py           whether a cluster that was just founded can still be given up
alarms.py             what an operator has to mend
clocks.py             whether this machine's clock was set, or a member's differs from it
replica_check.py      the replicas compare what they hold
snapshot_sender.py    sends whole states to members that are too far behind
snapshot_feed.py      sends them the entries that follow a snapshot, from the leader's disk
snapshot_receiver.py  takes in whole states

Never here: consensus (`raft/`), sockets, or HTTP.
"""
