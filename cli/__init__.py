"""The command line of hstore: what a person or a script says to a cluster.

Words. A command is *thin*: options in, one call, print. Commands are synchronous: Trio runs for the
length of a search by DNS, and in a node that is started here.

main.py        the commands
options.py     options that several commands share
running.py     a command from its arguments to its exit status
config.py      config and rename
completion.py  what a shell asks while something is typed
spellings.py   the same commands as hstore-server, hstore-cli and lines of mgmt.py
mgmt.py        the commands as a script that runs without an install
__main__.py    the programs from their first moment

`client/`   talking to one node           `search/`  which node to talk to
`process/`  nodes that start and end      `shell/`   the shell
`show/`     tables and the live list      `dns/`     dns setup and dns doctor

No logic of a cluster lives here: it is asked over HTTP as by any other client.
"""
