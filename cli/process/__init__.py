"""Nodes as processes: started, restarted, ended.

Words. A node runs in the *foreground*, *attached* to the shell of its terminal, or in the
*background*. It is *healthy* when it leads or follows, and votes or has caught up.

start.py       start and join: settings, ports and refusals before the node runs
together.py    start on machines that share a configuration file: who begins, who joins
background.py  a node in a process of its own
attached.py    a node beside the shell in one terminal
launching.py   runs a node in this process, with its log, and the command line for a restart
healthy.py     waits until a started node leads or follows
restart.py     `restart`
ending.py      `stop`, `kill`, `leave`
end_all.py     `stop --all`: the end of a whole cluster
recover.py     `recover`: a stopped node's directory after a lost majority
demo.py        `demo`: a cluster in a temporary directory

Never here: what runs inside the node's process (`hstore.node.process`).
"""
