#!/bin/sh
# consulate's TTL words and deregistrations do nothing since Consul 1.0, and it raises nothing.
#
# Software: consulate 0.6.0 (the newest).
#
# `agent.check.ttl_pass`, `ttl_warn`, `ttl_fail`, `agent.check.deregister` and `agent.service.deregister`
# ask by GET. Consul 1.0 took these away: they are PUT only, and GET is answered with 405. consulate makes
# False of every status but 200, so a program that does not look at it registers a service that is
# critical when its TTL is over, and never deregisters it. Registering is a PUT, and works.
# Seen: a server that answers 405 to GET; the five calls gave False, and none raised.
# The cure: PUT requests of one's own for these paths, or another client.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet consulate==0.6.0
"$dir/venv/bin/python" - <<'EOF2'
import http.server
import sys
import threading
from importlib.metadata import version

import consulate

asked = []


class PutOnly(http.server.BaseHTTPRequestHandler):
    """Answers as Consul since 1.0: these paths are PUT."""

    def do_GET(self):
        asked.append(f"GET {self.path}")
        self.answer(405)

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


print(f"consulate {version('consulate')}")
server = http.server.HTTPServer(("127.0.0.1", 0), PutOnly)
threading.Thread(target=server.serve_forever, daemon=True).start()
agent = consulate.Consul("127.0.0.1", server.server_port).agent
registered = agent.service.register("web", ttl="10s")
check = agent.check
calls = (check.ttl_pass, check.ttl_warn, check.ttl_fail, check.deregister, agent.service.deregister)
given = [call("web") for call in calls]
print("\n".join(asked))
print(f"register gave {registered}, the five calls gave {given}")
is_so = registered is True and given == [False] * 5 and len(asked) == 5
sys.exit(0 if is_so else "this has changed")
EOF2
