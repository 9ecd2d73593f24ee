#!/bin/sh
# python-consul2 registers a script check as a TTL check, which is critical for ever.
#
# Software: python-consul2 0.1.5 (the newest).
#
# `agent.service.register(name, script=..., interval="10s")`, which python-consul has as deprecated and
# which its users carry over, sends {"script": ..., "ttl": "10s"}: the interval has become a TTL. Consul
# has had no member `script` since 1.0 and ignores it, so it takes a TTL check of 10 s. Nothing is raised,
# the call gives True, and since nobody ever says `pass`, the service is never healthy. python-consul
# 1.1.0 sends "interval" there, and is told that its check is none.
# Seen: the body has `ttl` and no `interval`.
# The cure: check=Check.script([...], "10s"), which sends `args` and `interval`.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet python-consul2==0.1.5
"$dir/venv/bin/python" - <<'EOF2'
import http.server
import json
import sys
import threading
from importlib.metadata import version

import consul

asked = []


class Takes(http.server.BaseHTTPRequestHandler):
    """Answers a PUT as Consul does when it has registered a service."""

    def do_PUT(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


print(f"python-consul2 {version('python-consul2')}")
server = http.server.HTTPServer(("127.0.0.1", 0), Takes)
threading.Thread(target=server.serve_forever, daemon=True).start()
service = consul.Consul(port=server.server_port).agent.service
result = service.register("web", script="/bin/true", interval="10s")
service.register("web", check=consul.Check.script(["/bin/true"], "10s"))
wrong, right = (body["check"] for body in asked)
print(f"script= and interval= send {wrong}, and give {result}")
print(f"Check.script sends {right}")
is_so = wrong == {"script": "/bin/true", "ttl": "10s"} and result is True
sys.exit(0 if is_so and right == {"args": ["/bin/true"], "interval": "10s"} else "this has changed")
EOF2
