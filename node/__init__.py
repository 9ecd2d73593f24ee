"""One hstore node: a process with a data directory, a name and a permanent id.

Words. The *core* (`raft/`) decides and does nothing; the *driver* (`replica.py`) does what the core
wants, in the one order that is safe. A *turn* is one pass of the driver over the *events* that have
gathered. A *command* is what an entry of the log asks of the *state*; its *outcome* is the same on
every node. A *link* carries frames to one peer. A *request* waits here until it is answered.

The process:       main.py, settings.py, values.py, sockets.py, joining.py, errors.py, launch.py,
                   run_record.py, log_file.py, logs.py, cutoff.py
The node:          node.py puts the rooms together; replica.py, intake.py, flushes.py, requests.py,
                   forwarding.py, bundles.py, compaction.py, restart.py, room.py, freshness.py,
                   changes.py, commit_news.py, flag.py, pace.py
Sockets:           poller.py, stream.py, lag.py
The cluster:       members.py, handover.py, status.py, cluster.py, replica_check.py, configure.py,
                   cluster_settings.py
To be found:       saved_members.py, multicast.py, rediscovery.py
Between nodes:     peers.py, link.py, wire.py, snapshots.py, snapshot_transfer.py
The state machine: commands.py, state.py, state_cluster.py, state_records.py, sessions.py
Watching:          history.py, watches.py
Rooms:             `raft/` consensus, `storage/` the disk, `api/` HTTP

`main` runs `node`, which runs `replica`, which asks the core; none of them knows who calls it.
"""
