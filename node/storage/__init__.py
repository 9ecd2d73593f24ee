"""What a node keeps on disk: the log, the hard state, and the keys, in one RocksDB.

Words. A *write* has been handed to the operating system; a *flush* makes every write durable that
returned before the flush began. A *family* is RocksDB's column family: one for the log, one for the
state. A *generation* numbers the families of states; one of them is in force. A *view* reads the
state as of one moment. The *chain hash* of an index is the same on two nodes if their logs are the
same up to there.

interface.py     what the driver may ask: `Storage`, and the rule behind it
rocks.py         `Storage` on RocksDB: creating, opening, loading, flushing, installing a snapshot
rocks_log.py     the family of the log: what is appended, compacted, replaced and read back
rocks_state.py   the family of the state, and the family that a snapshot is written to
recovery.py      what a node may believe of its own disk: pure decisions
witness.py       the file that records how much was durable
manifest.py      notices that RocksDB's MANIFEST lost its end
rocks_recovery.py  reads a database for `recovery.py`, damage included
codec.py         the bytes of the log family, CRC and chain hash
directory.py     the files around the database, the lock, the identity; how much room there is
engine.py        the only module that opens RocksDB; the traps of rocksdict
views.py         reads a family as of one moment, or a damaged one as far as it goes
flusher.py       the thread that flushes
reclaim.py       gives back the room of what was deleted
measures.py      sizes, load and the cache's hits, for people
deleted_files.py  frees deleted files in small pieces, so that no flush waits for it
options.py       RocksDB's settings: memory, stalls, recovery

Never here: roles, links, commands, requests, or what an entry means.
"""
