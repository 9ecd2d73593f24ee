#!/bin/sh
# HAProxy sends nothing to servers that it finds by SRV records of weight 0, also where all have 0.
#
# Software: HAProxy 2.6.12 (Debian 12).
#
# RFC 2782: "Domain administrators SHOULD use Weight 0 when there isn't any server selection to do",
# so a registry of equals publishes 0 for all of them, and clients choose by chance. HAProxy takes
# the number for its own weight of a server, where 0 means: no new traffic. The log says that the
# server is up and ready, and every request gets 503.
# Seen: weight 0: 503, the server is not in maintenance and has weight 0; weight 1: 200.
# The cure: publish 1.
set -eu
version=$(dpkg-query -W -f '${Version}' haproxy)
echo "haproxy $version"
case $version in 2.6.12-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'EOF2'
import http.client
import http.server
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

folder = Path(sys.argv[1])
SRV = 33
TARGET = b"\x04host\x04test\x07example\0"
weight = 0


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(server):
    while True:
        query, client = server.recvfrom(9000)
        end = query.index(b"\0", 12) + 5
        if query[end - 3] == SRV:
            data = bytes([0, 0, 0, weight]) + web.server_port.to_bytes(2, "big") + TARGET
            record = b"\xc0\x0c\0\x21\0\1\0\0\0\1" + len(data).to_bytes(2, "big") + data
        else:
            record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
        server.sendto(query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + query[12:end] + record, client)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def through_haproxy():
    """Return the status once the server is up, and what HAProxy says of the server."""
    front, stats = free_port(), free_port()
    file = folder / "haproxy.cfg"
    file.write_text(f"""
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers stub
    nameserver one 127.0.0.1:{upstream}
    hold valid 1s
frontend front
    bind 127.0.0.1:{front}
    default_backend back
frontend stats
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
backend back
    server-template node 1 _web._tcp.test.example resolvers stub resolve-prefer ipv4 init-addr none
""")
    haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with subprocess.Popen([haproxy, "-db", "-f", file], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                time.sleep(0.1)
                try:
                    table = get_stats(stats)
                except ConnectionRefusedError:
                    continue
                if not table["status"].startswith("MAINT"):
                    break
            return get(front)[0], f"{table['status']}, weight {table['weight']}"
        finally:
            process.kill()


def get_stats(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/;csv")
    head, *rows = connection.getresponse().read().decode().splitlines()
    row = next(row for row in rows if row.startswith("back,node1"))
    return dict(zip(head.split(","), row.split(","), strict=False))


web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
upstream = server.getsockname()[1]
for target, args in ((web.serve_forever, ()), (serve, (server,))):
    threading.Thread(target=target, args=args, daemon=True).start()
none, said_of_none = through_haproxy()
weight = 1
some, said_of_some = through_haproxy()
print(f"SRV weight 0: {none}, server {said_of_none}; SRV weight 1: {some}, server {said_of_some}")
sys.exit(0 if (none, some) == (503, 200) and "MAINT" not in said_of_none else "this has changed")
EOF2
