"""The command line of hstore.

Words. A command is *thin*: options in, one call, print. Commands are synchronous: Trio runs only
during a search by DNS, in `hstore lock`, and in a node that is started here.

main.py        the commands, with their arguments and their help
keys.py        the commands about keys and nodes that the shell has, too
locking.py     those about sessions, locks and transactions
connected.py   what these have in common: the connection to a node, words in place of options
vocabulary.py  how words are read: two names of a command, likely words, options in any order
options.py     options that several commands share
streams.py     standard input, output and error: open, and lost output is noticed
messages.py    sentences for a person, broken between words at a terminal
running.py     a command from its arguments to its exit status
config.py      config, rename and transfer
monitor.py     the log of a node, followed through its restarts
completion.py  completion in bash, zsh and fish (in the shell of hstore: `shell/`)
spellings.py   the same commands as hstore-server, hstore-cli and lines of mgmt.py
mgmt.py        the commands as a script that runs without an install
__main__.py    the entry points of the programs

`client/`   talking to one node           `search/`  which node to talk to
`process/`  nodes that start and end      `shell/`   the shell
`show/`     tables and the live list      `dns/`     dns setup and dns doctor
`lock/`     a command while a lock is held `services/`  services, checks and maintenance
`top/`      what the nodes do, live

Never here: the logic of a cluster. A command asks a node over HTTP, as any other client does.
"""
