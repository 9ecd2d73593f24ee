"""The command line of hstore: what a person or a script says to a cluster.

Words. A command is *thin*: options in, one call, print. A *finder* turns what was said (an address,
a name, nothing) into a node that answers; what it *found* is a cluster and the node that proved
it. A *sighting* is the cluster at one moment of a watch. Commands are synchronous: Trio runs for
the length of a search by DNS, and in a node that is started here.

main.py       the commands, exit statuses, and the form of errors; options.py, __main__.py
nodes.py      start and join: what is settled and refused before a node runs
find.py       which node to talk to; sources.py: where to look; client.py: talking to it
              (server_sent.py: its events, httpx_alone.py); clock.py: waiting
listing.py    list; watch.py follows a cluster, tables.py draws it; screen.py: what is redrawn
plain.py      text from the network, made harmless to a terminal
ending.py     stop, kill, leave
forwarding.py dns setup; resolvers.py: the files it prints
spellings.py  the same commands as hstore-server, hstore-cli, and lines of mgmt.py, a script
completion.py what a shell asks while something is typed
config.py     config, rename
doctor.py     dns doctor: what observations.py holds and diagnosis.py explains; name_service.py
shell.py      the shell; shell_commands.py what can be said in it, words.py how it is written,
              session.py to which node, suggestions.py what Tab offers
background.py a node in a process of its own; attached.py: beside the shell; healthy.py: is it well?
launching.py  what would start a node again, and starting it again in the same process
local.py      the nodes of this machine, by their run records
find.py       which node to talk to; client.py: talking to it; clock.py: waiting
listing.py    list; watch.py follows a cluster, tables.py draws it
ending.py     stop, kill, leave; restart.py: restart
demo.py       a cluster in a temporary directory

No logic of a cluster lives here: it is asked over HTTP as by any other client.
"""
