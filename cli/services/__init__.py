"""Services, checks and maintenance, as commands.

Words. A *place* is the node on which something is registered: the member that is asked, or the one that
`--node` names. A *sight* is what a node has shown at one moment, as rows of a table and as JSON.

commands.py     the commands and their options
registering.py  register, deregister, maint
files.py        Consul's service files
reading.py      services, checks: once, and as they change

Never here: requests to a node (`client/`), or how tables are drawn (`show/`).
"""
