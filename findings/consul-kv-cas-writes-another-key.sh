#!/bin/sh
# consul-kv's compare-and-set writes another key than its plain put, and with 0 it compares nothing.
#
# Software: consul-kv 0.7.4 (the newest).
#
# Consul's `?cas=N` writes only if the key has the index N, and `?cas=0` only if it does not exist. With
# `put(key, value, cas=N)` consul-kv puts a slash between key and parameters: it asks for `/kv/KEY/?cas=N`,
# and in Consul `KEY/` is another key than `KEY`. So nothing of what `get_cas` has read is ever replaced:
# the write is refused or makes a second key. `cas=0` is taken for "no cas": the key is overwritten,
# whoever has it. And `put` returns None in all cases: Consul's answer, `true` or `false`, is not looked at.
# Seen: put("a", "x", cas=5) asks /v1/kv/a/?cas=5; put("a", "x", cas=0) asks /v1/kv/a; both give None.
# The cure: put_mapping with the verb "cas" to make keys; for all else a request of one's own.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet consul-kv==0.7.4
"$dir/venv/bin/python" - <<'EOF2'
import http.server
import sys
import threading
from importlib.metadata import version

from consul_kv import Connection

asked = []


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers a PUT as Consul does when the index is not the one that was given."""

    def do_PUT(self):
        asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"false")

    def log_message(self, *_):
        pass


print(f"consul-kv {version('consul-kv')}")
server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = Connection(endpoint=f"http://127.0.0.1:{server.server_port}/v1/")
given = [connection.put("a", "x"), connection.put("a", "x", cas=5), connection.put("a", "x", cas=0)]
for call, path, result in zip(("put", "put, cas=5", "put, cas=0"), asked, given):
    print(f"{call}: asks {path}, is told false, gives {result}")
is_so = asked == ["/v1/kv/a", "/v1/kv/a/?cas=5", "/v1/kv/a"] and given == [None, None, None]
sys.exit(0 if is_so else "this has changed")
EOF2
