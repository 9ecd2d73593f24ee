"""The state machine: what committed commands do, the same on every node.

Words. A *record* is a value as stored. A *batch* collects the effects of several entries. A *change*
is one key that got another value or was deleted. A *watch* reads changes under a prefix.

machine.py      applies entries; the one place that knows all commands
records.py      the layout of keys and values in the store
members.py      what commands about settings and members do
idempotency.py  which keyed writes took effect, and what was answered
changes.py      the latest changes of keys, bounded
watches.py      who watches which keys

Never here: a clock, randomness, I/O beyond the store, or an order that depends on a hash seed.
"""
