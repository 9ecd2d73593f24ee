"""The HTTP API: which path does what.

Words. A *route* is a record: a method and a path, the handler that answers them, and what a request
must be like to reach it. A *right* is what a token will have to allow before a route may be used. A
*gate* is the checks that follow from the record; a request passes them before its handler runs. A
*handler* turns one request into calls of the backend, and their results into an answer. The
*backend* is the node as the API sees it: its keys, its membership of the cluster, its process, its
settings.

routes.py      the table: every path and method, with what it demands
gate.py        the record, the gate made from it, and the way from a request to its route
parameters.py  which query parameters a path knows, and which it must not ignore
simple.py      /read, /write, /update, /delete
watch.py       /v1/watch
browse.py      /v1/ui/services, instances and keys: the dashboard's lists by pages
cluster.py     /v1/cluster, /v1/health, /v1/events, /v1/timeline, /v1/node/load, joining
monitor.py     /v1/agent/monitor: the log of this node as it comes
config.py      settings and names
metrics.py     /metrics, /v1/agent/metrics, targets for Prometheus
statistics.py  /v1/statistics
admin.py       stop, restart, kill, leave, remove, transfer
ask_dns.py     what this node's DNS server answers, for the dashboard
sessions.py    who holds what for how much longer, for the dashboard
ui.py          the files of the dashboard, the stream of its tabs, what only it asks for
paging.py      what those lists have in common: how much a page may cost, and where it begins
items.py       an item in an answer, its 404, the age of a stale copy: shared by three handlers
rendered.py    bodies of answers that many ask for, kept as long as they are right, and shared waits
backend.py     what the API asks of the node
figures.py     what it asks of the figures of the node
`consul/`      the paths of Consul's clients; hstore's own are the modules above
`dialect/`     what the paths of Consul's clients have in common
`http/`        HTTP/1.1 itself

Never here: storage, or anything of the node beyond its backend. Never in a handler: a check of who
asks, which is the gate's.
"""
