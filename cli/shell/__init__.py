"""The shell: `hstore cli`, and what `start` and `join` open on a terminal.

shell.py        reads lines, runs them, ends
commands.py     the commands, and their help
words.py        a line as words: quotes, escapes, values from files
suggestions.py  what Tab offers
connection.py   the node it talks to, and the next node when that one dies

Never here: requests (`client/`), tables (`show/`).
"""
