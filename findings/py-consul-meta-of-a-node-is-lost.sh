#!/bin/sh
# py-consul registers a node without the meta that it was given.
#
# Software: py-consul 1.8.0 (the newest).
#
# Consul takes the meta of a node from `NodeMeta` of the body of `PUT /v1/catalog/register`, and knows no
# query parameter there. `catalog.register(..., node_meta={"env": "prod"})` puts it into the query, as a
# filter of the paths that read (`?node-meta=env:prod`), and not into the body. So the node has no meta, and
# the call gives True.
# Seen: the path has ?node-meta=env:prod, the body has no NodeMeta.
# The cure: a request of one's own, with `NodeMeta` in the body. A server that refuses parameters which it
# does not know has to take this one.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet py-consul==1.8.0
"$dir/venv/bin/python" - <<'EOF2'
import http.server
import json
import sys
import threading
from importlib.metadata import version

import consul

asked = []


class Takes(http.server.BaseHTTPRequestHandler):
    """Answers a PUT as Consul does when it has registered a node."""

    def do_PUT(self):
        asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_):
        pass


print(f"py-consul {version('py-consul')}")
server = http.server.HTTPServer(("127.0.0.1", 0), Takes)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = consul.Consul(port=server.server_port)
result = client.catalog.register("db-1", "192.0.2.7", node_meta={"env": "prod"})
((path, body),) = asked
print(f"asks {path} with {body}, gives {result}")
is_so = "node-meta=env" in path and "nodemeta" not in {name.lower() for name in body} and result
sys.exit(0 if is_so else "this has changed")
EOF2
