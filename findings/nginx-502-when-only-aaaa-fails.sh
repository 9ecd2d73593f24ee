#!/bin/sh
# nginx answers 502 for a name whose A record it has, when the question for AAAA fails.
#
# Software: nginx 1.22.1 (Debian 12).
#
# With a variable in proxy_pass nginx looks a name up by `resolver`, for IPv4 and IPv6 at once. Of
# the two answers one is enough, one thinks, as it is for getaddrinfo and for curl. But where one is
# addresses and the other SERVFAIL, the name counts as failed. A server of names that does not know
# AAAA well (many home routers, some load balancers) makes all requests fail, though IPv4 is all
# that anybody uses there.
# Seen: A good and AAAA SERVFAIL: 502; AAAA answered with no records: 200; with ipv6=off: 200.
# The cure: `ipv6=off` where no AAAA exist.
set -eu
version=$(dpkg-query -W -f '${Version}' nginx)
echo "nginx $version"
case $version in 1.22.1-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
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
A, SERVFAIL = 1, 2
aaaa_code = SERVFAIL


def serve(server):
    while True:
        query, client = server.recvfrom(1500)
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 3] == A
        rcode = 0 if is_a else aaaa_code
        records = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if is_a else b""
        head = query[:2] + bytes([0x84, rcode]) + b"\0\1\0" + bytes([is_a]) + b"\0\0\0\0"
        server.sendto(head + query[12:end] + records, client)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def status(options):
    """Return the status of a request through an nginx whose resolver has these options."""
    front, back = free_port(), free_port()
    file = folder / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    file.write_text(f"""
daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{ }}
http {{
    access_log off; {places}
    resolver 127.0.0.1:{upstream} {options};
    server {{ listen 127.0.0.1:{back}; return 200 "fine"; }}
    server {{
        listen 127.0.0.1:{front};
        set $name name.test.example;
        location / {{ proxy_pass http://$name:{back}; }}
    }}
}}
""")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [nginx, "-p", folder, "-e", "stderr", "-c", file]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=10)
                    connection.request("GET", "/")
                    return connection.getresponse().status
                except ConnectionRefusedError:
                    time.sleep(0.1)
        finally:
            process.kill()


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
upstream = server.getsockname()[1]
threading.Thread(target=serve, args=(server,), daemon=True).start()
failing = status("")
off = status("ipv6=off")
aaaa_code = 0
empty = status("")
print(f"A good, AAAA SERVFAIL: {failing}; AAAA without records: {empty}; ipv6=off: {off}")
sys.exit(0 if (failing, empty, off) == (502, 200, 200) else "this has changed")
EOF2
