"""Settings: of one node, and of the whole cluster.

Words. A *node setting* comes from a flag, a variable, a file or a default. A *cluster setting* lives
in the log and is the same on every node.

settings.py          the settings of one node, and where each came from
cluster_settings.py  the settings all nodes share: names, ranges, defaults
logs.py              what the process logs, where to, and from which level on

Never here: changing a cluster setting (that is a command in the log; see `cluster/`).
"""
