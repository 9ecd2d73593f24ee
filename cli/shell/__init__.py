"""The shell: `hstore cli`, and what `start` and `join` open on a terminal.

Words. A *line* is split into *words*, the first of which names a *command*. A *suggestion* is what Tab
offers for the word that is being typed.

shell.py        reads lines, ends
lines.py        one line, run; and help
commands.py     what the commands do, here and on the command line
sessions.py     what those about sessions and locks do
transactions.py `txn`: operations, a line each, and what they answer
words.py        a line as words: quotes, escapes, values from files
suggestions.py  what Tab offers
connection.py   the node it talks to, and the next node when that one dies

Never here: requests (`client/`), tables (`show/`).
"""
