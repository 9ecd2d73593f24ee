"""The driver of the core: takes events in, carries out its updates, answers requests.

Words. A *turn* handles all events that have gathered. An *update* is what the core wants done. A
*request* is a client's write or read, until it is answered. A *forwarded* request was sent to the
leader by another node. *Facts* are what other folders may know of the core and the state.

replica.py         one task owns the core, and alone decides the order of write, send and apply
operations.py      what callers have a replica do and wait for: propose, read, ask the core
facts.py           what other folders may know of the core and the state
decisions.py       what a leader decides by itself: written in its term or never
intake.py          requests on their way into the core, or to the leader
requests.py        requests that wait for an answer
forwarding.py      how an outcome travels back to the node that forwarded a request
bundles.py         one frame per peer per turn for forwarded requests and replies
replies.py         replies that are sent once more when a link was made anew
disk_writer.py     writes what the core wants kept, one batch for each
flushes.py         one flush after another, and what waits for its end
compaction.py      when the log is cut, and how much of it stays
recovered_core.py  a core made from what was durable
disk_space.py      refuses writes while disks are short of room (`storage/` says when)
reclaimer.py       has the storage give room back while the disk is short of it
leadership.py      notices that the leader, the members or the settings changed
commit_news.py     tells followers of a commit that no entries follow
cluster_clock.py   the cluster's time, which the leader stamps on commands
ticks.py           the waits between ticks, whose length is a setting
contact.py         whether this node is in contact with the present leader
freshness.py       asks the leader how old this node's copy is, and whether it still leads
key_counting.py    counts users' keys in the background, after a start for instance
keys.py            reads and writes of keys, as clients ask for them

Never here: a decision of the protocol (that is `raft/`), or what a command means (`state/`).
"""
