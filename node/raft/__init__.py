"""Raft consensus as a pure state machine: events in, one update out; no clock, I/O or randomness.

Words. An *entry* has an index, a term, a kind and opaque bytes. A *tick* is one heartbeat interval.
*Persisted* is durable on this node, *committed* is durable on a quorum, *applied* has taken effect.
A *gated* message promises something to its receiver, so it leaves only once that is durable.
A *round* is a numbered broadcast of heartbeats. "Section 5.3" is of the Raft paper (extended
version), "thesis section 6.4" of Diego Ongaro's dissertation; "etcd#14633" is an issue of a project
that had the bug.

The interface: core.py (`Core.step`), events.py in, update.py out, errors.py; options.py has every
               limit, such as how far a learner that becomes a voter may be behind
The data:      entry.py, membership.py, messages.py, roles.py
Bookkeeping:   log.py of this node, progress.py of each peer, quorum.py the majorities
Behaviour:     terms.py, through which every message enters; then election.py, replication.py,
               reads.py, reconfigure.py (membership changes), transfer.py (of the lead), all functions
               of a core

Never here: an import from another room, or anything that lets two runs of the same events differ.
"""
