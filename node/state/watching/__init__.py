"""Changes of the state, and who waits for them.

Words. A *change* names a table and a key
of it that got another value or was deleted; the *history* is the latest changes of all tables. A
*watch* reads the changes under a prefix of one table; a *wait* is called after one change. A *wake*
is a change of the catalog, which is told and not kept; a *listener* is called with each.

changes.py    the history, bounded
watches.py    watches, and the waking of watches and waits
waits.py      waits, and which of them a change ends
by_prefix.py  things found by the beginnings of a key

Never here: a connection or a task; who waits is called, or finds a flag set.
"""
