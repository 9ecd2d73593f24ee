#!/bin/sh
# consulate says of every lock that it was taken, also when it was refused, since Python 3.9.
#
# Software: consulate 0.6.0 (the newest), Python 3.9 or newer.
#
# It decodes answers by `json.loads(text, encoding="utf-8")`. Python 3.9 took that argument away, so the
# call raises TypeError. consulate catches it together with ValueError, as if the text were no JSON, and
# gives the text as it is. Nothing is raised and nothing is logged, and what was False is now 'false',
# a text that counts as true: `if consul.kv.acquire_lock(key, session)` is passed by all contenders at
# once. Sessions fail loudly instead ('str' has no 'get').
# Seen: a server that answers `false` to ?acquire=; acquire_lock gives 'false', bool() of it is True.
# The cure: put back a json.loads that takes `encoding` and drops it, or another client.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet consulate==0.6.0
"$dir/venv/bin/python" - <<'EOF2'
import http.server
import json
import sys
import threading
from importlib.metadata import version

import consulate


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers a PUT as Consul answers who comes second for a lock."""

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"false")

    def log_message(self, *_):
        pass


print(f"consulate {version('consulate')}, Python {sys.version.split()[0]}")
server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
kv = consulate.Consul("127.0.0.1", server.server_port).kv
given = kv.acquire_lock("lock", "11111111-1111-1111-1111-111111111111")
print(f"the server says false; acquire_lock gives {given!r}, which counts as {bool(given)}")

loads = json.loads
json.loads = lambda text, encoding=None, **named: loads(text, **named)
mended = kv.acquire_lock("lock", "11111111-1111-1111-1111-111111111111")
print(f"with a json.loads that takes `encoding`: {mended!r}")
sys.exit(0 if (given, mended) == ("false", False) else "this has changed")
EOF2
