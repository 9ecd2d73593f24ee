"""One hstore node: a process with a data directory, a name and a permanent id.

Words. The *core* (`raft/`) decides and does nothing; the *driver* (`driver/`) carries out what the
core decided, in the one order that is safe. A *turn* is one pass of the driver over the *events*
that have gathered. A *command* is what an entry of the log asks of the *state*; its *outcome* is
the same on every node. A *link* carries frames to one peer. A *request* waits until it is answered.

node.py    puts the rooms together
errors.py  every error that a user can meet

The rooms, each importing only from those below it (import-linter checks this):

`process/`               the process: directory, listeners, signals, how it ends
`discovery/`             finding the cluster, and being found
`api/`                   HTTP
`cluster/`               membership, status, settings, snapshots and the comparison of replicas
`driver/`                the core's driver and the requests that wait in it
`state/`                 the state machine
`peers/`                 links between nodes
`storage/`               the disk
`raft/`                  consensus, pure
`config/` `net/` `model/`  settings; sockets; commands and values

Never here: a third module. What fits no room is a reason to look for the room it belongs to.
"""
