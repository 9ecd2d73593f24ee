#!/bin/sh
# HAProxy says that a server is up at a local port where nobody listens: the check connects to itself.
#
# Software: HAProxy 2.6 (Debian 12) on Linux.
#
# A plain check (`check`, layer 4) of a port of this machine, with no listener. One expects "connection
# refused" each time. But the kernel gives each connection a port of its own from the range of outgoing
# ports, and sooner or later that is the port that is checked: then the connection meets itself (TCP's
# simultaneous open, RFC 9293 section 3.5), connect() succeeds, and the server is UP until the next check.
# The kernel goes through half of the range in turn, so it takes some 14,000 checks: at one a second,
# every four hours, for each dead server with such a port on the same machine.
# Seen: four such servers, each checked every 2 ms: after 4.0 s the first of them was UP.
# The cure: ports below the range (sysctl net.ipv4.ip_local_port_range), or to compare both ends of the
# connection, as Go's net.Dial does.
set -eu
version=$(dpkg-query -W -f '${Version}' haproxy)
echo "haproxy $version, Linux $(uname -r)"
case $version in 2.6.*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'EOF2'
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])


def outgoing():
    """Return the port that the kernel gives to a connection: one of the range, and of its parity."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        return client.getsockname()[1]


port = outgoing()
with socket.socket() as free:
    is_free = free.connect_ex(("127.0.0.1", port)) != 0
servers = "\n".join(f"  server s{n} 127.0.0.1:{port} check inter 2ms rise 1 fall 1" for n in range(4))
file = folder / "haproxy.cfg"
file.write_text(f"""
defaults
  mode tcp
  timeout connect 1s
  timeout client 1s
  timeout server 1s
frontend f
  bind {folder}/front.sock
  default_backend b
backend b
{servers}
""")
begun = time.monotonic()
log = folder / "log"
with log.open("wb") as out:
    with subprocess.Popen(["haproxy", "-db", "-f", file], stdout=out, stderr=out) as process:
        try:
            while time.monotonic() < begun + 45:
                time.sleep(0.2)
                if "is UP" in log.read_text(errors="replace"):
                    break
        finally:
            process.kill()
with socket.socket() as still:
    is_free = is_free and still.connect_ex(("127.0.0.1", port)) != 0
lines = log.read_text(errors="replace").splitlines()
up = [line for line in lines if "is UP" in line]
print(f"port {port}: nobody listens there: {is_free}")
print(f"after {time.monotonic() - begun:.1f} s: {re.sub(r'^.*Server', 'Server', up[0]) if up else 'never up'}")
sys.exit(0 if is_free and up else "this has changed")
EOF2
