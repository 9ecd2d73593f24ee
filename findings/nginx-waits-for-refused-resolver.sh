#!/bin/sh
# nginx logs at once that a resolver refuses, and then waits five seconds before it asks the next.
#
# Software: nginx 1.22.1 (Debian 12).
#
# Of several addresses in `resolver`, one expects the next to be asked when the first is down, as soon
# as that is known; and it is known at once where the port of a server that ended refuses (ICMP).
# nginx notes it in its error log, but what asks again is a timer of 5 s that cannot be set. Since
# it takes the addresses in turns, every second look-up hits the dead one of two, and with `valid=1s`
# there is a look-up each second. All requests for that name wait.
# Seen: with one of two servers gone, the log has "Connection refused" from the first moment, and the
# slower of two requests took 5.0 s.
# The cure: one address, of a resolver that does this better (dnsmasq, unbound).
set -eu
version=$(dpkg-query -W -f '${Version}' nginx)
echo "nginx $version"
case $version in 1.22.1-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'EOF2'
import http.client
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

folder = Path(sys.argv[1])
log = folder / "error.log"


def serve(server):
    while True:
        query, client = server.recvfrom(1500)
        end = query.index(b"\0", 12) + 5
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
        server.sendto(query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + query[12:end] + record, client)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def slowest():
    """Make two requests for different names, and return the seconds of the slower one."""
    took = []
    for name in ("one", "two"):
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", front, timeout=20)
        connection.request("GET", f"/{name}")
        assert connection.getresponse().status == 200
        took.append(time.monotonic() - begun)
    return max(took)


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
upstream = server.getsockname()[1]
threading.Thread(target=serve, args=(server,), daemon=True).start()
front, back, dead = free_port(), free_port(), free_port(socket.SOCK_DGRAM)
kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
places = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
file = folder / "nginx.conf"
file.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log {log}; events {{ }}
http {{
    access_log off; {places}
    resolver 127.0.0.1:{upstream} 127.0.0.1:{dead} valid=1s ipv6=off;
    server {{ listen 127.0.0.1:{back}; return 200 "fine"; }}
    server {{
        listen 127.0.0.1:{front};
        location ~ ^/(.*) {{ proxy_pass http://$1.test.example:{back}; }}
    }}
}}
""")
nginx = shutil.which("nginx") or "/usr/sbin/nginx"
command = [nginx, "-p", folder, "-e", "stderr", "-c", file]
with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", front)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        took = slowest()
    finally:
        process.kill()
refused = [line for line in log.read_text().splitlines() if "refused" in line]
print(refused[0] if refused else "nothing in the log")
print(f"one of two resolvers refuses: the slower of two requests took {took:.1f} s")
sys.exit(0 if refused and 4.5 < took < 7 else "this has changed")
EOF2
