#!/bin/sh
# HAProxy takes a truncated SRV answer as the whole, and ignores a truncated A answer.
#
# Software: HAProxy 2.6.12 (Debian 12).
#
# RFC 2181 section 9: a client should ignore an answer with TC and ask again by TCP. HAProxy with a
# nameserver by UDP never asks by TCP. Of A records it ignores the answer, and servers stay as they
# were. Of SRV records it takes those that are there as all there are, so the servers that were cut
# off are taken out of service: with records in a random order, other ones each time.
# Seen: two servers; then TC with the first record only. By SRV one server is left, by A both are.
# The cure: let it take large answers (accepted_payload_size 8192), and cut off the same records for
# the same client each time.
set -eu
version=$(dpkg-query -W -f '${Version}' haproxy)
echo "haproxy $version"
case $version in 2.6.12-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'EOF2'
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

folder = Path(sys.argv[1])
A, SRV, OPT = 1, 33, 41
is_cut = False


def record(rtype, data):
    return b"\xc0\x0c" + bytes([0, rtype, 0, 1, 0, 0, 0, 1]) + len(data).to_bytes(2, "big") + data


def serve(server):
    while True:
        query, client = server.recvfrom(9000)
        end = query.index(b"\0", 12) + 5
        name, rtype = query[12 : end - 4], query[end - 3]
        if rtype == SRV:
            hosts = [b"\x02h1\x04test\x07example\0", b"\x02h2\x04test\x07example\0"]
            records = [record(SRV, bytes([0, 1, 0, 1, 0, 80]) + host) for host in hosts]
        elif rtype == A and name.startswith(b"\x02h"):
            records = [record(A, bytes([127, 0, 0, name[2] - 48]))]
        elif rtype == A:
            records = [record(A, bytes([127, 0, 0, 1])), record(A, bytes([127, 0, 0, 2]))]
        else:
            records = []
        cut = is_cut and len(records) > 1
        if cut:
            records = records[:1]
        flags = bytes([0x86 if cut else 0x84, 0])
        counts = bytes([0, 1, 0, len(records), 0, 0, 0, 0])
        server.sendto(query[:2] + flags + counts + query[12:end] + b"".join(records), client)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def servers(port):
    """Return how many servers have an address, of each backend."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/;csv")
    head, *rows = connection.getresponse().read().decode().splitlines()
    tables = [dict(zip(head.split(","), row.split(","), strict=False)) for row in rows]
    nodes = [one for one in tables if one["svname"].startswith("node")]
    return tuple(
        sum(one["# pxname"] == name and not one["status"].startswith("MAINT") for one in nodes)
        for name in ("srv", "a")
    )


def wait_for(port, expected, seconds):
    found = None
    for _ in range(int(seconds * 10)):
        time.sleep(0.1)
        try:
            found = servers(port)
        except ConnectionRefusedError:
            continue
        if found == expected:
            return found
    return found


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
stats = free_port()
file = folder / "haproxy.cfg"
file.write_text(f"""
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers stub
    nameserver one 127.0.0.1:{server.getsockname()[1]}
    hold valid 1s
    timeout resolve 500ms
    timeout retry 500ms
frontend stats
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
backend srv
    server-template node 4 _web._tcp.test.example resolvers stub resolve-prefer ipv4 init-addr none
backend a
    server-template node 4 web.test.example:80 resolvers stub resolve-prefer ipv4 init-addr none
""")
haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
with subprocess.Popen([haproxy, "-db", "-f", file], stderr=subprocess.DEVNULL) as process:
    try:
        whole = wait_for(stats, (2, 2), 10)
        is_cut = True
        wait_for(stats, (1, 1), 8)
        cut = servers(stats)
    finally:
        process.kill()
print(f"servers by SRV and by A: whole answers {whole}, cut ones {cut}")
sys.exit(0 if whole == (2, 2) and cut == (1, 2) else "this has changed")
EOF2
