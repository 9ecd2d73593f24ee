#!/bin/sh
# dnsmasq sends all questions for a domain to the server that was good last, though it is silent.
#
# Software: dnsmasq 2.90 (Debian 12).
#
# "By default, dnsmasq will send queries to any of the upstream servers it knows about and tries to
# favour servers that are known to be up" (its manual). So of three with `server=/domain/...` one
# expects another to be asked soon after one falls silent. But what counts as failed is only a
# question that the same client repeats from the same port, and clients that open a socket for each
# question never do. Up to 2.85 all servers of a domain were asked at once.
# Seen: one of three servers silent, a new question every half second: none of 60 answered in 30 s, all
# of them sent to the silent server alone. With all-servers: all 60 answered.
# The cure: all-servers.
set -eu
version=$(dpkg-query -W -f '${Version}' dnsmasq-base)
echo "dnsmasq $version"
case $version in 2.90-*) ;; *) echo "not the version this was seen with" >&2; exit 1 ;; esac
python3 - <<'EOF2'
import getpass
import shutil
import socket
import subprocess
import sys
import threading
import time

QUESTION = b"\x04name\x04test\x07example\0\0\1\0\1"


class Server:
    def __init__(self):
        self.is_silent, self.asked = False, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(1500)
            self.asked += 1
            if self.is_silent:
                continue
            end = query.index(b"\0", 12) + 5
            record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\1\2\3"
            reply = query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + query[12:end] + record
            self.socket.sendto(reply, client)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def is_answered(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.4)
        client.connect(("127.0.0.1", port))
        try:
            client.send(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + QUESTION)
            return client.recv(1500)[3] & 15 == 0
        except OSError:
            return False


def outage(seconds, *options):
    """Return how many questions were answered, how many not, and what each server was asked."""
    servers, port = [Server() for _ in range(3)], free_port()
    command = [
        *(shutil.which("dnsmasq") or "/usr/sbin/dnsmasq", "--keep-in-foreground", "--pid-file="),
        *("--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1"),
        *("--bind-interfaces", "--no-resolv", "--no-hosts", f"--user={getpass.getuser()}"),
        *(f"--server=/test.example/127.0.0.1#{one.port}" for one in servers),
        *options,
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not is_answered(port):
                time.sleep(0.1)
            time.sleep(0.2)
            for one in servers:
                one.asked = 0
            is_answered(port)
            chosen = max(servers, key=lambda one: one.asked)
            chosen.is_silent = True
            for one in servers:
                one.asked = 0
            answers = []
            for _ in range(seconds * 2):
                begun = time.monotonic()
                answers.append(is_answered(port))
                time.sleep(max(0, begun + 0.5 - time.monotonic()))
            return answers.count(True), answers.count(False), [one.asked for one in servers]
        finally:
            process.kill()


good, bad, asked = outage(30)
print(f"one of three servers silent: {good} questions answered, {bad} not; asked: {asked}")
with_all = outage(5, "--all-servers")
print(f"with all-servers: {with_all[0]} questions answered, {with_all[1]} not; asked: {with_all[2]}")
is_alone = good == 0 and sorted(asked)[:2] == [0, 0]
sys.exit(0 if is_alone and with_all[1] == 0 else "this has changed")
EOF2
