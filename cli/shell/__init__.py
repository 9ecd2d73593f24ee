"""The shell: `hstore cli`, and where a started node leaves its user.

shell.py        reads lines, runs them, ends
commands.py     what can be said, and its help
words.py        a line as words: quotes, escapes, values from files
suggestions.py  what Tab offers
connection.py   the node it talks to, and the next one when that dies

Never here: requests (`client/`), tables (`show/`).
"""
