"""`hstore lock`: a command that runs while a lock is held.

Words. A *session* owns the lock and lives as long as it is renewed. The *command* is what the user wants
to run, the *child* its process. The lock *may be lost* once the session's TTL has passed since its last
successful renewal was sent, by this machine's clock; nobody can know better.

command.py   `hstore lock`, from its options to its exit status
holding.py   waits for the lock, runs the command, ends it in time, frees the lock
keeping.py   one session, renewed until it has ended
lease.py     when to renew, and when the command must be ended
members.py   requests that go to another member when one does not answer
child.py     the command's process, its group and its terminal

Never here: how a request is written (`client/`), and which cluster is meant (`search/`).
"""
