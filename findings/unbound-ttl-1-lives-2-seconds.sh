#!/bin/sh
# unbound answers from its cache for up to two seconds with a record whose TTL is one second.
#
# Software: unbound 1.17.1 (Debian 12).
#
# A TTL of 1 is used for names that change when a server fails: who waits for a second and asks again
# expects the new address. unbound counts whole seconds of its clock, and a record is good while the
# second of its end is not over: fetched at x.0 it expires at x+1, and is still given until x+2 begins.
# It gives it with TTL 0 in the second second, so nobody downstream sees that it is too old.
# Seen: asked all the time, a record of TTL 1 was fetched 3 times in 6 s, and given with TTL 1 and 0.
# The cure: stub-no-cache or forward-no-cache for such a zone; with it, every question was passed on.
set -eu
version=$(dpkg-query -W -f '${Version}' unbound)
echo "unbound $version"
case $version in 1.17.1-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'EOF2'
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

QUESTION = b"\x04name\x04test\x07example\0\0\1\0\1"
folder = Path(sys.argv[1])
asked, ttls = [], set()


def serve(server):
    while True:
        query, client = server.recvfrom(1500)
        end = query.index(b"\0", 12) + 5
        is_ours = QUESTION in query.lower()
        if is_ours:
            asked.append(time.monotonic())
        records = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\1\2\3" if is_ours else b""
        head = query[:2] + b"\x84\0\0\1\0" + bytes([is_ours]) + b"\0\0\0\0"
        server.sendto(head + query[12:end] + records, client)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION)
        reply = client.recv(1500)
        ttls.add(int.from_bytes(reply[-10:-6], "big"))
        return reply[3] & 15


def fetches(no_cache):
    """Return how many questions of 5 s reached the server, and how many there were."""
    port = free_port()
    file = folder / "unbound.conf"
    file.write_text(f"""
server:
    interface: 127.0.0.1@{port}
    username: ""
    chroot: ""
    pidfile: ""
    directory: "{folder}"
    use-syslog: no
    do-not-query-localhost: no
    domain-insecure: "test.example."
remote-control:
    control-enable: no
stub-zone:
    name: "test.example."
    stub-addr: 127.0.0.1@{upstream}
    stub-no-cache: {no_cache}
""")
    unbound = shutil.which("unbound") or "/usr/sbin/unbound"
    log = subprocess.DEVNULL
    with subprocess.Popen([unbound, "-d", "-c", file], stdout=log, stderr=log) as process:
        try:
            for _ in range(100):
                try:
                    if ask(port) == 0:
                        break
                except OSError:
                    time.sleep(0.1)
            asked.clear()
            ttls.clear()
            count, end = 0, time.monotonic() + 6
            while time.monotonic() < end:
                ask(port)
                count += 1
                time.sleep(0.02)
            return len(asked), count
        finally:
            process.kill()


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
upstream = server.getsockname()[1]
threading.Thread(target=serve, args=(server,), daemon=True).start()
cached, count = fetches("no")
seen = sorted(ttls)
print(f"with its cache: {count} questions in 6 s, {cached} passed on; TTLs given: {seen}")
passed_on, all_of = fetches("yes")
print(f"with stub-no-cache: {all_of} questions in 6 s, {passed_on} passed on")
sys.exit(0 if cached in (2, 3, 4) and seen == [0, 1] and passed_on > 0.9 * all_of else "this has changed")
EOF2
