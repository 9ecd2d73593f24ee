"""The HTTP API: which path does what.

Words. A *route* is a method and a path with the handler that answers them. A *handler* turns one
request into calls of the *backend*, which is the node and all that is known of it here.

routes.py   every path and method
backend.py  what the API asks of the node
simple.py   /read, /write, /update, /delete
kv.py       /v1/kv
cluster.py  /v1/cluster, /v1/status, /v1/health, /v1/events, joining
watch.py    /v1/watch
admin.py    stop, kill, leave, transfer
config.py   settings and names
`http/`     HTTP/1.1 itself

Never here: storage, or anything of the node beyond its backend.
"""
