"""The users' keys: their values, the locks on them, and which of them are gone.

Words. A *hold* is a lock that a session has on a key. A *lock delay* is the time in which nobody gets a
lock whose session ended. A *deletion* is kept with its index, so that the index of what was deleted
never goes back; the *floor* is the index under which deletions were forgotten.

keys.py       writes and deletions of keys, one or a whole prefix
locks.py      locks on keys: who gets one, and what the end of a session does to them
holds.py      which locks are held, and which keys are under a lock delay
deletions.py  the deletions that are kept, of keys and of all else that is read with an index
latest.py     how kept deletions are found by prefix
key_count.py  how many keys there are

Never here: how long a session lives, which the leader's clocks decide.
"""
