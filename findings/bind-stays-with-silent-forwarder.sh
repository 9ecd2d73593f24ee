#!/bin/sh
# BIND asks the one silent forwarder alone for 10 s, once the others have said SERVFAIL.
#
# Software: BIND 9.18 (Debian 12).
#
# Three forwarders that know a zone; one is down, and the two others say SERVFAIL for a second, as
# they do while they elect a new leader. One expects BIND to pass the SERVFAIL on, or to ask the two
# again: they are the ones that answer. But who has said SERVFAIL is out for the rest of this
# question. What is left is the silent one, and BIND asks it again and again until 10 s are over;
# all who ask for that name meanwhile wait for the same. servfail-ttl does not change that.
# Seen: the two were right again after 1.5 s; after that BIND asked the silent one 4 times and no
# other, and gave SERVFAIL after 10.0 s.
# The cure on the side of the servers: rather no answer than an early SERVFAIL.
set -eu
version=$(dpkg-query -W -f '${Version}' bind9)
echo "bind9 $version"
case $version in 1:9.18.*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
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
GOOD, SERVFAIL, SILENT = 0, 2, None
folder = Path(sys.argv[1])


class Forwarder:
    def __init__(self):
        self.code, self.asked = GOOD, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(1500)
            self.asked.append(time.monotonic())
            if self.code is SILENT:
                continue
            end = query.index(b"\0", 12) + 5
            is_good = self.code == GOOD
            record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\1\2\3" if is_good else b""
            head = query[:2] + bytes([0x84, self.code]) + b"\0\1\0" + bytes([is_good]) + b"\0\0\0\0"
            self.socket.sendto(head + query[12:end] + record, client)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(15)
        client.connect(("127.0.0.1", port))
        client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION)
        return client.recv(1500)[3] & 15


def recover():
    for one in others:
        one.code = GOOD


forwarders = [Forwarder() for _ in range(3)]
silent, *others = forwarders
port = free_port()
addresses = " ".join(f"127.0.0.1 port {one.port};" for one in forwarders)
file = folder / "named.conf"
file.write_text(f"""
options {{
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    dnssec-validation no;
    servfail-ttl 0;
}};
controls {{ }};
zone "test.example" {{ type forward; forward only; forwarders {{ {addresses} }}; }};
""")
named = shutil.which("named") or "/usr/sbin/named"
with subprocess.Popen([named, "-g", "-n", "1", "-c", file], stderr=subprocess.DEVNULL) as process:
    try:
        for _ in range(100):
            try:
                if ask() == GOOD:
                    break
            except OSError:
                time.sleep(0.1)
        silent.code = SILENT
        for one in others:
            one.code = SERVFAIL
        for one in forwarders:
            one.asked.clear()
        begun = time.monotonic()
        threading.Timer(1.5, recover).start()
        code = ask()
        took = time.monotonic() - begun
    finally:
        process.kill()
late = [sum(moment > begun + 1.5 for moment in one.asked) for one in forwarders]
print(f"response code {code} after {took:.1f} s")
print(f"asked once two were right again: the silent one {late[0]} times, the others {late[1:]}")
is_alone = late[0] > 2 and late[1:] == [0, 0]
sys.exit(0 if code == SERVFAIL and took > 9 and is_alone else "this has changed")
EOF2
