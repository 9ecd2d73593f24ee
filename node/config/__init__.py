"""Settings: of one node, and of the whole cluster.

Words. A *node setting* comes from a flag, a variable, a file or a default. A *cluster setting* lives
in the log and is the same on every node.

settings.py          the settings of one node: names, defaults, limits
sources.py           a setting from a flag, a variable, the file, or its default
cluster_settings.py  the settings that all nodes share: names and limits (their defaults are in
                     `ClusterSettings`, among the commands of `model/`)
own_files.py         files and directories that belong to this user alone
logs.py              the process's log: its level and form, and who follows it
log_forms.py         how a line of the log looks: text, JSON, for journald
log_followers.py     a bounded queue of lines for one reader of the log
command_limits.py    what a command in the log may hold, whichever node proposed it
log_limit.py         which of the log lines that repeat are written

Never here: the change of a cluster setting (a command in the log; see `cluster/`).
"""
