"""The HTTP/1.1 API of a node, on Trio and httptools.

Words. A *connection* turns bytes into whole requests or one refusal. An *answer* is bytes, or a
*streaming* that makes its body while it is sent. An *exchange* is the node as the handlers of one
connection see it. A *barrier* is the wait after which a local read is linearizable. A *listing*
walks over many keys as of one moment. The *backend* is the node, and all that is known of it here.

Bytes:    server.py, serving.py, connection.py (no I/O), answers.py
Between:  exchange.py, routes.py, guard.py (browsers kept out), values.py, idempotency.py,
          backend.py
Handlers: simple.py (/read, /write), kv.py (/v1/kv), listing.py, cluster.py, watch.py, admin.py,
          config.py
"""
