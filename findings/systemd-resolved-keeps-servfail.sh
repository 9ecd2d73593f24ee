#!/bin/sh
# systemd-resolved repeats a SERVFAIL for 10 s without asking again, however short all TTLs are.
#
# Software: systemd-resolved 252 (Debian 12, 252.39). Takes root: it listens at 127.0.0.53.
#
# RFC 2308 section 7 makes the cache of a failure optional, and one expects a second, as in BIND. A
# service that fails over in one second, and answers SERVFAIL meanwhile, is gone for eleven: the
# failure is kept although the same server is up, answers by TTL 1, and would be right at once. There
# is no option for it but Cache=no, which is for all names; resolvectl flush-caches ends it.
# Seen: SERVFAIL for 10.0 s; meanwhile the server was asked 0 times.
# The cure on the side of the server: no answer until there is one. Nothing is remembered of silence.
set -eu
version=$(dpkg-query -W -f '${Version}' systemd-resolved)
echo "systemd-resolved $version"
case $version in 252.*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"  # It gives its rights up before it reads.
printf '[Resolve]\nDNS=10.9.8.7:5300\nDomains=~test.example\n' >"$dir/resolved.conf"
unshare --net --mount sh -eu -s "$dir" <<'END'
mount --bind "$1" /etc/systemd
mount -t tmpfs tmpfs /run
mkdir /run/systemd
ip link set lo up
ip link add eth0 type veth peer name other
ip addr add 10.9.8.7/24 dev eth0
ip link set eth0 up
ip link set other up
cat >"$1/look.py" <<'EOF2'
import socket
import subprocess
import sys
import threading
import time

QUESTION = b"\x04name\x04test\x07example\0\0\1\0\1"
answers, asked = [2], []  # Response codes, of which the last one stays.


def serve():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("10.9.8.7", 5300))
    while True:
        query, client = server.recvfrom(1500)
        if QUESTION.lower() not in query.lower():
            rcode, records = 0, b""
        else:
            asked.append(time.monotonic())
            rcode = answers[0]
            records = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\1\2\3" if rcode == 0 else b""
        end = query.index(b"\0", 12) + 5
        head = query[:2] + bytes([0x84, rcode]) + b"\0\1\0" + bytes([bool(records)]) + b"\0\0\0\0"
        server.sendto(head + query[12:end] + records, client)


def ask():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.53", 53))
        client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION)
        return client.recv(1500)[3] & 15


threading.Thread(target=serve, daemon=True).start()
resolved = subprocess.Popen(["/lib/systemd/systemd-resolved"], stderr=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            if ask() == 2 and asked:
                break
        except OSError:
            pass
        time.sleep(0.1)
    answers[0] = 0  # From here on the server would be right.
    begun = asked[-1]
    while ask() != 0 and time.monotonic() < begun + 20:
        time.sleep(0.05)
    took = time.monotonic() - begun
    meanwhile = sum(begun < moment < begun + took - 0.5 for moment in asked)
    print(f"SERVFAIL for {took:.1f} s; meanwhile the server was asked {meanwhile} times")
    sys.exit(0 if 9 < took < 12 and not meanwhile else "this has changed")
finally:
    resolved.kill()
EOF2
python3 "$1/look.py"
END
