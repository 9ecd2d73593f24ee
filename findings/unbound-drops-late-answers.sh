#!/bin/sh
# unbound throws an answer away that took longer than 1.9 s: who asked gets nothing, not even an error.
#
# Software: unbound 1.17.1 (Debian 12, with its security updates of 2024).
#
# A server of names that needs two seconds (it waits for another one, or is far away and loses
# packets) is slow, one thinks, but works: clients wait for 5 s. But where unbound has the answer
# only 1.9 s after the question or later, the client does not get it (`discard-timeout`, against
# floods by held answers). It waits for its own timeout, and asks again.
# Seen: the server answered after 2.2 s, the client had nothing after 4.0 s; with discard-timeout 5000
# it had the answer after 2.2 s.
# The cure: a higher discard-timeout, where servers may be slow.
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
SLOW_S = 2.2


def serve(server):
    while True:
        query, client = server.recvfrom(1500)
        end = query.index(b"\0", 12) + 5
        is_ours = QUESTION in query.lower()
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\1\2\3" if is_ours else b""
        head = query[:2] + b"\x84\0\0\1\0" + bytes([is_ours]) + b"\0\0\0\0"
        reply = head + query[12:end] + record
        # Its own questions, and those that unbound repeats, are each answered late.
        threading.Timer(SLOW_S if is_ours else 0, server.sendto, (reply, client)).start()


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(port, patience):
    """Return what comes back, and after how many seconds."""
    begun = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.connect(("127.0.0.1", port))
        client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION)
        try:
            said = f"response code {client.recv(1500)[3] & 15}"
        except TimeoutError:
            said = "nothing"
    return said, time.monotonic() - begun


def through_unbound(option):
    """Return what a client gets for its first question, and when."""
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
    # Longer than the server takes: it is not asked twice.
    infra-cache-min-rtt: 3000
    {option}
remote-control:
    control-enable: no
stub-zone:
    name: "test.example."
    stub-addr: 127.0.0.1@{upstream}
""")
    unbound = shutil.which("unbound") or "/usr/sbin/unbound"
    log = subprocess.DEVNULL
    with subprocess.Popen([unbound, "-d", "-c", file], stdout=log, stderr=log) as process:
        try:
            time.sleep(1)
            return ask(port, 4)
        finally:
            process.kill()


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
upstream = server.getsockname()[1]
threading.Thread(target=serve, args=(server,), daemon=True).start()
said, took = through_unbound("")
late, after = through_unbound("discard-timeout: 5000")
print(f"the server answers after {SLOW_S} s: the client got {said} in {took:.1f} s")
print(f"with discard-timeout 5000: {late} after {after:.1f} s")
sys.exit(0 if (said, late) == ("nothing", "response code 0") else "this has changed")
EOF2
