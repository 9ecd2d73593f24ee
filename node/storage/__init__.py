"""What a node keeps on disk: the log, the hard state, and the keys, in one RocksDB.

Words. A *write* is in the hands of the operating system; a *flush* makes durable every write that
returned before it began. A *family* is RocksDB's column family: one for the log, one for the state.
A *generation* numbers the families of states; one is in force. A *view* reads as of one moment.
The *chain hash* of an index tells whether two logs are the same up to there.

interface.py     what the driver may ask: `Storage`, and the rule behind it
rocks.py         `Storage` on RocksDB: which batches, in which order
rocks_state.py   the state's family, and one on its way in
recovery.py      what a node may believe of its own disk: pure decisions
witness.py       the file that says how much was durable
rocks_recovery.py  a database as `recovery.py` wants to see it, damage included
codec.py         the bytes of the log family, CRC and chain hash
directory.py     the files around the database, the lock, the identity
engine.py        the one door to rocksdict, and its traps
flusher.py       the thread that flushes
deleted_files.py  gives the room of deleted files back piece by piece, so that no flush waits for it
options.py       memory, stalls, recovery: RocksDB's settings

Nothing here knows of roles, links, commands or requests.
"""
